import { expect, test } from 'vitest'
import { changeOf } from '../../shared/change.ts'

const running = { hash: 'a', connectHash: 'a' }

test.for([
  [undefined, running, 'add'],
  [running, running, 'keep'],
  [running, { hash: 'b', connectHash: 'a' }, 'retune'],
  [running, { hash: 'b', connectHash: 'b' }, 'rebuild'],
] as const)('from %j to %j a pool is to %s', ([before, after, change]) => {
  expect(changeOf(before, after)).toBe(change)
})
