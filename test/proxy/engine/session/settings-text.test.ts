import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { settingsChangedBy } from '../../../../proxy/engine/session/settings-text.ts'

interface Read {
  readonly names?: readonly string[]
  readonly resets?: readonly string[]
  readonly all?: true
  readonly unknown?: true
  readonly custom?: readonly string[]
  readonly plain?: number
}

function read(sql: string): Read | null {
  const change = settingsChangedBy(sql)
  if (change === null) return null
  const { names, resets, resetsAll, unknown, custom, text, sets } = change
  return {
    ...(names.size > 0 && { names: [...names] }),
    ...(resets.size > 0 && { resets: [...resets] }),
    ...(resetsAll && { all: true as const }),
    ...(unknown && { unknown: true as const }),
    ...(custom.size > 0 && { custom: [...custom] }),
    ...(text !== null && { plain: sets }),
  }
}

const characteristics = [
  'default_transaction_isolation',
  'default_transaction_read_only',
  'default_transaction_deferrable',
]

test.for<readonly [string, Read | null]>([
  ['SET work_mem = 1', { names: ['work_mem'], plain: 1 }],
  ['set session Work_Mem to 1;', { names: ['work_mem'], plain: 1 }],
  ['SET "Work_Mem" = 1', { names: ['work_mem'], plain: 1 }],
  ['SET a.b = 1; SET c.d.e = 2', { names: ['a.b', 'c.d.e'], custom: ['a.b', 'c.d.e'], plain: 2 }],
  ['SET LOCAL work_mem = 1', {}],
  ["SELECT set_config('a', NULL, false)", { names: ['a'], resets: ['a'] }],
  ['SET LOCAL a.b = 1', { custom: ['a.b'] }],
  ['SET local = 1', { names: ['local'], plain: 1 }],
  ['SET TRANSACTION READ ONLY', {}],
  ['SET transaction_isolation = serializable', { plain: 1 }],
  ['SET CONSTRAINTS ALL DEFERRED', {}],
  ["SET TIME ZONE 'UTC'", { names: ['timezone'], plain: 1 }],
  ['SET TIME ZONE DEFAULT', { names: ['timezone'], resets: ['timezone'] }],
  ['SET NAMES utf8', { names: ['client_encoding'], plain: 1 }],
  ["SET SCHEMA 's'", { names: ['search_path'], plain: 1 }],
  ['SET ROLE alice', { names: ['role'], plain: 1 }],
  ['SET SESSION ROLE alice', { names: ['role'], plain: 1 }],
  ['SET LOCAL ROLE alice', {}],
  ['SET SESSION AUTHORIZATION alice', { names: ['session_authorization', 'role'], plain: 1 }],
  ['SET LOCAL SESSION AUTHORIZATION alice', {}],
  ['SET SESSION SESSION AUTHORIZATION alice', { names: ['session_authorization', 'role'], plain: 1 }],
  ['SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', { names: characteristics, plain: 1 }],
  ['SET XML OPTION DOCUMENT', { names: ['xmloption'], plain: 1 }],
  ['RESET work_mem', { names: ['work_mem'], resets: ['work_mem'] }],
  ['RESET TIME ZONE', { names: ['timezone'], resets: ['timezone'] }],
  ['RESET ALL', { all: true }],
  ['DISCARD ALL', { names: ['session_authorization', 'role'], resets: ['session_authorization', 'role'], all: true }],
  ['DISCARD TEMP', null],
  ['RESET a; SET a = 1', { names: ['a'] }],
  ['SET a = 1; RESET a', { names: ['a'], resets: ['a'] }],
  ['UPDATE t SET a = 1', null],
  ['SELECT 1; UPDATE t SET a = 1', null],
  ["SELECT 'SET a = 1; SET b = 2'", null],
  ['SELECT $$; SET a = 1 $$', null],
  ['SELECT 1 AS "; SET a = 1"', null],
  ['SELECT 1 -- ; SET a = 1', null],
  ['SELECT 1 /* /* */ ; SET a = 1 */', null],
  ["SELECT E'\\'; SET a = 1'", null],
  ["SELECT '\\'; SET a = 1", { unknown: true }],
  ["SELECT set_config('a.b', 'c', false)", { names: ['a.b'], custom: ['a.b'] }],
  ["SELECT pg_catalog.set_config('search_path', '', false);", { names: ['search_path'] }],
  ["SELECT set_config('a.b', 'c', true)", { custom: ['a.b'] }],
  ["SELECT set_config('a.b', (SELECT max(x) FROM t), true)", { custom: ['a.b'] }],
  ["SELECT set_config('a.b', 'c', $1)", { names: ['a.b'], custom: ['a.b'] }],
  ["SELECT set_config($1, 'c', false)", { unknown: true }],
  ["SELECT set_config('a' || 'b', 'c', false)", { unknown: true }],
  ["DO $$ BEGIN SET work_mem = 1; PERFORM set_config('a', 'b', false); END $$", { names: ['work_mem', 'a'] }],
  ["DO $$ BEGIN EXECUTE 'SET ' || x; END $$", { unknown: true }],
  ['DO $$ BEGIN PERFORM f(); END $$', null],
  ['SET größe = 1', { unknown: true }],
  ['BEGIN; SET a = 1; COMMIT', { names: ['a'] }],
])('%s changes %j', ([sql, expected]) => {
  expect(read(sql)).toEqual(expected)
})

