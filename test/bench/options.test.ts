import { expect, test } from 'vitest'
import { cases, readOptions } from '../../bench/options.ts'
import { WrongUsage } from '../../cli/failure.ts'

test('without words, poolers are compared in every case, and then their memory', () => {
  expect(readOptions([])).toEqual({
    what: 'pooler',
    rounds: 5,
    seconds: 4,
    cases,
    clients: [1, 16, 64],
    idleClients: 2000,
    nodeArgs: [],
    pgbouncer: '/usr/sbin/pgbouncer',
    workers: [1],
    strict: false,
    beside: [],
  })
})

test('--only leaves out what it does not name', () => {
  expect(readOptions(['--only', 'extended'])).toMatchObject({ cases: [{ name: 'extended' }], idleClients: 0 })
  expect(readOptions(['--only', 'memory'])).toMatchObject({ cases: [], idleClients: 2000 })
})

test('garbage is counted in every case, or in those that --only names', () => {
  expect(readOptions(['garbage'])).toEqual({ what: 'garbage', cases, transactions: 1_000_000 })
  expect(readOptions(['garbage', '--only', 'simple', '--transactions', '5'])).toMatchObject({
    cases: [{ name: 'simple' }],
    transactions: 5,
  })
})

test.each([
  ['a benchmark that does not exist', ['disk']],
  ['two benchmarks', ['pooler', 'control']],
  ['a case that does not exist', ['--only', 'binary']],
  ['no rounds', ['--rounds', '0']],
  ['a half client', ['--clients', '1,2.5']],
  ['an option that does not exist', ['--fast']],
])('%s is wrong usage', (_, words) => {
  expect(() => readOptions(words)).toThrow(WrongUsage)
})
