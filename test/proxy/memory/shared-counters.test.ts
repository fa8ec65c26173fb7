import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { Board } from '../../../proxy/memory/shared-counters.ts'
import type { Contest } from './shared-counters.fixture.ts'

function newBoard(workers = 2): Board {
  return new Board(Board.memory(workers), workers)
}

test.each([1, 2, 3])('of threads that contend for %i, no more than that ever have one', async (limit) => {
  const workers = 4
  const shared = { memory: Board.memory(workers), held: new SharedArrayBuffer(12), workers, limit, times: 20_000 }

  const results = await Promise.all(
    Array.from({ length: workers }, async (_, worker) => {
      const workerData: Contest = { ...shared, worker }
      const thread = new Worker(new URL('shared-counters.fixture.ts', import.meta.url), { workerData })
      const [result] = (await once(thread, 'message')) as [{ granted: number; most: number }]
      return result
    }),
  )
  const board = new Board(shared.memory, workers)
  const slot = board.acquire(0, 'key 0') as number

  for (const { granted, most } of results) {
    expect(granted).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(limit)
  }
  expect(board.total(slot)).toBe(0)
})

test('a key has the same slot in every worker, and another one another', () => {
  const board = newBoard()

  expect(board.acquire(1, 'a')).toBe(board.acquire(0, 'a'))
  expect(board.acquire(0, 'b')).not.toBe(board.acquire(0, 'a'))
})

test('a slot that nobody uses any more begins anew', () => {
  const board = newBoard()
  const slot = board.acquire(0, 'a') as number
  board.add(slot, 0, 7)
  board.release(0, slot)

  const again = board.acquire(1, 'a') as number

  expect(board.total(again)).toBe(0)
})

test('a need is taken by one worker, and by none after it was withdrawn', () => {
  const board = newBoard(3)
  const slot = board.acquire(0, 'a') as number
  board.post(0, slot, 5)
  const [need] = board.needs(1)

  const takings = [board.take(need!), board.take(need!)]
  board.post(0, slot, 6)
  const [next] = board.needs(2)
  board.withdraw(0, slot)

  expect(takings).toEqual([true, false])
  expect(board.needs(0)).toEqual([])
  expect(board.take(next!)).toBe(false)
})

test('what a worker held and needed is gone when it has ended', () => {
  const board = newBoard()
  const slot = board.acquire(0, 'a') as number
  board.acquire(1, 'a')
  board.add(slot, 0, 1)
  board.add(slot, 1, 2)
  board.setAlive(1)
  board.post(1, slot, 1)

  board.forget(1)

  expect(board.total(slot)).toBe(1)
  expect(board.needs(0)).toEqual([])
  expect(board.isAlive(1)).toBe(false)
})
