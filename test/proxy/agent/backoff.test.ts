import { expect, test } from 'vitest'
import { Backoff, jittered } from '../../../proxy/agent/backoff.ts'

test('waits double from the first to the longest, and begin anew after a success', () => {
  const backoff = new Backoff({ firstMs: 1000, maxMs: 60_000, random: () => 0.5 })

  const waits = Array.from({ length: 8 }, () => backoff.next())
  backoff.reset()

  expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
  expect(backoff.next()).toBe(1000)
})

test('jitter spreads a wait by a fifth to either side', () => {
  expect(jittered(1000, () => 0)).toBe(800)
  expect(jittered(1000, () => 0.999_999)).toBe(1200)
})
