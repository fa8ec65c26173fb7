import { expect, test } from 'vitest'
import { cpuBetween, cpuOf, rssBytesOf } from '../../bench/usage-of-process.ts'

test('the CPU time read from /proc is what the process counts itself', async () => {
  const before = await cpuOf(process.pid)
  const ownBefore = process.cpuUsage()
  while (usOf(process.cpuUsage(ownBefore)) < 300_000) compute()
  const own = process.cpuUsage(ownBefore)
  const used = cpuBetween(before, await cpuOf(process.pid))

  expect((used.userUs + used.systemUs) / usOf(own)).toBeCloseTo(1, 0)
  expect(used.userUs).toBeGreaterThan(used.systemUs)
  expect(used.busiestThreadsUs).toBeLessThanOrEqual(used.userUs + used.systemUs)
})

test('the resident memory read from /proc is what the process counts itself', async () => {
  const bytes = await rssBytesOf(process.pid)

  expect(bytes / process.memoryUsage().rss).toBeCloseTo(1, 1)
})

/** Something that is user time: a hundred thousand steps between two looks at the clock. */
function compute(): number {
  let sum = 0
  for (let step = 0; step < 100_000; step++) sum += Math.sqrt(step)
  return sum
}

function usOf({ user, system }: NodeJS.CpuUsage): number {
  return user + system
}
