import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  anything,
  foundBy,
  maySet,
  probeOf,
  reasonsOf,
  signsOfTag,
  signsOfText,
} from '../../../../proxy/engine/session/session-state.ts'
import type { Signs } from '../../../../proxy/engine/session/session-state.ts'

function signsOf(tag: string): Signs | null {
  const bytes = Buffer.from(`${tag}\0`)
  return signsOfTag(bytes, 0, bytes.length)
}

function signsIn(sql: string): Signs | null {
  // Bytes around the text must not count.
  const bytes = Buffer.from(`set_config${sql}create temp`)
  return signsOfText(bytes, 10, bytes.length - 11)
}

/** [begun, ended] as operators read them, and whether a setting was or may be changed. */
function read(signs: Signs | null): readonly [string, string, boolean] | null {
  if (signs === null) return null
  const { begun, ended, set, change } = signs
  return [reasonsOf(begun), reasonsOf(ended), set || (change !== null && (change.unknown || change.names.size > 0))]
}

describe('the tag of a command', () => {
  test.for([
    ['LISTEN', ['listen', '', false]],
    ['UNLISTEN', ['', 'listen', false]],
    ['PREPARE', ['prepare', '', false]],
    ['DEALLOCATE', ['', 'prepare', false]],
    ['DEALLOCATE ALL', ['', 'prepare', false]],
    ['DECLARE CURSOR', ['hold_cursor', '', false]],
    ['CLOSE CURSOR', ['', 'hold_cursor', false]],
    ['CREATE TABLE', ['temporary_table', '', false]],
    ['DROP TABLE', ['', 'temporary_table', false]],
    ['ALTER TABLE', ['', 'temporary_table', false]],
    ['SET', ['', '', true]],
    ['RESET', ['', '', true]],
    ['SET CONSTRAINTS', ['', '', false]],
    ['PREPARE TRANSACTION', ['', '', false]],
    ['DISCARD ALL', ['', 'listen, advisory_lock, temporary_table, hold_cursor, prepare, settings', true]],
    ['DISCARD TEMP', ['', 'listen, advisory_lock, temporary_table, hold_cursor, prepare', false]],
  ] as const)('%s tells what may have begun, ended or been set: %j', ([tag, expected]) => {
    expect(read(signsOf(tag))).toEqual(expected)
  })

  test.for(['BEGIN', 'COMMIT', 'ROLLBACK', 'COMMENT', 'SAVEPOINT', 'TRUNCATE TABLE', 'NOTIFY', 'VACUUM', 'COPY 3', ''])(
    '"%s" leaves nothing in the session',
    (tag) => {
      expect(signsOf(tag)).toBeNull()
    },
  )

  test('of an unwatched session anything may be kept and set', () => {
    expect(read(anything)).toEqual(['listen, advisory_lock, temporary_table, hold_cursor, prepare', '', true])
  })
})

describe('the text of a request', () => {
  test.for([
    ['SELECT pg_advisory_lock(1)', ['advisory_lock', '', false]],
    ['select PG_TRY_ADVISORY_LOCK_SHARED(1)', ['advisory_lock', '', false]],
    ['SELECT pg_advisory_unlock(1)', ['', 'advisory_lock', false]],
    ['SELECT pg_advisory_unlock_all()', ['', 'advisory_lock', false]],
    ['SELECT 1 INTO TEMP t', ['temporary_table', '', false]],
    ['Create Temporary TABLE t AS SELECT 1', ['temporary_table', '', false]],
    [`SELECT set_config('a.b', 'c', false)`, ['', '', true]],
    [`SELECT set_config('a.b', 'c', true)`, ['', '', false]],
    [`SELECT set_config('a.b', 'it''s', 't')`, ['', '', false]],
    [`SELECT set_config('a.b', 'c', true), set_config('a.b', 'd', false)`, ['', '', true]],
    [`SELECT set_config('a.b', 'c', $1)`, ['', '', true]],
    [`SELECT set_config('a.b', f(1), true)`, ['', '', false]],
    [`SELECT set_config('a.b', E'\\'', true)`, ['', '', false]],
    [`SELECT set_config('a.b', 'c', /* not */ true)`, ['', '', false]],
  ] as const)('%s shows %j', ([sql, expected]) => {
    expect(read(signsIn(sql))).toEqual(expected)
  })

  test('any text is searched as a regular expression would search it', () => {
    const words = ['advisory_lock', 'advisory_unlock', 'into temp', 'create temp']
    const fragments = fc.oneof(
      fc.constantFrom(...words, ...words.map((word) => word.toUpperCase())),
      fc.constantFrom(...words).chain((word) => fc.nat(word.length).map((at) => word.slice(at))),
      fc.constantFrom(...words).chain((word) => fc.nat(word.length).map((at) => word.slice(0, at))),
      fc.string({ maxLength: 4 }),
    )
    const texts = fc.array(fragments, { maxLength: 6 }).map((parts) => parts.join('').replaceAll('\0', ''))

    fc.assert(
      fc.property(texts, (sql) => {
        const hasWord = /advisory_lock|advisory_unlock|into temp|create temp/.test(asciiLower(sql))
        expect(signsIn(sql) !== null).toBe(hasWord)
      }),
      { numRuns: 2000 },
    )
  })
})

