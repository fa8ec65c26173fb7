import { createHmac } from 'node:crypto'
import { expect, test } from 'vitest'
import { verifiedHint } from '../../../proxy/agent/hint.ts'

const key = Buffer.from('0123456789abcdef0123456789abcdef')
const secret = `whsec_${key.toString('base64')}`
const now = new Date('2026-01-01T12:00:00Z')
const nowS = now.getTime() / 1000
const hint = { fleet: 'demo', epoch: 1, version: 7, reason: 'version' }
const body = Buffer.from(JSON.stringify(hint))

function sign(timestamp: string, bytes: Uint8Array, signingKey = key): string {
  return `v1,${createHmac('sha256', signingKey).update(`msg_1.${timestamp}.`).update(bytes).digest('base64')}`
}

function headersAt(timestamp: number) {
  return { id: 'msg_1', timestamp: String(timestamp), signature: sign(String(timestamp), body) }
}

test('a hint signed with the secret is what its body says', () => {
  expect(verifiedHint(headersAt(nowS), body, secret, now)).toEqual(hint)
})

test('the vector of the Standard Webhooks specification verifies', () => {
  // The specification's example; its body is no hint, so only the signature decides between the two outcomes.
  const example = Buffer.from('{"test": 2432232314}')
  const signature = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
  const digest = createHmac('sha256', Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64'))
    .update('msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.')
    .update(example)
    .digest('base64')

  expect(`v1,${digest}`).toBe(signature)
})

test('a hint is good when one of several signatures is', () => {
  const headers = { ...headersAt(nowS), signature: `v1a,xyz v1,AAAA ${headersAt(nowS).signature}` }

  expect(verifiedHint(headers, body, secret, now)).toEqual(hint)
})

test.each([
  ['another secret', { signature: sign(String(nowS), body, Buffer.from('another')) }],
  ['another body', { signature: sign(String(nowS), Buffer.from('{}')) }],
  ['another id', { id: 'msg_2' }],
  ['another time', { timestamp: String(nowS + 1) }],
  ['no signature', { signature: undefined }],
  ['an empty signature', { signature: 'v1,' }],
  ['no id', { id: undefined }],
  ['no time', { timestamp: undefined }],
  ['a time that is no number', { timestamp: 'now' }],
])('a hint with %s is not taken', (_, wrong) => {
  expect(verifiedHint({ ...headersAt(nowS), ...wrong }, body, secret, now)).toBeUndefined()
})

test.each([
  ['older', -301],
  ['more in the future', 301],
])('a hint %s than five minutes is not taken', (_, offsetS) => {
  expect(verifiedHint(headersAt(nowS + offsetS), body, secret, now)).toBeUndefined()
})

test('a signed body that is no hint is not taken', () => {
  const other = Buffer.from('{"fleet":"demo"}')
  const headers = { ...headersAt(nowS), signature: sign(String(nowS), other) }

  expect(verifiedHint(headers, other, secret, now)).toBeUndefined()
})
