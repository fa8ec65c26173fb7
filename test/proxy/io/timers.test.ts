import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { Timers } from '../../../proxy/io/timers.ts'

test('timers run in the order of their times, and of their setting where those are equal', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 20 })), (delays) => {
      const timers = new Timers()
      const ran: [number, number][] = []
      for (const [index, atMs] of delays.entries()) timers.at(atMs, () => ran.push([atMs, index]))

      timers.runDue(20)

      expect(ran).toEqual([...delays.entries()].map(([index, atMs]) => [atMs, index]).toSorted(byTimeThenIndex))
      expect(timers.size).toBe(0)
    }),
  )
})

test('a canceled timer never runs and leaves at once, wherever it stands', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ atMs: fc.nat({ max: 50 }), canceled: fc.boolean() })), (wanted) => {
      const timers = new Timers()
      const ran: number[] = []
      const made = wanted.map(({ atMs }, index) => timers.at(atMs, () => ran.push(index)))
      for (const [index, timer] of made.entries()) if (wanted[index]?.canceled === true) timer.cancel()
      const left = wanted.filter(({ canceled }) => !canceled)

      expect(timers.size).toBe(left.length)
      expect(timers.nextMs).toBe(Math.min(Infinity, ...left.map(({ atMs }) => atMs)))
      timers.runDue(50)

      expect(ran.length).toBe(left.length)
      expect(ran.every((index) => wanted[index]?.canceled === false)).toBe(true)
    }),
  )
})

test('what is not due waits, and a timer set by a timer waits for the next run', () => {
  const timers = new Timers()
  const ran: string[] = []
  timers.at(10, () => {
    ran.push('ten')
    timers.at(0, () => ran.push('set by ten'))
  })
  timers.at(11, () => ran.push('eleven'))

  timers.runDue(10)
  expect(ran).toEqual(['ten'])
  timers.runDue(10)
  expect(ran).toEqual(['ten', 'set by ten'])
  expect(timers.nextMs).toBe(11)
})

test('a timer can be canceled while it runs, and again later', () => {
  const timers = new Timers()
  const timer = timers.at(1, () => timer.cancel())
  const other = timers.at(2, () => {})

  timers.runDue(1)
  timer.cancel()

  expect(timers.size).toBe(1)
  other.cancel()
  expect(timers.size).toBe(0)
})

function byTimeThenIndex([aMs = 0, a = 0]: number[], [bMs = 0, b = 0]: number[]): number {
  return aMs - bMs || a - b
}
