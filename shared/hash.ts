import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import canonicalize from 'canonicalize'
import { bodyIn } from './config/body-format.ts'
import { credentialEntries } from './config/credentials.ts'
import type { SecretRef } from './config/credentials.ts'
import { secretRefsOf } from './config/effective.ts'
import type { EffectivePool } from './config/effective.ts'
import { newestFormat } from './config/formats.ts'
import type { BodyFormat } from './config/formats.ts'
import { poolKeys } from './config/keys.ts'
import type { KeySpec } from './config/keys.ts'

/** SHA-256 of the text in UTF-8, in lower-case hex. */
export function sha256Hex(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)))
}

/** RFC 8785 canonical JSON: equal values give equal text, independent of the order of keys. */
export function canonicalJson(value: object): string {
  const text = canonicalize(value)
  if (text === undefined) throw new TypeError('value has no JSON form')
  return text
}

/** SHA-256 of the canonical JSON, in lower-case hex. */
export function hashOf(value: object): string {
  return sha256Hex(canonicalJson(value))
}

/**
 * `hash` decides whether a pool changes, `connect_hash` whether its servers are kept: it covers the addresses, database and
 * role of server connections, and the keys of class "connect". Both are of the body in one format. Of a literal password
 * only the digest is hashed. `keys`: the table of pool keys.
 */
export function poolHashes(
  effective: EffectivePool,
  format: BodyFormat = newestFormat,
  keys: Readonly<Record<string, KeySpec>> = poolKeys,
): PoolHashes {
  const { hash, connect_hash } = hashedBody(effective, format, keys)
  return { hash, connect_hash }
}

/** The body of a pool as canonical JSON, and its hashes. */
export function hashedBody(
  effective: EffectivePool,
  format: BodyFormat,
  keys: Readonly<Record<string, KeySpec>> = poolKeys,
): PoolHashes & { readonly body: string } {
  const named: Record<string, unknown> = { ...bodyIn(format, effective, keys) }
  for (const [key, ref] of secretRefsOf(effective)) named[key] = withoutLiteral(ref)
  const connect: Record<string, unknown> = { database: effective.database, servers: effective.servers }
  for (const [key, spec] of [...credentialEntries(), ...Object.entries(keys)]) {
    if (spec.class === 'connect' && Object.hasOwn(named, key)) connect[key] = named[key]
  }
  const body = canonicalJson(named)
  return { body, hash: sha256Hex(body), connect_hash: hashOf(connect) }
}

export interface PoolHashes {
  readonly hash: string
  readonly connect_hash: string
}

function withoutLiteral(ref: SecretRef): object {
  return 'literal' in ref ? { literal_sha256: sha256Hex(ref.literal) } : ref
}