test('a literal is kept, the last one of a name', () => {
  const literals = settingsChangedBy('SET a = 1.23456789; SET b TO -2; SET c = 1, 2; SET a = 3.5; SET b = f')?.literals

  expect([...(literals ?? [])]).toEqual([
    ['a', '3.5'],
    ['b', 'f'],
  ])
})

describe('any text', () => {
  const quoted = fc.string({ maxLength: 12 }).map((text) => text.replaceAll(/[\\\0]/g, ''))
  const harmless = fc.oneof(
    quoted.map((text) => `SELECT '${text.replaceAll("'", "''")}'`),
    quoted.map((text) => `SELECT 1 AS "${text.replaceAll('"', '""')}x"`),
    quoted.map((text) => `SELECT $q$${text.replaceAll('$', '')}$q$`),
    quoted.map((text) => `SELECT 1 /*${text.replaceAll(/[*/]/g, '')}*/`),
    quoted.map((text) => `SELECT 1 --${text.replaceAll(/[\r\n]/g, '')}\n`),
    fc.constantFrom('BEGIN', 'COMMIT', 'SET LOCAL x = 1', "SELECT '; SET y = 1;'", 'SELECT $$; SET y = 1; $$'),
  )
  const name = fc.constantFrom('work_mem', 'a.b', 'statement_timeout', 'DateStyle')
  const sets = fc.tuple(name, fc.constantFrom('SET ', 'set session ', 'RESET '), quoted).map(([name, verb, text]) => ({
    name: name.toLowerCase(),
    sql: verb === 'RESET ' ? verb + name : `${verb}${name} = '${text.replaceAll("'", "''")}'`,
  }))

  test('names exactly what its statements set', () => {
    const statements = fc.array(
      fc.oneof(
        harmless.map((sql) => ({ sql, name: null })),
        sets,
      ),
      { maxLength: 6 },
    )

    fc.assert(
      fc.property(statements, (all) => {
        const names = new Set(all.flatMap((one) => (one.name === null ? [] : [one.name])))
        const change = settingsChangedBy(all.map(({ sql }) => sql).join(';'))

        expect([...(change?.names ?? [])].toSorted()).toEqual([...names].toSorted())
        expect(change?.unknown ?? false).toBe(false)
      }),
      { numRuns: 3000 },
    )
  })

  test('is read to its end, whatever it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...`'"$;/*-\\eE set_config(,)=a1`.split('')) }), (sql) => {
        settingsChangedBy(`SET ${sql}`)
      }),
      { numRuns: 3000 },
    )
  })
})
