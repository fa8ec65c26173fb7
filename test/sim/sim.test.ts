import { expect, test } from 'vitest'

import { SimulationFailure } from './court.ts'
import { happeningNames } from './storm.ts'
import { World } from './world.ts'

/** Worlds in all, and in each test, so that the report shows progress. */
const worlds = 2000
const worldsPerTest = 100

/** What happened in any of the worlds so far. */
const seen = new Set<string>()

function failureOf(seed: number): string | null {
  const world = new World(seed)
  try {
    world.run()
    return null
  } catch (error) {
    if (error instanceof SimulationFailure) return `${error.message}\nreplay: npm run sim -- --seed ${seed} --verbose`
    throw error
  } finally {
    for (const fact of world.seen) seen.add(fact)
  }
}

for (let first = 0; first < worlds; first += worldsPerTest) {
  const last = first + worldsPerTest - 1
  test(`worlds ${first} to ${last} keep every invariant and leave nobody waiting`, { timeout: 60_000 }, () => {
    const failures: string[] = []
    for (let seed = first; seed <= last; seed++) {
      const failure = failureOf(seed)
      if (failure !== null) failures.push(failure)
    }

    expect(failures).toEqual([])
  })
}

test('in these worlds everything that may happen has happened, and every end of a server was met', () => {
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
    ...happeningNames.map((name) => `storm ${name}`),
    ...causes.map((cause) => `closed ${cause}`),
    'lost reset while idle in transaction',
    'lost user_timeout while active',
    'lost keepalive_timeout while idle',
    'a cancel hit',
    'a client was told that it waits',
    'the reserve was drawn on',
    'closed admin',
    'closed evicted',
    'fatal 53300',
    'fatal 57P01',
  ]

  expect(expected.filter((fact) => !seen.has(fact))).toEqual([])
})
