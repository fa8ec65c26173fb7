import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { Queue } from '../../../../proxy/engine/session/queue.ts'

test('gives what an array gives, in any order of calls', () => {
  const calls = fc.array(
    fc.oneof(fc.constant('push' as const), fc.constant('shift' as const), fc.integer({ min: 0, max: 5 })),
  )
  fc.assert(
    fc.property(calls, (all) => {
      const queue = new Queue<{ n: number }>()
      const array: { n: number }[] = []
      for (const [n, call] of all.entries()) {
        if (call === 'push') {
          queue.push({ n })
          array.push({ n })
        }
        const count = typeof call === 'number' ? call : 0
        const shifted = call === 'shift' ? [queue.shift(), array.shift()] : [null, null]
        expect(shifted[0]).toEqual(shifted[1])
        expect(queue.take(count)).toEqual(array.splice(0, count))
        expect([queue.size, queue.first]).toEqual([array.length, array[0]])
      }
      queue.clear()
      expect([queue.size, queue.first]).toEqual([0, undefined])
    }),
  )
})
