import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  anything,
  foundBy,
  harmlessSets,
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

/** [begun, ended, settings] as operators read them. */
function read(signs: Signs | null): readonly [string, string, boolean] | null {
  return signs === null ? null : [reasonsOf(signs.begun), reasonsOf(signs.ended), signs.settings]
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
    ['DISCARD ALL', ['', 'listen, advisory_lock, temporary_table, hold_cursor, prepare', true]],
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
    [`SELECT set_config('a.b', f(1), true)`, ['', '', true]],
    [`SELECT set_config('a.b', E'\\'', true)`, ['', '', true]],
    [`SELECT set_config('a.b', 'c', /* not */ true)`, ['', '', true]],
  ] as const)('%s shows %j', ([sql, expected]) => {
    expect(read(signsIn(sql))).toEqual(expected)
  })

  test('any text is searched as a regular expression would search it', () => {
    const words = ['advisory_lock', 'advisory_unlock', 'set_config', 'into temp', 'create temp']
    const fragments = fc.oneof(
      fc.constantFrom(...words, ...words.map((word) => word.toUpperCase())),
      fc.constantFrom(...words).chain((word) => fc.nat(word.length).map((at) => word.slice(at))),
      fc.constantFrom(...words).chain((word) => fc.nat(word.length).map((at) => word.slice(0, at))),
      fc.string({ maxLength: 4 }),
    )
    const texts = fc.array(fragments, { maxLength: 6 }).map((parts) => parts.join('').replaceAll('\0', ''))

    fc.assert(
      fc.property(texts, (sql) => {
        const hasWord = /sory_lock|ry_unlock|et_config|into temp|eate temp/.test(asciiLower(sql))
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

describe('SET in a simple query', () => {
  test.for([
    ['SET a = 1', true],
    ['set a = 1', true],
    [' SET a = 1', true],
    ['\nSET a = 1', true],
    ['BEGIN; SET a = 1', true],
    ['begin;set a=1', true],
    ['BEGIN', false],
    ['BEGIN;', false],
    ['SELECT 1', false],
    ['INSERT INTO t VALUES (1)', false],
  ] as const)('%j may contain one: %s', ([sql, expected]) => {
    const bytes = Buffer.from(`x${sql}\0`)

    expect(maySet(bytes, 1, bytes.length)).toBe(expected)
  })

  const followed = (name: string): boolean => ['client_encoding', 'timezone', 'datestyle'].includes(name)

  test.for([
    ['SET client_encoding = utf8', [true]],
    ['SET SESSION DateStyle TO iso', [true]],
    ["SET NAMES 'utf8'", [true]],
    ["SET TIME  ZONE 'UTC'", [true]],
    ['SET search_path = a', [false]],
    ['SET LOCAL search_path = a', [true]],
    ['SET TRANSACTION READ ONLY', [true]],
    ['SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', [false]],
    ['SET SESSION AUTHORIZATION a', [false]],
    ['SET ROLE a', [false]],
    ['SET CONSTRAINTS ALL DEFERRED', []],
    ['UPDATE t SET a = 1', []],
    ['SELECT 1', []],
  ] as const)('%s is judged as %j', ([sql, expected]) => {
    expect(harmlessSets(sql, followed)).toEqual(expected)
  })

  const sets = fc.constantFrom<readonly [string, boolean]>(
    ['SET client_encoding = utf8', true],
    ['set session datestyle to iso', true],
    ['SET LOCAL a.b = 1', true],
    ['\n\tSeT a.b = 1', false],
    ['SET "a.b" = 1', false],
    ['SET "client_encoding" = utf8', false],
    ['SET search_path TO a, b', false],
  )
  const literal = fc.string({ maxLength: 8 }).map((text) => `'${text.replaceAll("'", "''")}'`)
  const identifier = fc.string({ minLength: 1, maxLength: 8 }).map((text) => `"${text.replaceAll('"', '""')}"`)
  const tricky = fc.constantFrom(
    `SELECT '; SET a.b = 1; '`,
    `SELECT 1 AS "; SET client_encoding = utf8;"`,
    `SELECT 'it''s; SET datestyle = iso'`,
    `SELECT 1 AS "it's"`,
    `SELECT '"'`,
    `SELECT ''`,
    'SELECT 1 -- ; SET datestyle = iso',
    'SELECT 1 /* ; SET datestyle = iso; */',
    'SELECT $a$; SET datestyle = iso; $a$',
    `SELECT E'\\'; SET datestyle = iso; '`,
    'BEGIN',
    'COMMIT',
    '',
  )
  const others = fc.oneof(
    tricky,
    literal.map((text) => `SELECT ${text}`),
    identifier.map((name) => `SELECT 1 AS ${name}`),
  )
  const statements = fc.array(
    fc.oneof(
      sets.map(([sql, harmless]) => ({ sql, sets: [harmless] })),
      others.map((sql) => ({ sql, sets: [] })),
    ),
    { maxLength: 6 },
  )

  test('any query is judged SET by SET, or not at all', () => {
    let judged = 0

    fc.assert(
      fc.property(statements, (all) => {
        const found = harmlessSets(all.map(({ sql }) => sql).join(';'), followed)
        const expected = all.flatMap((one) => one.sets)

        if (found.length === 0) return
        judged++
        expect(found).toEqual(expected)
      }),
      { numRuns: 2000 },
    )

    expect(judged).toBeGreaterThan(500)
  })
})
