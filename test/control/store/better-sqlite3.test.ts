import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openSqlite } from '../../../control/store/better-sqlite3.ts'
import { StoreUnusable } from '../../../control/store/port.ts'
import type { SqlPort } from '../../../control/store/port.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { storePortConforms } from './conformance.ts'

const folder = await tempFolder()

async function open(name: string): Promise<SqlPort> {
  const port = openSqlite(join(folder, `${name}.db`))
  atEndOfFile(() => port.close())
  return port
}

describe('the better-sqlite3 driver:', () => {
  storePortConforms(open)
})

test('a database that is opened again still waits for the disk at every write', async () => {
  const first = await open('pragmas')
  await first.write([{ sql: 'CREATE TABLE t (x INTEGER)', params: [] }])
  await first.close()

  const again = await open('pragmas')

  expect(await again.read({ sql: 'PRAGMA journal_mode', params: [] })).toEqual([['wal']])
  // 2 is FULL.
  expect(await again.read({ sql: 'PRAGMA synchronous', params: [] })).toEqual([[2]])
  expect(await again.read({ sql: 'PRAGMA foreign_keys', params: [] })).toEqual([[1]])
})

test('a file that is no database is refused with its name', () => {
  const path = join(folder, 'text.db')
  writeFileSync(path, 'this is not a database, but long enough to be looked at as one '.repeat(100))

  expect(() => openSqlite(path)).toThrow(StoreUnusable)
  expect(() => openSqlite(path)).toThrow(path)
})
