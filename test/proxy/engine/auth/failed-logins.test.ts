import { expect, test } from 'vitest'
import { addressesMax, FailedLogins } from '../../../../proxy/engine/auth/failed-logins.ts'

const settings = { loginBackoffAfter: 3, loginBackoffWindowMs: 60_000, loginBackoffMaxMs: 1_000 }

function delays(logins: FailedLogins, hosts: readonly string[], nowMs = 0, given = settings): number[] {
  return hosts.map((host) => logins.failed(host, nowMs, given))
}

test('from the third failure on the answer waits, twice as long each time, up to a limit', () => {
  const logins = new FailedLogins()

  expect(delays(logins, Array<string>(7).fill('10.0.0.1'))).toEqual([0, 0, 250, 500, 1000, 1000, 1000])
  expect(logins.delayed).toBe(5)
})

test('the limit holds after ever so many failures', () => {
  const logins = new FailedLogins()

  expect(delays(logins, Array<string>(3000).fill('10.0.0.1')).at(-1)).toBe(1000)
})

test('another address does not wait, another of the same IPv6 network does', () => {
  const logins = new FailedLogins()
  delays(logins, ['10.0.0.1', '10.0.0.1', '2001:db8::1', '2001:db8::2'])

  expect(delays(logins, ['10.0.0.2', '2001:db8:0:1::1', '10.0.0.1', '2001:db8::3'])).toEqual([0, 0, 250, 250])
})

test('a success forgives, and so does a while without a failure', () => {
  const logins = new FailedLogins()
  const three = Array<string>(3).fill('10.0.0.1')
  delays(logins, three)

  logins.succeeded('10.0.0.1')
  expect(delays(logins, three)).toEqual([0, 0, 250])
  expect(delays(logins, three, 59_999)).toEqual([500, 1000, 1000])
  expect(delays(logins, three, 119_999)).toEqual([0, 0, 250])
})

test('0 delays nothing and remembers nobody', () => {
  const logins = new FailedLogins()

  expect(delays(logins, Array<string>(9).fill('10.0.0.1'), 0, { ...settings, loginBackoffAfter: 0 })).toEqual(
    Array(9).fill(0),
  )
  expect(logins.addresses).toBe(0)
})

test('what is remembered is bounded: the address whose last failure is oldest is forgotten', () => {
  const logins = new FailedLogins()
  delays(logins, ['192.0.2.1', '192.0.2.2', '192.0.2.1', '192.0.2.2', '192.0.2.1'])
  for (let i = 0; i < addressesMax - 1; i++) logins.failed(`10.1.${i >> 8}.${i & 255}`, 0, settings)

  expect(logins.addresses).toBe(addressesMax)
  expect(delays(logins, ['192.0.2.1', '192.0.2.2'])).toEqual([500, 0])
})
