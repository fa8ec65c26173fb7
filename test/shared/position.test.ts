import { expect, test } from 'vitest'
import { comparePositions } from '../../shared/position.ts'

const ascending = [null, { epoch: 1, version: 0 }, { epoch: 1, version: 9 }, { epoch: 2, version: 1 }]

test('a higher epoch is above every version of a lower one, and nothing is below every position', () => {
  const signs = ascending.map((one) => ascending.map((other) => Math.sign(comparePositions(one, other))))

  expect(signs).toEqual([
    [0, -1, -1, -1],
    [1, 0, -1, -1],
    [1, 1, 0, -1],
    [1, 1, 1, 0],
  ])
})
