import { expect, test } from 'vitest'
import { currentCommit, firstSeedOf, freshSeeds } from './fresh-seeds.ts'

const commit = 'd7c61b2aa0c54f7c7f1d1d1ab4f3f1e7f0a9c001'
const other = 'ce1315ac41e0dd0c7b2c9b6ea7d0a1ba42cbd002'

test('a commit has the same seeds in every run, and another commit has others', () => {
  expect(firstSeedOf(commit)).toBe(firstSeedOf(commit))
  expect(Math.abs(firstSeedOf(commit) - firstSeedOf(other))).toBeGreaterThanOrEqual(freshSeeds)
})

test('the seeds of a commit lie above all fixed ones, within the 32 bits that make a world', () => {
  for (const id of [commit, other, 'f'.repeat(40), '0'.repeat(40)]) {
    expect(firstSeedOf(id)).toBeGreaterThanOrEqual(2 ** 31)
    expect(firstSeedOf(id) + freshSeeds).toBeLessThanOrEqual(2 ** 32)
  }
})

test('the commit that is checked out is known by its whole id', () => {
  expect(currentCommit()).toMatch(/^[0-9a-f]{40}$/)
})
