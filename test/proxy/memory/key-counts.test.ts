import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { KeyCounts } from '../../../proxy/memory/key-counts.ts'
import type { Counting } from './key-counts.fixture.ts'

const oneSet = 8

/** Keys that fall into one set. */
function keysOfOneSet(count: number): Buffer[] {
  return Array.from({ length: count }, (_, number) => {
    const key = Buffer.alloc(32)
    key.writeUInt32BE(number + 1, 6)
    return key
  })
}

test('what four threads count at once is all counted', async () => {
  const memory = KeyCounts.memory()
  const keys = [randomBytes(32), randomBytes(32), ...keysOfOneSet(3)]
  const shared = { memory, keys, times: 10_000 }

  await Promise.all(
    Array.from({ length: 4 }, async (_, owner) => {
      const workerData: Counting = { ...shared, owner }
      await once(new Worker(new URL('key-counts.fixture.ts', import.meta.url), { workerData }), 'message')
    }),
  )
  const counts = new KeyCounts(memory, 0)

  expect(counts.size).toBe(5)
  expect(keys.map((key) => counts.add(key, 10_000, Infinity))).toEqual(Array(5).fill(40_001))
})

test('in a full set the key that was counted longest ago makes room', () => {
  const counts = new KeyCounts(KeyCounts.memory(), 0)
  const [first, second, ...rest] = keysOfOneSet(oneSet + 1) as [Buffer, Buffer, ...Buffer[]]
  for (const [at, key] of [first, second, ...rest.slice(0, oneSet - 2)].entries()) counts.add(key, at, Infinity)
  counts.add(first, 100, Infinity)

  counts.add(rest.at(-1) as Buffer, 101, Infinity)

  expect(counts.size).toBe(oneSet)
  expect(counts.add(first, 102, Infinity)).toBe(3)
  expect(counts.add(second, 103, Infinity)).toBe(1)
})

test('a key that is forgotten leaves its place to another', () => {
  const counts = new KeyCounts(KeyCounts.memory(), 0)
  const [key] = keysOfOneSet(1) as [Buffer]
  counts.add(key, 0, Infinity)

  counts.delete(key)
  counts.delete(key)

  expect(counts.size).toBe(0)
  expect(counts.add(key, 1, Infinity)).toBe(1)
})
