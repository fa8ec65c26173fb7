import { expect, test } from 'vitest'
import { exitCode, outcomeOf } from '../../cli/await-proxies.ts'
import type { Outcome } from '../../cli/await-proxies.ts'
import type { ProxyState } from '../../shared/api.ts'

test.for<[readonly ProxyState[], number, number]>([
  [['in_sync', 'in_sync'], 0, 0],
  [['in_sync', 'failed'], 0, 1],
  [['in_sync', 'degraded'], 0, 1],
  [['in_sync', 'drifted'], 0, 1],
  [['in_sync', 'regressed'], 0, 1],
  [['duplicate', 'duplicate'], 0, 1],
  [['in_sync', 'applying'], 0, 3],
  [['in_sync', 'behind'], 0, 3],
  [['in_sync', 'offline'], 0, 3],
  [['in_sync', 'offline'], 1, 0],
  [['offline', 'offline'], 1, 3],
  [['offline', 'failed'], 9, 1],
  [['behind', 'failed'], 0, 1],
  [[], 0, 3],
  [[], 9, 3],
])('%o with %i allowed offline is %i when the time is over', ([states, allowed, code]) => {
  const outcomes = states.map((state): Outcome => outcomeOf({ state }))

  expect(exitCode(outcomes, allowed, () => undefined)).toBe(code)
})
