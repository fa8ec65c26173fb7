import { createHmac } from 'node:crypto'

/** HMAC-SHA-256 twice. */
const saltBytesMax = 64

/**
 * The salt of a user, by the secret key of the fleet: the same whether there is such a user or not, on every proxy and
 * over every restart, so that nobody learns who there is by asking twice.
 */
export function mockSalt(mockKey: Uint8Array, user: string, bytes: number): Uint8Array {
  const made = (label: string): Buffer => createHmac('sha256', mockKey).update(`${label} ${user}`).digest()
  return Buffer.concat([made('salt'), made('more salt')], saltBytesMax).subarray(0, bytes)
}
