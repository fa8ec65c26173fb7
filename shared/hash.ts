import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import canonicalize from 'canonicalize'
import { credentialEntries } from './config/credentials.ts'
import type { SecretRef } from './config/credentials.ts'
import { secretRefsOf } from './config/effective.ts'
import type { EffectivePool } from './config/effective.ts'
import { poolKeys } from './config/keys.ts'

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
 * role of server connections, and the keys of class "connect". Of a literal password only the digest is hashed.
 */
export function poolHashes(effective: EffectivePool): { readonly hash: string; readonly connect_hash: string } {
  const body: Record<string, unknown> = { ...effective }
  for (const [key, ref] of secretRefsOf(effective)) body[key] = withoutLiteral(ref)
  const connect: Record<string, unknown> = { database: effective.database, servers: effective.servers }
  for (const [key, spec] of credentialEntries()) if (spec.class === 'connect') connect[key] = body[key]
  for (const [key, spec] of Object.entries(poolKeys)) {
    if ((spec.class as string) === 'connect') connect[key] = effective[key as keyof typeof poolKeys]
  }
  return { hash: hashOf(body), connect_hash: hashOf(connect) }
}

function withoutLiteral(ref: SecretRef): object {
  return 'literal' in ref ? { literal_sha256: sha256Hex(ref.literal) } : ref
}
