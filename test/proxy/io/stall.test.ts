import { expect, test } from 'vitest'
import { judgeStall } from '../../../proxy/io/stall.ts'
import type { SendState } from '../../../proxy/io/stall.ts'

const state: SendState = {
  unacknowledgedBytes: 40_000,
  inFlightSegments: 0,
  lastAckAgeMs: 3000,
  unansweredProbes: 0,
  stalled: false,
  userTimeoutMs: 30_000,
  periodMs: 7500,
}

test('a closed window whose owner answered lately is a stall', () => {
  expect(judgeStall(state)).toBe('stalled')
})

test('with nothing to send, or with something on its way, the timing is left to the kernel', () => {
  expect(judgeStall({ ...state, unacknowledgedBytes: 0, stalled: true })).toBe('flowing')
  expect(judgeStall({ ...state, inFlightSegments: 1, stalled: true })).toBe('flowing')
})

test('a peer that was silent before its window was seen closed is left to the kernel', () => {
  expect(judgeStall({ ...state, lastAckAgeMs: 15_000 })).toBe('flowing')
})

test('a stalled peer is dead when it leaves three probes and the whole user timeout unanswered', () => {
  const stalled = { ...state, stalled: true }

  expect(judgeStall({ ...stalled, lastAckAgeMs: 30_001, unansweredProbes: 3 })).toBe('dead')
  expect(judgeStall({ ...stalled, lastAckAgeMs: 30_001, unansweredProbes: 2 })).toBe('stalled')
  expect(judgeStall({ ...stalled, lastAckAgeMs: 29_000, unansweredProbes: 9 })).toBe('stalled')
})
