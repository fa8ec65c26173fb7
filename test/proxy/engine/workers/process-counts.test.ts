import { expect, test } from 'vitest'
import { ProcessCounts } from '../../../../proxy/engine/workers/process-counts.ts'
import { SharedCounters } from '../../../../proxy/memory/shared-counters.ts'

/** Runs something in the middle of another worker's work: right after a count was read. */
class InterruptedCounters extends SharedCounters {
  onCount: (worker: number) => void = () => undefined

  override count(slot: number, worker: number): number {
    const count = super.count(slot, worker)
    this.onCount(worker)
    return count
  }
}

const workers = 4

function countsOf(self: number, counters: SharedCounters): ProcessCounts {
  const counts = new ProcessCounts({
    self,
    count: workers,
    counters,
    clockOffsetMs: 0,
    handOver: () => true,
    wake: () => undefined,
  })
  counts.begin()
  return counts
}

function newWorkers() {
  const counters = new InterruptedCounters(SharedCounters.memory(workers), workers)
  const all = Array.from({ length: workers }, (_, self) => countsOf(self, counters))
  const pools = all.map((counts) => ({ slots: counts.clientSlotsOf({ database: 'app', user: 'app' }) }))
  const placed = pools[0]?.slots.placed as number
  const place = (worker: number): number => all[worker]!.place(pools[worker]!)
  const clients = (): number[] => Array.from({ length: workers }, (_, worker) => counters.count(placed, worker))
  return { counters, all, pools, place, clients }
}

test('each client goes to the worker with the fewest, to the one that accepted it if several have', () => {
  const { place, clients } = newWorkers()

  const chosen = [3, 3, 3, 3, 2, 3].map(place)

  expect(chosen).toEqual([3, 0, 1, 2, 2, 3])
  expect(clients()).toEqual([1, 1, 2, 2])
})

test('two workers that place a client at the same moment do not choose the same worker', () => {
  const { counters, place, clients } = newWorkers()
  for (const _ of [0, 3]) place(0)
  expect(clients()).toEqual([1, 1, 0, 0])
  let chosenBetween: number | null = null
  counters.onCount = (worker) => {
    if (worker !== workers - 1 || chosenBetween !== null) return
    chosenBetween = -1
    chosenBetween = place(1)
  }

  const chosen = place(0)

  expect([chosenBetween, chosen]).toEqual([2, 3])
  expect(clients()).toEqual([1, 1, 1, 1])
})

test('a worker that has exited gets no client', () => {
  const { counters, place, clients } = newWorkers()
  counters.workerEnded(1)

  const chosen = [0, 0, 0, 0].map(place)

  expect(chosen).toEqual([0, 2, 3, 0])
  expect(clients()).toEqual([2, 0, 1, 1])
})
