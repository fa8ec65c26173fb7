import { expect, test } from 'vitest'
import { adjustment, foreseenReport, Parameters } from '../../../../proxy/engine/session/parameters.ts'

const initial = new Map([
  ['timezone', 'GMT'],
  ['application_name', ''],
])

test('sets are equal whatever the order and the case of the names', () => {
  const one = Parameters.of([
    ['TimeZone', 'UTC'],
    ['application_name', 'a'],
  ])
  const other = Parameters.of([
    ['Application_Name', 'a'],
    ['timezone', 'UTC'],
  ])

  expect(one.key).toBe(other.key)
})

test('only what differs is set', () => {
  const have = Parameters.of([['timezone', 'UTC']])
  const want = Parameters.of([
    ['timezone', 'UTC'],
    ['application_name', 'a'],
  ])

  expect(adjustment(have, want, initial)).toMatchObject({ resetAll: false, set: [['application_name', 'a']] })
})

test('what the next client does not ask for goes back to what the server reported at its login', () => {
  const have = Parameters.of([['timezone', 'UTC']])

  expect(adjustment(have, Parameters.none, initial)).toMatchObject({ resetAll: false, set: [['timezone', 'GMT']] })
})

test('what the server does not report is reset alone', () => {
  const have = Parameters.of([['search_path', 'a']])
  const want = Parameters.of([['timezone', 'UTC']])

  expect(adjustment(have, want, initial)).toEqual({
    resetAll: false,
    first: [],
    set: [
      ['search_path', null],
      ['timezone', 'UTC'],
    ],
  })
})

test('roles and what may cancel a statement are taken away first, and are set last', () => {
  const have = Parameters.of([
    ['role', 'a'],
    ['statement_timeout', '1ms'],
    ['session_authorization', 'b'],
    ['jit', 'on'],
  ])
  const want = Parameters.of([
    ['role', 'a'],
    ['session_authorization', 'c'],
    ['statement_timeout', '1ms'],
    ['work_mem', '1MB'],
  ])

  expect(adjustment(have, want, initial)).toEqual({
    resetAll: false,
    first: ['jit', 'role', 'session_authorization', 'statement_timeout'],
    set: [
      ['work_mem', '1MB'],
      ['statement_timeout', '1ms'],
      ['session_authorization', 'c'],
      ['role', 'a'],
    ],
  })
})

test('equal sets are one object, and a set without a parameter is the one that never had it', () => {
  const one = Parameters.none.with('a', '1').with('B', '2')

  expect(one).toBe(Parameters.none.with('b', '2').with('a', '1'))
  expect(one.with('a', null).with('b', null)).toBe(Parameters.none)
  expect(Parameters.unknown.with('a', '1')).toBe(Parameters.unknown)
})

test('only what may change the meaning of a text is part of it', () => {
  const neutral = Parameters.of([
    ['work_mem', '1MB'],
    ['app.tenant', '1'],
    ['statement_timeout', '1s'],
  ])

  expect(neutral.meaning).toBe(Parameters.none.meaning)
  for (const name of ['search_path', 'role', 'datestyle', 'client_encoding', 'standard_conforming_strings']) {
    expect(neutral.with(name, 'x').meaning).not.toBe(neutral.meaning)
  }
})

test('from an unknown session every client is reached by a reset', () => {
  expect(adjustment(Parameters.unknown, Parameters.none, initial).resetAll).toBe(true)
})

const reported = new Map([
  ['TimeZone', 'GMT'],
  ['application_name', ''],
  ['client_encoding', 'UTF8'],
])

test('what a client asks for and the server has anyway needs no round trip', () => {
  const want = Parameters.of([['timezone', 'GMT']])

  expect(adjustment(Parameters.none, want, initial)).toEqual({ resetAll: false, first: [], set: [] })
})

test('the report of a plain application_name can be foreseen without asking a server', () => {
  const asked = Parameters.of([
    ['client_encoding', 'UTF8'],
    ['application_name', 'psql'],
  ])

  expect(foreseenReport(reported, asked)).toEqual(new Map([...reported, ['application_name', 'psql']]))
})

test.each([
  ['a value that may be spelled differently', 'timezone', 'utc'],
  ['a name that PostgreSQL would change', 'application_name', 'é'],
  ['a parameter that is not reported', 'search_path', 'a'],
])('%s is left to a server', (_, name, value) => {
  expect(foreseenReport(reported, Parameters.of([[name, value]]))).toBeNull()
})