/** Not of letters like U+212A, the Kelvin sign, which `toLowerCase` turns into "k". */
function asciiLower(text: string): string {
  return text.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())
}

describe('a probe', () => {
  test('has a column for each bit in doubt, and finds those that are true', () => {
    const all = anything.begun
    const bits = [1, 2, 4, 8, 16]

    fc.assert(
      fc.property(fc.subarray(bits, { minLength: 1 }), fc.subarray(bits), (asked, kept) => {
        const mask = sum(asked)
        const answers = asked.map((bit) => kept.includes(bit))
        const columns = answers.flatMap((isKept) => [0, 0, 0, 1, (isKept ? 't' : 'f').charCodeAt(0)])
        const row = Buffer.from([0xff, 0, asked.length, ...columns])

        expect(probeOf(mask).match(/EXISTS/g)).toHaveLength(asked.length)
        expect(foundBy(mask, row, 1)).toBe(sum(asked.filter((bit) => kept.includes(bit))))
        expect(all & mask).toBe(mask)
      }),
    )
  })

  test('is written so that no search path of a client changes its meaning', () => {
    const names = probeOf(anything.begun)
      .replaceAll(/'[^']*'/g, '')
      .matchAll(/(?<![\w.])(?:pg_\w+)(?!\.)\b/g)

    expect([...names].map(([name]) => name)).toEqual([])
  })
})

function sum(bits: readonly number[]): number {
  return bits.reduce((total, bit) => total | bit, 0)
}

describe('the beginning of a text', () => {
  test.for([
    ['SET a = 1', true],
    ['set a = 1', true],
    [' SET a = 1', true],
    ['\nSET a = 1', true],
    ['/* one */ -- two\n SET a = 1', true],
    ['RESET a', true],
    ['DISCARD ALL', true],
    ['DO $$ $$', true],
    ['BEGIN; SET a = 1', true],
    ['begin;set a=1', true],
    ['SELECT 1; SET a = 1', true],
    ['BEGIN', false],
    ['BEGIN;', false],
    ['SELECT 1', false],
    ['SELECT 1;', false],
    [' SELECT 1', false],
    ['/* SET */ SELECT 1', false],
    ['ROLLBACK', false],
    ['DELETE FROM t', false],
    ['INSERT INTO t VALUES (1)', false],
  ] as const)('%j may be of a SET: %s', ([sql, expected]) => {
    const bytes = Buffer.from(`x${sql}\0`)

    expect(maySet(bytes, 1, bytes.length, true)).toBe(expected)
  })
})

describe('texts of several statements', () => {
  const filler = fc.string({
    unit: fc.constantFrom('a', 'd', 'T', '_', ' ', ';', '.', '9', 'é', '\u007f'),
    maxLength: 40,
  })

  test('a second statement is one after a semicolon that is not the last character', () => {
    fc.assert(
      fc.property(fc.nat({ max: 9 }), filler, (offset, rest) => {
        const sql = `SELECT ${rest}`
        const bytes = Buffer.from(`${';'.repeat(offset)}${sql}\0;;;;;;;;`)
        const end = bytes.length - 8
        expect(maySet(bytes, offset, end, true)).toBe(sql.slice(0, -1).includes(';'))
      }),
      { numRuns: 500 },
    )
  })
})
