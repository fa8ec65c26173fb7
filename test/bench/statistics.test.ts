import { expect, test } from 'vitest'
import { median, percentile } from '../../bench/statistics.ts'

test('the median of an odd number of values is the middle one', () => {
  expect(median([30, 10, 20])).toBe(20)
})

test('the median of an even number of values lies between the two in the middle', () => {
  expect(median([40, 10, 30, 20])).toBe(25)
})

test('99 of 100 values do not exceed the 99th percentile', () => {
  const values = Array.from({ length: 100 }, (_, index) => 100 - index)

  expect(percentile(values, 0.99)).toBe(99)
})

test('there is no median and no percentile of nothing', () => {
  expect(median([])).toBeNaN()
  expect(percentile([], 0.99)).toBeNaN()
})
