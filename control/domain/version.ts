import { effectiveOf, generalIn, generalOf } from '../../shared/config/body-format.ts'
import type { FleetDocument } from '../../shared/config/sections.ts'
import type { SecretRef } from '../../shared/config/credentials.ts'
import { effectiveGeneral, effectivePools, secretRefsOf } from '../../shared/config/effective.ts'
import type { EffectiveGeneral, EffectivePool, PoolHash } from '../../shared/config/effective.ts'
import { bodyFormats } from '../../shared/config/formats.ts'
import type { BodyFormat } from '../../shared/config/formats.ts'
import type { Problem } from '../../shared/config/problems.ts'
import { unusedValues } from '../../shared/config/shared-servers.ts'
import { generalSettings } from '../../shared/config/settings.ts'
import { canonicalJson, hashedBody, sha256Hex } from '../../shared/hash.ts'
import type { Orders, Position } from '../../shared/wire.ts'

/** A pool body, by the SHA-256 of its exact bytes. */
export interface PoolBody {
  readonly hash: string
  readonly body: string
}

/** What proxies of one body format are offered. */
export interface OfferedContent {
  readonly format: BodyFormat
  /** JSON of the manifest after the position, see `manifestBytes`. */
  readonly manifest: string
  readonly bodies: readonly PoolBody[]
}

/** Everything derived from a document, computed once when its version is created. */
export interface VersionContent {
  /** RFC 8785 JSON. */
  readonly document: string
  readonly content_hash: string
  /** In format 1. */
  readonly manifest: string
  readonly manifest_hash: string
  readonly pools: number
  /** By format, in the order of `bodyFormats`. */
  readonly offered: readonly OfferedContent[]
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
  const offered = bodyFormats.map((format) => offeredContent(document, format, epochOf))
  const text = canonicalJson(document)
  const { manifest, bodies } = offered[0]!
  return {
    document: text,
    content_hash: sha256Hex(text),
    manifest,
    manifest_hash: sha256Hex(manifest),
    pools: bodies.length,
    offered,
    poll_interval_ms: generalSettings(document.general).pollIntervalMs,
    warnings: unusedValues(document),
  }
}

/** What proxies of `format` are offered of a document. */
function offeredContent(document: FleetDocument, format: BodyFormat, epochOf: SecretEpochs): OfferedContent {
  const pools = effectivePools(document, format).map((pool) => withEpochs(pool, epochOf))
  const { settings, console_users } = effectiveGeneral(document)
  const users = console_users.map(({ password, ...user }) => {
    return { ...user, password: password === null ? null : withEpoch(password, epochOf) }
  })
  return offeredIn(format, pools, { settings, console_users: users })
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

/**
 * The content of a version of before `format` in it: of its bodies in format 1 and not of its document, so that a version
 * stays what it was, whatever rules and defaults are today.
 */
export function reformatted(manifest: string, bodies: ReadonlyMap<string, string>, format: BodyFormat): OfferedContent {
  const { pools, general } = parseManifest(manifest)
  const effective = pools.map(({ hash }) => effectiveOf(JSON.parse(bodies.get(hash)!) as Record<string, unknown>))
  return offeredIn(format, effective, general)
}

function offeredIn(
  format: BodyFormat,
  effective: readonly EffectivePool[],
  generalPart: EffectiveGeneral,
): OfferedContent {
  const pools: PoolHash[] = []
  const bodies: PoolBody[] = []
  for (const one of effective) {
    const { body, hash, connect_hash } = hashedBody(one, format)
    pools.push({ pool: one.pool, user: one.user, hash, connect_hash })
    bodies.push({ hash, body })
  }
  const general = generalIn(format, generalPart)
  // Release 0.1.0 knows no body_format, and its manifests stay what they are, byte for byte.
  const named = format === 1 ? '' : `"body_format":${format},`
  return { format, manifest: `${named}"pools":${JSON.stringify(pools)},"general":${JSON.stringify(general)}}`, bodies }
}

/** The manifest as sent to proxies. Position and orders come first, so that the rest can be stored. */
export function manifestBytes(
  { epoch, version }: Position,
  { orders, isForced }: { readonly orders: Orders; readonly isForced: boolean },
  manifest: string,
): string {
  // Only where it is true: proxies that do not know the field try nothing anyway.
  const forced = isForced ? '"forced":true,' : ''
  return `{"epoch":${epoch},"version":${version},${forced}"operations":${JSON.stringify(orders)},${manifest}`
}

/** The lines of a stored manifest: the hashes that the proxies of its format should run. */
export function desiredHashes(manifest: string): readonly PoolHash[] {
  return parseManifest(manifest).pools
}

/** A stored manifest, with all general settings. */
function parseManifest(manifest: string): Pick<PlannedVersion, 'pools' | 'general'> {
  // Written by `offeredIn`, of this release or another one.
  const { pools, general } = JSON.parse(`{${manifest}`) as Pick<PlannedVersion, 'pools' | 'general'>
  return { pools, general: { ...general, settings: generalOf(general.settings) } }
}

/** A stored document is a result of `contentOf`. */
export function documentOf({ document }: Pick<VersionContent, 'document'>): FleetDocument {
  return JSON.parse(document) as FleetDocument
}

/** `manifest`: of the version, in the newest format. */
export function plannedVersion(row: Pick<VersionContent, 'document'>, manifest: string): PlannedVersion {
  return { document: documentOf(row), ...parseManifest(manifest) }
}

const etagHashLength = 16

/**
 * Identifies one manifest: `"e1.v3.0123456789abcdef"` in format 1, followed by `.f2` in another format, and by `.o5` if five
 * orders were given. The hash is that of format 1 in any case: a version has one manifest in each format, and the ETag of a
 * poll is made of one row.
 */
export function manifestEtag(
  { epoch, version }: Position,
  manifestHash: string,
  orderNumber: number,
  format: BodyFormat,
): string {
  const suffix = format === 1 ? '' : `.f${format}`
  const orders = orderNumber === 0 ? '' : `.o${orderNumber}`
  return `"e${epoch}.v${version}.${manifestHash.slice(0, etagHashLength)}${suffix}${orders}"`
}

/** The position that such a tag names; null for anything else. */
export function etagPosition(etag: string): Position | null {
  const [, epoch, version] = /^"e(\d{1,15})\.v(\d{1,15})\./.exec(etag) ?? []
  return epoch === undefined || version === undefined ? null : { epoch: Number(epoch), version: Number(version) }
}
