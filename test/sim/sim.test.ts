import { expect, test } from 'vitest'

import { SimulationFailure } from './court.ts'
import { World } from './world.ts'

/** Worlds in all, and in each test, so that the report shows progress. */
const worlds = 2000
const worldsPerTest = 100

function failureOf(seed: number): string | null {
  try {
    new World(seed).run()
    return null
  } catch (error) {
    if (error instanceof SimulationFailure) return `${error.message}\nreplay: npm run sim -- --seed ${seed} --verbose`
    throw error
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
