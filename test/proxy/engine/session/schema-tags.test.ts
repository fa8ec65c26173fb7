import { expect, test } from 'vitest'
import { changesSchema } from '../../../../proxy/engine/session/schema-tags.ts'

function counts(tag: string): boolean {
  const bytes = Buffer.from(`${tag}\0`)
  return changesSchema(bytes, 0, bytes.length)
}

test.each([
  'CREATE TABLE',
  'CREATE FUNCTION',
  'ALTER TYPE',
  'DROP VIEW',
  'DO',
  'IMPORT FOREIGN SCHEMA',
  'COMMIT PREPARED',
])('%s counts as a change of the schema', (tag) => {
  expect(counts(tag)).toBe(true)
})

test.each([
  'BEGIN',
  'COMMIT',
  'ROLLBACK',
  'ROLLBACK PREPARED',
  'PREPARE TRANSACTION',
  'SET',
  'CALL',
  'COMMENT',
  'COPY',
  'DECLARE CURSOR',
  'DEALLOCATE',
  'DISCARD ALL',
  'INSERT',
  'CREATE_REPLICATION_SLOT',
])('%s does not', (tag) => {
  expect(counts(tag)).toBe(false)
})
