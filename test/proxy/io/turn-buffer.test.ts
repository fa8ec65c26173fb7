import { expect, test } from 'vitest'
import { TurnBuffer } from '../../../proxy/io/turn-buffer.ts'
import type { Sender } from '../../../proxy/io/turn-buffer.ts'

/** Senders that write down, in one list, what leaves. */
function world() {
  const turnBuffer = new TurnBuffer()
  const left: string[] = []
  const sender = (name: string): Sender => ({
    fd: -1,
    deferred: false,
    direct: false,
    transmitted: () => undefined,
    transmit: (start, end) =>
      left.push(`${name}: ${Buffer.from(turnBuffer.memory.bytes.subarray(start, end)).toString()}`),
  })
  /** As a socket receives: where the text stands then. */
  const receive = (text: string): number => {
    const at = turnBuffer.reserve(0, 64 * 1024)
    turnBuffer.memory.bytes.set(Buffer.from(text), at)
    turnBuffer.commit(at + text.length)
    return at
  }
  /** As a socket sends what stands in the turn buffer. */
  const defer = (to: Sender, start: number, end: number): void => {
    turnBuffer.makePlace(to, turnBuffer.memory.bytes, start)
    turnBuffer.defer(to, start, end)
  }
  return { turnBuffer, left, sender, receive, defer }
}

test('what is put off leaves in its order, and once', () => {
  const { turnBuffer, left, sender, receive, defer } = world()
  const [one, other] = [sender('one'), sender('other')]
  const at = receive('query')
  defer(one, at, at + 5)
  const answerAt = receive('answer')
  defer(other, answerAt, answerAt + 6)
  expect(left).toEqual([])

  turnBuffer.clear()
  turnBuffer.clear()

  expect(left).toEqual(['one: query', 'other: answer'])
})

test('bytes that stand together and leave by the same sender are one send', () => {
  const { turnBuffer, left, sender, receive, defer } = world()
  const [one, other] = [sender('one'), sender('other')]
  const at = receive('abcdef')
  defer(one, at, at + 2)
  defer(one, at + 2, at + 4)
  defer(other, at + 4, at + 5)
  defer(one, at + 5, at + 6)

  turnBuffer.clear()

  expect(left).toEqual(['one: abcd', 'other: e', 'one: f'])
})

test('no socket has two sends that wait: before the second everything leaves', () => {
  const { turnBuffer, left, sender, receive, defer } = world()
  const [one, other] = [sender('one'), sender('other')]
  const at = receive('abc')
  defer(one, at, at + 1)
  defer(other, at + 1, at + 2)

  turnBuffer.makePlace(one, turnBuffer.memory.bytes, at + 2)
  expect([left, one.deferred, other.deferred]).toEqual([['one: a', 'other: b'], false, false])
  turnBuffer.defer(one, at + 2, at + 3)
  turnBuffer.makePlace(one, Buffer.from('own'), 0)
  expect(left).toHaveLength(2)
  expect(turnBuffer.deferCopy(one, Buffer.from('own'), 0, 3)).toBe(true)
  turnBuffer.clear()

  expect(left).toEqual(['one: a', 'other: b', 'one: cown'])
})

test('a copy keeps its place among the bytes that were received', () => {
  const { turnBuffer, left, sender, receive, defer } = world()
  const one = sender('one')
  const at = receive('there')
  defer(one, at, at + 5)
  const own = Buffer.from('ours')
  expect(turnBuffer.deferCopy(one, own, 0, 4)).toBe(true)
  own.fill(0)

  turnBuffer.clear()

  expect(left.join()).toBe('one: thereours')
})

test('what has not left is never received over', () => {
  const { turnBuffer, left, sender, defer } = world()
  const one = sender('one')
  const texts: string[] = []
  for (let turn = 0; turn < 40; turn++) {
    const text = String(turn).padStart(3, '0').repeat(10_000)
    const at = turnBuffer.reserve(100, 64 * 1024)
    expect(at).toBeGreaterThanOrEqual(100)
    turnBuffer.memory.bytes.set(Buffer.from(text), at)
    turnBuffer.commit(at + text.length)
    defer(one, at, at + text.length)
    texts.push(text)
  }

  turnBuffer.clear()

  expect(left.map((line) => line.slice(5)).join('')).toBe(texts.join(''))
})

test('a copy that has no room is refused, and fits the next turn', () => {
  const { turnBuffer, sender } = world()
  const much = Buffer.alloc(400_000)
  expect(turnBuffer.deferCopy(sender('one'), much, 0, much.length)).toBe(true)
  expect(turnBuffer.deferCopy(sender('one'), much, 0, much.length)).toBe(false)

  turnBuffer.clear()

  expect(turnBuffer.deferCopy(sender('one'), much, 0, much.length)).toBe(true)
})

test('many small sends do not wait for each other: some leave before the turn is over', () => {
  const { turnBuffer, left, sender, receive, defer } = world()
  for (let index = 0; index < 100; index++) {
    const at = receive('x')
    defer(sender(String(index)), at, at + 1)
  }
  expect(left.length).toBeGreaterThan(0)

  turnBuffer.clear()

  expect(left).toEqual(Array.from({ length: 100 }, (_, index) => `${index}: x`))
})
