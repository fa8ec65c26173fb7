import type { FleetDocument } from '../../shared/config/sections.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import type { EffectiveGeneral, PoolHash } from '../../shared/config/effective.ts'
import type { Problem } from '../../shared/config/problems.ts'
import { unusedValues } from '../../shared/config/shared-servers.ts'
import { generalSettings } from '../../shared/config/settings.ts'
import { canonicalJson, poolHashes, sha256Hex } from '../../shared/hash.ts'

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

/** `document` must be a stored one: without literal passwords, all secrets with versions. */
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
    warnings: unusedValues(document),
  }
}

/** The manifest as sent to proxies. The position comes first, so that the rest can be stored. */
export function manifestBytes(epoch: number, version: number, manifest: string, isForced: boolean): string {
  // Only where it is true: proxies that do not know the field try nothing anyway.
  const forced = isForced ? '"forced":true,' : ''
  return `{"epoch":${epoch},"version":${version},${forced}${manifest}`
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
