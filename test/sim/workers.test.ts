/** Worlds of two workers with one listener and shared counters, and mutants that prove that they are checked. */
import { expect, test } from 'vitest'
import { SharedCounters } from '../../proxy/memory/shared-counters.ts'
import { Limits } from '../../proxy/engine/pool/limits.ts'
import { ProcessCounts } from '../../proxy/engine/workers/process-counts.ts'
import { WorkersWorld } from './workers-world.ts'
import { replace } from './replace.ts'
import { Seeds } from './seeds.ts'

const worlds = 300
const seeds = new Seeds((seed) => new WorkersWorld(seed), '--workers ')

seeds.test('workers', 'keep every limit together and leave no client waiting', {
  first: 0,
  count: worlds,
  perTest: 50,
  timeout: 120_000,
})

test('in these worlds clients were handed over, workers died, pools were removed, and cancel requests found their way', () => {
  const expected = [
    'a client was handed over',
    'a worker died',
    'a pool was removed',
    'fault serverTerminate',
    'a query was canceled',
  ]

  expect(expected.filter((fact) => !seeds.seen.has(fact))).toEqual([])
})

// Separate, because the fixed seeds alone must cover everything above.
new Seeds((seed) => new WorkersWorld(seed), '--workers ').testFresh(
  'workers',
  'keep every limit together and leave no client waiting',
  { count: 50, perTest: 50, timeout: 120_000 },
)

/** Each breaks one thing that workers share, and returns what mends it. */
const mutants: Readonly<Record<string, () => () => void>> = {
  'a worker opens a server whatever the others have': () => {
    const undo = [
      replace(
        ProcessCounts.prototype,
        'open',
        (open) =>
          function (this: ProcessCounts, serverSet, target) {
            return open.call(this, serverSet, target, Infinity)
          },
      ),
      replace(
        Limits.prototype,
        'sizeOf',
        () =>
          function (this: Limits, serverSet) {
            return serverSet.size
          },
      ),
    ]
    return () => undo.forEach((take) => take())
  },
  'what a dead worker held stays counted': () =>
    replace(SharedCounters.prototype, 'workerEnded', () => () => undefined),
  'a client placed in a pool that is gone stays counted': () =>
    replace(ProcessCounts.prototype, 'unplaceUnknown', () => () => undefined),
  'a client placed with a former thread stays counted': () => replace(SharedCounters.prototype, 'life', () => () => 0),
}

for (const [mutant, apply] of Object.entries(mutants)) {
  test(`found: ${mutant}`, { timeout: 240_000 }, () => {
    const undo = apply()
    let failure: string | null = null
    try {
      for (let seed = 0; seed < worlds && failure === null; seed++) failure = seeds.failureOf(seed)
    } finally {
      undo()
    }

    expect(failure).not.toBeNull()
  })
}
