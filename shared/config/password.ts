import type { PoolValues } from './keys.ts'

/**
 * What a stored password is, told by its form as PostgreSQL tells it (manual: pg_authid, column rolpassword).
 *   plain  the password itself
 *   md5    "md5" + hex MD5 of password and user: good for checking a client, useless for logging in to a server
 *   scram  a SCRAM-SHA-256 verifier (RFC 5803): the same
 */
export type PasswordKind = 'plain' | 'md5' | 'scram'

/** PostgreSQL's own limit on a password message is far above; this bounds what control stores. */
const passwordBytesMax = 4096

const md5Pattern = /^md5[0-9a-f]{32}$/
const scramPrefix = 'SCRAM-SHA-256$'
const base64 = '[A-Za-z0-9+/]+={0,2}'
const scramPattern = new RegExp(`^SCRAM-SHA-256\\$([1-9]\\d{0,8}):${base64}\\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$`)

/**
 * A password in clear is checked against a verifier by deriving that anew while the engine's loop waits, about 0.3 ms
 * for 1,000 iterations. With more than these the client has to do the work, by SCRAM.
 */
export const plainIterationsMax = 100_000

/** By "hba" too, but which of its rules applies is known when somebody comes; until then a password may be missing. */
export function asksForPassword(authType: PoolValues['auth_type']): boolean {
  return authType === 'plain' || authType === 'md5' || authType === 'scram-sha-256'
}

export function passwordKind(text: string): PasswordKind {
  if (md5Pattern.test(text)) return 'md5'
  return text.startsWith(scramPrefix) ? 'scram' : 'plain'
}

/**
 * `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` taken apart; undefined when it is no such verifier, or asks
 * for so many iterations that one login would occupy the client for minutes.
 */
export function readVerifier(
  text: string,
): { iterations: number; salt: Uint8Array; storedKey: Uint8Array; serverKey: Uint8Array } | undefined {
  if (!scramPattern.test(text)) return undefined
  const [, head = '', tail = ''] = text.split('$')
  const [count, salt = ''] = head.split(':')
  const [storedKey = '', serverKey = ''] = tail.split(':')
  if (Number(count) > iterationsMax) return undefined
  return {
    iterations: Number(count),
    salt: bytesOf(salt),
    storedKey: bytesOf(storedKey),
    serverKey: bytesOf(serverKey),
  }
}

export const iterationsMax = 10_000_000

function bytesOf(base64Text: string): Uint8Array {
  return Uint8Array.from(atob(base64Text), (character) => character.charCodeAt(0))
}

/** Why `text` cannot be stored as a password; undefined when it can. The text is never quoted. */
export function passwordFault(text: string): string | undefined {
  if (text.includes('\0')) return 'holds a NUL character, which PostgreSQL does not allow'
  if (!text.isWellFormed()) return 'is not well-formed Unicode'
  if (new TextEncoder().encode(text).length > passwordBytesMax) return `is longer than ${passwordBytesMax} bytes`
  if (passwordKind(text) === 'scram' && !scramPattern.test(text)) {
    return 'starts like a SCRAM-SHA-256 verifier but is not one; copy rolpassword from pg_authid whole'
  }
  return undefined
}
