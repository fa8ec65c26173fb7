import { expect, test } from 'vitest'
import { Learning } from '../../../../proxy/engine/session/learning.ts'
import type { Learned } from '../../../../proxy/engine/session/learning.ts'
import { Parameters } from '../../../../proxy/engine/session/parameters.ts'
import { settingsChangedBy } from '../../../../proxy/engine/session/settings-text.ts'
import type { SettingsChange } from '../../../../proxy/engine/session/settings-text.ts'

interface Given {
  readonly before?: Parameters
  readonly startup?: Parameters
  readonly certain?: boolean
}

/** What is learned when the server answers with these rows. */
function learn(sql: string, rows: readonly (readonly (string | null)[])[], given: Given = {}): Learned | null {
  const { before = Parameters.none, startup = Parameters.none, certain = true } = given
  const change = settingsChangedBy(sql) as SettingsChange
  const learning = new Learning({ before, startup, certain, change, serverUser: 'app', follows: () => false })
  for (const row of rows) learning.row(dataRow(row), 0)
  return learning.outcome
}

function dataRow(columns: readonly (string | null)[]): Buffer {
  const parts = columns.map((column) => {
    const bytes = Buffer.from(column ?? '')
    const length = Buffer.alloc(4)
    length.writeInt32BE(column === null ? -1 : bytes.length)
    return Buffer.concat([length, bytes])
  })
  return Buffer.concat([Buffer.from([0, columns.length]), ...parts])
}

const valuesOf = (learned: Learned | null): unknown => (learned === null ? null : [...learned.client.values])

test('a value is what the server shows', () => {
  expect(valuesOf(learn("SET work_mem = '7000kB'", [['7000kB']]))).toEqual([['work_mem', '7000kB']])
})

test.for([
  ['all of its digits are shown', 'SET random_page_cost = 1.5', '1.5', '1.5'],
  ['the text has a literal', 'SET random_page_cost = 1.23456789', '1.23457', '1.23456789'],
  ['the client had it before', 'SET random_page_cost = 1.5', '2.34568', '2.3456789'],
  ['nothing tells its further digits', 'SET random_page_cost = 1.5', '9.87654', null],
] as const)('a floating-point number: %s', ([, sql, shown, expected]) => {
  const before = Parameters.of([['random_page_cost', '2.3456789']])
  const learned = learn(sql, [['0'], ['on'], [shown, 'random_page_cost']], { before, certain: false })

  expect(valuesOf(learned)).toEqual(expected === null ? null : [['random_page_cost', expected]])
})

test('what was not kept is what the client began with', () => {
  const startup = Parameters.of([['work_mem', '3MB']])
  const learned = learn("SET work_mem = '7MB'", [['0'], ['on'], ['4MB', '']], { startup, certain: false })

  expect(learned).toMatchObject({ client: startup, server: Parameters.none })
})

test.for([
  ['SET ROLE alice', 'alice', [['role', 'alice']]],
  ['SET ROLE NONE', 'none', []],
] as const)('after %s the role is %s', ([sql, shown, expected]) => {
  expect(valuesOf(learn(sql, [[shown]]))).toEqual(expected)
})

test('a role that the client began with is not its role after SET ROLE NONE', () => {
  const startup = Parameters.of([['role', 'alice']])

  expect(valuesOf(learn('SET ROLE NONE', [['none']], { before: startup, startup }))).toEqual([['role', 'none']])
})

test('a timeout is read before the question puts it out of effect', () => {
  const learned = learn('SET statement_timeout = 7', [['7ms'], ['on'], ['0']])

  expect(valuesOf(learned)).toEqual([['statement_timeout', '7ms']])
})

test('idle_session_timeout is no setting of a server', () => {
  const learned = learn("SET idle_session_timeout = '2s'", [['2s']])

  expect([valuesOf(learned), learned?.idleTimeoutMs]).toEqual([[], 2000])
})
