import type { FleetDocument } from '../../shared/config/sections.ts'
import type { SecretRef } from '../../shared/config/credentials.ts'
import { effectiveGeneral, effectivePools, secretRefsOf } from '../../shared/config/effective.ts'
import type { EffectiveGeneral, EffectivePool, PoolHash } from '../../shared/config/effective.ts'
import type { Problem } from '../../shared/config/problems.ts'
import { unusedValues } from '../../shared/config/shared-servers.ts'
import { generalSettings } from '../../shared/config/settings.ts'
import { canonicalJson, poolHashes, sha256Hex } from '../../shared/hash.ts'
import type { Position } from '../../shared/wire.ts'

/** Everything derived from a document, computed once when its version is created. */
export interface VersionContent {
  /** RFC 8785 JSON. */
  readonly document: string
  readonly content_hash: string
  /** JSON of the manifest after the position, see `manifestBytes`. */
  readonly manifest: string
  readonly manifest_hash: string
  readonly pools: number
  /** Effective configurations by hash, the SHA-256 of the exact bytes of the body. */
  readonly bodies: readonly { readonly hash: string; readonly body: string }[]
  readonly poll_interval_ms: number
  /** What operators should know of the document. */
  readonly warnings: readonly Problem[]
}

/** What plans compare. */
export interface PlannedVersion {
  readonly document: FleetDocument
  readonly pools: readonly PoolHash[]
  readonly general: EffectiveGeneral
}

/** The epoch in which a version of a secret was made. */
export type SecretEpochs = (name: string, version: number) => number

/** `document` must be a stored one: without literal passwords, all secrets with versions. */
export function contentOf(document: FleetDocument, epochOf: SecretEpochs): VersionContent {
  const effective = effectivePools(document).map((pool) => withEpochs(pool, epochOf))
  const hashes = effective.map((pool) => ({ pool: pool.pool, user: pool.user, ...poolHashes(pool) }))
  const { settings, console_users } = effectiveGeneral(document)
  const general: EffectiveGeneral = {
    settings,
    console_users: console_users.map((user) => ({
      ...user,
      password: user.password === null ? null : withEpoch(user.password, epochOf),
    })),
  }
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
    warnings: unusedValues(document),
  }
}

/** Nothing is written of the first epoch, so that hashes stay as they are for as long as there was no restore. */
function withEpoch(ref: SecretRef, epochOf: SecretEpochs): SecretRef {
  if (!('secret' in ref)) return ref
  const epoch = epochOf(ref.secret, ref.version)
  return epoch === 1 ? ref : { ...ref, epoch }
}

function withEpochs(pool: EffectivePool, epochOf: SecretEpochs): EffectivePool {
  const refs = secretRefsOf(pool).map(([key, ref]) => [key, withEpoch(ref, epochOf)] as const)
  return { ...pool, ...Object.fromEntries(refs) }
}

/** The manifest as sent to proxies. The position comes first, so that the rest can be stored. */
export function manifestBytes(epoch: number, version: number, manifest: string): string {
  return `{"epoch":${epoch},"version":${version},${manifest}`
}

/** A stored document is a result of `contentOf`. */
export function documentOf({ document }: Pick<VersionContent, 'document'>): FleetDocument {
  return JSON.parse(document) as FleetDocument
}

export function plannedVersion(content: Pick<VersionContent, 'document' | 'manifest'>): PlannedVersion {
  const manifest = JSON.parse(`{${content.manifest}`) as Pick<PlannedVersion, 'pools' | 'general'>
  return { document: documentOf(content), ...manifest }
}

const etagHashLength = 16

/** Identifies one manifest: `"e1.v3.0123456789abcdef"`. */
export function manifestEtag(epoch: number, version: number, manifestHash: string): string {
  return `"e${epoch}.v${version}.${manifestHash.slice(0, etagHashLength)}"`
}

/** The position that such a tag names; null for anything else. */
export function etagPosition(etag: string): Position | null {
  const [, epoch, version] = /^"e(\d{1,15})\.v(\d{1,15})\./.exec(etag) ?? []
  return epoch === undefined || version === undefined ? null : { epoch: Number(epoch), version: Number(version) }
}
