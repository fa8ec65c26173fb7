import { expect, test } from 'vitest'
import { judgedShare, steadyGrowth } from './steady-growth.ts'

const count = 600
/** What a garbage collector makes of it: up with use, down with a collection. */
const saw = (n: number): number => (n % 20) * 100

test('what moves to and fro does not grow', () => {
  expect(steadyGrowth(Array.from({ length: count }, (_, n) => saw(n)))).toBe(0)
})

test.for([0.1, 0.3, 0.5, 0.7, 0.9])('one step at %d of the run is no growth', (at) => {
  expect(steadyGrowth(Array.from({ length: count }, (_, n) => saw(n) + (n > count * at ? 1_000_000 : 0)))).toBe(0)
})

test('a leak shows with most of what it takes in the share that is judged', () => {
  const perSample = 1000

  const grown = steadyGrowth(Array.from({ length: count }, (_, n) => saw(n) + perSample * n))

  expect(grown).toBeGreaterThan(0.8 * judgedShare * perSample * count)
})
