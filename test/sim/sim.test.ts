import { expect, test } from 'vitest'
import { freshSeeds } from './fresh-seeds.ts'
import { Seeds } from './seeds.ts'
import { faultNames } from './faults.ts'
import { World } from './world.ts'

const seeds = new Seeds((seed) => new World(seed))

seeds.test('worlds', 'keep every invariant and leave no client waiting', {
  first: 0,
  count: 2000,
  perTest: 100,
  timeout: 60_000,
})

test('these worlds cover every fault and every cause by which a server is closed', () => {
  const causes = [
    'auth_failed',
    'client_gone',
    'closed',
    'connect_refused',
    'connect_timeout',
    'drained',
    'idle',
    'keepalive_timeout',
    'lifetime',
    'reset',
    'shutdown',
    'terminated',
    'unreachable',
    'user_timeout',
  ]
  const expected = [
    ...faultNames.map((name) => `fault ${name}`),
    ...causes.map((cause) => `closed ${cause}`),
    'lost reset while idle in transaction',
    'lost user_timeout while active',
    'lost keepalive_timeout while idle',
    'a query was canceled',
    'a client got the NOTICE that it waits',
    'the reserve pool was used',
    'closed admin',
    'closed evicted',
    'fatal 53300',
    'fatal 57P01',
  ]

  expect(expected.filter((fact) => !seeds.seen.has(fact))).toEqual([])
})

// Separate, because the fixed seeds alone must cover everything above.
new Seeds((seed) => new World(seed)).testFresh('worlds', 'keep every invariant and leave no client waiting', {
  count: freshSeeds,
  perTest: 100,
  timeout: 60_000,
})
