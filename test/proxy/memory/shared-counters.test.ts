import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { SharedCounters } from '../../../proxy/memory/shared-counters.ts'
import type { Contest } from './shared-counters.fixture.ts'

function newBoard(workers = 2): SharedCounters {
  return new SharedCounters(SharedCounters.memory(workers), workers)
}

test.each([1, 2, 3])('of threads that contend for %i, no more than that ever have one', async (limit) => {
  const workers = 4
  const shared = {
    memory: SharedCounters.memory(workers),
    held: new SharedArrayBuffer(12),
    workers,
    limit,
    times: 20_000,
  }

  const results = await Promise.all(
    Array.from({ length: workers }, async (_, worker) => {
      const workerData: Contest = { ...shared, worker }
      const thread = new Worker(new URL('shared-counters.fixture.ts', import.meta.url), { workerData })
      const [result] = (await once(thread, 'message')) as [{ granted: number; most: number }]
      return result
    }),
  )
  const counters = new SharedCounters(shared.memory, workers)
  const slot = counters.acquire(0, 'key 0') as number

  for (const { granted, most } of results) {
    expect(granted).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(limit)
  }
  expect(counters.total(slot)).toBe(0)
})

test('a key has the same slot in every worker, and another one another', () => {
  const counters = newBoard()

  expect(counters.acquire(1, 'a')).toBe(counters.acquire(0, 'a'))
  expect(counters.acquire(0, 'b')).not.toBe(counters.acquire(0, 'a'))
})

test('a slot that no worker uses any more begins anew', () => {
  const counters = newBoard()
  const slot = counters.acquire(0, 'a') as number
  counters.add(slot, 0, 7)
  counters.release(0, slot)

  const again = counters.acquire(1, 'a') as number

  expect(counters.total(again)).toBe(0)
})

test('a need is taken by one worker, and by none after it was withdrawn', () => {
  const counters = newBoard(3)
  const slot = counters.acquire(0, 'a') as number
  counters.postWant(0, slot, 5)
  const [want] = counters.wants(1)

  const takings = [counters.takeWant(want!), counters.takeWant(want!)]
  counters.postWant(0, slot, 6)
  const [next] = counters.wants(2)
  counters.withdrawWant(0, slot)

  expect(takings).toEqual([true, false])
  expect(counters.wants(0)).toEqual([])
  expect(counters.takeWant(next!)).toBe(false)
})

test('what a worker held and needed is gone when it has ended', () => {
  const counters = newBoard()
  const slot = counters.acquire(0, 'a') as number
  counters.acquire(1, 'a')
  counters.add(slot, 0, 1)
  counters.add(slot, 1, 2)
  counters.setAlive(1)
  counters.postWant(1, slot, 1)

  counters.workerEnded(1)

  expect(counters.total(slot)).toBe(1)
  expect(counters.wants(0)).toEqual([])
  expect(counters.isAlive(1)).toBe(false)
})
