import type { PoolValues } from './keys.ts'

/**
 * Kind of a stored password, recognized by its form as in PostgreSQL (manual: pg_authid, column rolpassword).
 *   plain  the password itself
 *   md5    "md5" + hex MD5 of password and user; can verify a client but not log in to a server
 *   scram  a SCRAM-SHA-256 verifier (RFC 5803); likewise
 */
export type PasswordKind = 'plain' | 'md5' | 'scram'

/** Limit for what control stores; PostgreSQL's limit on a password message is far higher. */
const passwordBytesMax = 4096

const md5Pattern = /^md5[0-9a-f]{32}$/
const scramPrefix = 'SCRAM-SHA-256$'
const base64 = '[A-Za-z0-9+/]+={0,2}'
const scramPattern = new RegExp(`^SCRAM-SHA-256\\$([1-9]\\d{0,8}):${base64}\\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$`)

/**
 * To check a cleartext password against a verifier, the engine derives the key while its loop waits, about 0.3 ms for 1,000
 * iterations. Above this number clients must use SCRAM, which makes the client derive it.
 */
export const plainIterationsMax = 100_000

/** "hba" is not included: which rule applies is known at login only, so a password is not required before. */
export function asksForPassword(authType: PoolValues['auth_type']): boolean {
  return authType === 'plain' || authType === 'md5' || authType === 'scram-sha-256'
}

export function passwordKind(text: string): PasswordKind {
  if (md5Pattern.test(text)) return 'md5'
  return text.startsWith(scramPrefix) ? 'scram' : 'plain'
}

/**
 * Parses `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; undefined if it is not a verifier, or has so many
 * iterations that one login would occupy the client for minutes.
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

/** Why `text` cannot be stored as a password; undefined if it can. The message never quotes the text. */
export function passwordFault(text: string): string | undefined {
  if (text.includes('\0')) return 'contains a NUL character, which PostgreSQL does not allow'
  if (!text.isWellFormed()) return 'is not well-formed Unicode'
  if (new TextEncoder().encode(text).length > passwordBytesMax) return `exceeds ${passwordBytesMax} bytes`
  if (passwordKind(text) === 'scram' && !scramPattern.test(text)) {
    return 'begins like a SCRAM-SHA-256 verifier but is invalid; copy all of rolpassword from pg_authid'
  }
  return undefined
}
