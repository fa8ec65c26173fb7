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

  expect(adjustment(have, want, initial)).toEqual({ resetAll: false, set: [['application_name', 'a']] })
})

test('what the next client does not ask for goes back to what the server reported at its login', () => {
  const have = Parameters.of([['timezone', 'UTC']])

  expect(adjustment(have, Parameters.none, initial)).toEqual({ resetAll: false, set: [['timezone', 'GMT']] })
})

test('a setting that the server does not report can only be taken back by resetting all', () => {
  const have = Parameters.of([['search_path', 'a']])
  const want = Parameters.of([['timezone', 'UTC']])

  expect(adjustment(have, want, initial)).toEqual({ resetAll: true, set: [['timezone', 'UTC']] })
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

  expect(adjustment(Parameters.none, want, initial)).toEqual({ resetAll: false, set: [] })
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
