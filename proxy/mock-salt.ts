import { createHmac } from 'node:crypto'

/** HMAC-SHA-256 twice. */
const saltBytesMax = 64

/**
 * The salt of a user under the fleet's secret: the same whether or not the user exists, on every proxy and over
 * restarts, so that repeated logins do not reveal which users exist.
 */
export function mockSalt(mockKey: Uint8Array, user: string, bytes: number): Uint8Array {
  const made = (label: string): Buffer => createHmac('sha256', mockKey).update(`${label} ${user}`).digest()
  return Buffer.concat([made('salt'), made('more salt')], saltBytesMax).subarray(0, bytes)
}
