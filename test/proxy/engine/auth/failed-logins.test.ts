import { expect, test } from 'vitest'
import { FailedLogins } from '../../../../proxy/engine/auth/failed-logins.ts'
import { KeyCounts, keysMax } from '../../../../proxy/memory/key-counts.ts'

const settings = { loginBackoffAfter: 3, loginBackoffWindowMs: 60_000, loginBackoffMaxMs: 1_000 }

const key = Buffer.alloc(32, 1)

/** As the thread `owner` counts them, whose clock began `clockOffsetMs` after the one of the machine. */
function loginsOf(memory = KeyCounts.memory(), owner = 0, clockOffsetMs = 0): FailedLogins {
  return new FailedLogins(new KeyCounts(memory, owner), key, clockOffsetMs)
}

function delays(logins: FailedLogins, hosts: readonly string[], nowMs = 0, given = settings): number[] {
  return hosts.map((host) => logins.failed(host, nowMs, given))
}

test('from the third failure on the answer waits, twice as long each time, up to a limit', () => {
  const logins = loginsOf()

  expect(delays(logins, Array<string>(7).fill('10.0.0.1'))).toEqual([0, 0, 250, 500, 1000, 1000, 1000])
  expect(logins.delayed).toBe(5)
})

test('the limit holds after ever so many failures', () => {
  const logins = loginsOf()

  expect(delays(logins, Array<string>(3000).fill('10.0.0.1')).at(-1)).toBe(1000)
})

test('another address does not wait, another of the same IPv6 network does', () => {
  const logins = loginsOf()
  delays(logins, ['10.0.0.1', '10.0.0.1', '2001:db8::1', '2001:db8::2'])

  expect(delays(logins, ['10.0.0.2', '2001:db8:0:1::1', '10.0.0.1', '2001:db8::3'])).toEqual([0, 0, 250, 250])
})

test('a success forgives, and so does a while without a failure', () => {
  const logins = loginsOf()
  const three = Array<string>(3).fill('10.0.0.1')
  delays(logins, three)

  logins.succeeded('10.0.0.1')
  expect(delays(logins, three)).toEqual([0, 0, 250])
  expect(delays(logins, three, 59_999)).toEqual([500, 1000, 1000])
  expect(delays(logins, three, 119_999)).toEqual([0, 0, 250])
})

test('0 delays nothing and counts nothing', () => {
  const memory = KeyCounts.memory()
  const logins = loginsOf(memory)

  expect(delays(logins, Array<string>(9).fill('10.0.0.1'), 0, { ...settings, loginBackoffAfter: 0 })).toEqual(
    Array(9).fill(0),
  )
  expect(new KeyCounts(memory, 0).size).toBe(0)
})

test('the memory is bounded, and a user that goes on failing stays counted while others fail', () => {
  const memory = KeyCounts.memory()
  const logins = loginsOf(memory)
  const seen = new Set<number>()
  delays(logins, ['192.0.2.1', '192.0.2.1'])

  for (let i = 0; i < 1.5 * keysMax; i++) {
    logins.failed(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, i, settings)
    if (i % 100 === 0) seen.add(logins.failed('192.0.2.1', i, settings))
  }

  expect(new KeyCounts(memory, 0).size).toBeLessThanOrEqual(keysMax)
  expect(new KeyCounts(memory, 0).size).toBeGreaterThan(keysMax * 0.9)
  expect([...seen]).toEqual([250, 500, 1000])
  expect(delays(logins, ['192.0.2.1'], 2 * keysMax)).toEqual([1000])
})

test('threads count together: four of them give no more tries than one', () => {
  const memory = KeyCounts.memory()
  const threads = Array.from({ length: 4 }, (_, owner) => loginsOf(memory, owner, owner * -1e9))
  const clock = (owner: number, ms: number): number => ms + owner * 1e9

  const spread = Array.from({ length: 8 }, (_, time) =>
    threads[time % 4]?.failed('10.0.0.1', clock(time % 4, time), settings),
  )
  threads[3]?.succeeded('10.0.0.1')
  const after = threads[2]?.failed('10.0.0.1', clock(2, 9), settings)

  expect(spread).toEqual([0, 0, 250, 500, 1000, 1000, 1000, 1000])
  expect(after).toBe(0)
})

test('what was counted before a thread died is known to the next, also when it died in the middle', () => {
  const memory = KeyCounts.memory()
  delays(loginsOf(memory, 1), ['10.0.0.1', '10.0.0.1'])
  // Its lock, as a thread leaves it that is ended there.
  Atomics.store(new Int32Array(memory, 0, 1), 0, 2)

  KeyCounts.threadEnded(memory, 1)

  expect(delays(loginsOf(memory, 1), ['10.0.0.1'])).toEqual([250])
})
