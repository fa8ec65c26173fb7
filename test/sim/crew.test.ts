/** Worlds of two workers on one listener and one board, and faults that show that these worlds are looked at. */
import { expect, test } from 'vitest'
import { Board } from '../../proxy/board.ts'
import { Limits } from '../../proxy/engine/limits.ts'
import { Shared } from '../../proxy/engine/shared.ts'
import { SimulationFailure } from './court.ts'
import { CrewWorld } from './crew-world.ts'
import { replace } from './replace.ts'

const worlds = 300
const worldsPerTest = 50

const seen = new Set<string>()

function failureOf(seed: number): string | null {
  const world = new CrewWorld(seed)
  try {
    world.run()
    return null
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error
    return `${error.message}\nreplay: npm run sim -- --crew --seed ${seed} --verbose`
  } finally {
    for (const fact of world.court.seen) seen.add(fact)
  }
}

for (let first = 0; first < worlds; first += worldsPerTest) {
  const last = first + worldsPerTest - 1
  test(`crews ${first} to ${last} keep every limit together and leave nobody waiting`, { timeout: 120_000 }, () => {
    const failures: string[] = []
    for (let seed = first; seed <= last; seed++) {
      const failure = failureOf(seed)
      if (failure !== null) failures.push(failure)
    }

    expect(failures).toEqual([])
  })
}

test('in these worlds clients were handed over, workers died, and cancel requests found their way', () => {
  const expected = ['a client was handed over', 'a worker died', 'storm serverTerminate', 'a cancel hit']

  expect(expected.filter((fact) => !seen.has(fact))).toEqual([])
})

/** Each puts one fault into what workers share, and gives what takes it out again. */
const faults: Readonly<Record<string, () => () => void>> = {
  'a worker opens a server whatever the others have': () => {
    const undo = [
      replace(
        Shared.prototype,
        'open',
        (open) =>
          function (this: Shared, pool, target) {
            return open.call(this, pool, target, Infinity)
          },
      ),
      replace(
        Limits.prototype,
        'sizeOf',
        () =>
          function (this: Limits, pool) {
            return pool.size
          },
      ),
    ]
    return () => undo.forEach((take) => take())
  },
  'what a dead worker held is not free': () => replace(Board.prototype, 'forget', () => () => undefined),
  'a seat that was taken in a former life counts': () => replace(Board.prototype, 'life', () => () => 0),
}

for (const [fault, putIn] of Object.entries(faults)) {
  test(`found: ${fault}`, { timeout: 240_000 }, () => {
    const takeOut = putIn()
    let failure: string | null = null
    try {
      for (let seed = 0; seed < worlds && failure === null; seed++) failure = failureOf(seed)
    } finally {
      takeOut()
    }

    expect(failure).not.toBeNull()
  })
}
