import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { OldestFirst } from '../../../../proxy/engine/pool/oldest-first.ts'

/** A queue of times, oldest first. */
class Line {
  queued = false
  readonly times: number[] = []

  get waitingSinceMs(): number {
    return this.times[0] ?? Infinity
  }
}

test('the queue whose head is oldest is first, after any clients have joined and left', () => {
  const step = fc.record({ line: fc.nat(4), what: fc.constantFrom('join', 'join', 'serve', 'leave', 'remove') })

  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const lines = Array.from({ length: 5 }, () => new Line())
      const order = new OldestFirst<Line>()
      for (const [nowMs, { line: at, what }] of steps.entries()) {
        const line = lines[at] as Line
        if (what === 'serve') order.first()?.times.shift()
        else if (what === 'leave') line.times.splice(line.times.length >> 1, 1)
        else if (what === 'remove') {
          order.remove(line)
          line.times.length = 0
        } else {
          line.times.push(nowMs)
          order.add(line)
        }

        const oldestMs = Math.min(...lines.map(({ waitingSinceMs }) => waitingSinceMs))
        expect(order.first()?.waitingSinceMs ?? Infinity).toBe(oldestMs)
      }
    }),
  )
})

test('an empty queue is taken out, and comes back', () => {
  const line = new Line()
  const order = new OldestFirst<Line>()
  line.times.push(1)
  order.add(line)
  line.times.pop()

  const empty = order.first()
  line.times.push(2)
  order.add(line)

  expect([empty, [...order], order.first()]).toEqual([null, [line], line])
})
