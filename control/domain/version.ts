import type { FleetDocument } from '../../shared/config/document.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import type { EffectiveGeneral, PoolHash } from '../../shared/config/effective.ts'
import { generalSettings } from '../../shared/config/settings.ts'
import { canonicalJson, poolHashes, sha256Hex } from '../../shared/hash.ts'

/** Everything that follows from a document, made once, when its version is made. */
export interface VersionContent {
  /** RFC 8785 JSON. */
  readonly document: string
  readonly content_hash: string
  /** The manifest's JSON after its position, see `manifestBytes`. */
  readonly manifest: string
  readonly manifest_hash: string
  readonly pools: number
  /** Effective configurations by hash: the hash is the SHA-256 of the body's very bytes. */
  readonly bodies: readonly { readonly hash: string; readonly body: string }[]
  readonly poll_interval_ms: number
}

/** What two versions are compared by. */
export interface ManifestContent {
  readonly pools: readonly PoolHash[]
  readonly general: EffectiveGeneral
}

/** `document` must be a stored one: no literal passwords, every secret with its version. */
export function contentOf(document: FleetDocument): VersionContent {
  const effective = effectivePools(document)
  const hashes = effective.map((pool) => ({ pool: pool.pool, user: pool.user, ...poolHashes(pool) }))
  const general = effectiveGeneral(document)
  const text = canonicalJson(document)
  const manifest = `"pools":${JSON.stringify(hashes)},"general":${JSON.stringify(general)}}`
  return {
    document: text,
    content_hash: sha256Hex(text),
    manifest,
    manifest_hash: sha256Hex(manifest),
    pools: hashes.length,
    bodies: effective.map((pool, index) => ({ hash: hashes[index]!.hash, body: canonicalJson(pool) })),
    poll_interval_ms: generalSettings(general.settings).pollIntervalMs,
  }
}

/** A manifest as a proxy gets it. The position stands in front, so that the rest is never made again. */
export function manifestBytes(epoch: number, version: number, manifest: string): string {
  return `{"epoch":${epoch},"version":${version},${manifest}`
}

/** Reads what `contentOf` wrote. */
export function manifestContent(manifest: string): ManifestContent {
  return JSON.parse(`{${manifest}`) as ManifestContent
}

const etagHashLength = 16

/** Names one manifest for good: `"e1.v3.0123456789abcdef"`. */
export function manifestEtag(epoch: number, version: number, manifestHash: string): string {
  return `"e${epoch}.v${version}.${manifestHash.slice(0, etagHashLength)}"`
}
