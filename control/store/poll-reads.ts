import { and, eq, isNotNull, isNull, sql } from 'drizzle-orm'
import { control, fleets, manifests, tokens, versions } from './schema.ts'
import type { Store } from './store.ts'

/** The current offer of a fleet. `version` is 0 and `manifest_hash` empty before the first configuration. */
export interface Offer {
  readonly epoch: number
  readonly version: number
  readonly manifest_hash: string
  /** Number of the newest order; 0 before the first. */
  readonly order_number: number
  readonly poll_interval_ms: number
}

/** Reads of every poll, prepared once: building such a query takes longer than running it. */
export interface HotReads {
  /** A token that is not revoked. */
  token(sha256: string): Promise<{ readonly id: string; readonly fleet: string } | undefined>
  /** The fleet of a token that was revoked. */
  revokedTokenFleet(sha256: string): Promise<string | undefined>
  /** Undefined if there is no such fleet. */
  offer(fleet: string): Promise<Offer | undefined>
  /** The manifest of a version without its position, see schema.ts; undefined if it was made before that format. */
  manifest(fleet: string, version: number, format: number): Promise<string | undefined>
  /** Whether proxies apply it without trying its servers first. */
  isForced(fleet: string, version: number): Promise<boolean>
}

export function prepareHotReads(store: Store): HotReads {
  const token = store.db
    .select({ id: tokens.id, fleet: tokens.fleet })
    .from(tokens)
    .where(and(eq(tokens.sha256, sql.placeholder('sha256')), isNull(tokens.revoked_at)))
    .prepare()
  const revokedTokenFleet = store.db
    .select({ fleet: tokens.fleet })
    .from(tokens)
    .where(and(eq(tokens.sha256, sql.placeholder('sha256')), isNotNull(tokens.revoked_at)))
    .prepare()
  const offer = store.db
    .select({
      epoch: control.epoch,
      version: fleets.version,
      manifest_hash: fleets.manifest_hash,
      order_number: fleets.order_number,
      poll_interval_ms: fleets.poll_interval_ms,
    })
    .from(fleets)
    .innerJoin(control, eq(control.id, 1))
    .where(eq(fleets.name, sql.placeholder('fleet')))
    .prepare()
  const manifest = store.db
    .select({ manifest: versions.manifest })
    .from(versions)
    .where(and(eq(versions.fleet, sql.placeholder('fleet')), eq(versions.version, sql.placeholder('version'))))
    .prepare()
  const forced = store.db
    .select({ forced: versions.forced })
    .from(versions)
    .where(and(eq(versions.fleet, sql.placeholder('fleet')), eq(versions.version, sql.placeholder('version'))))
    .prepare()
  const manifestIn = store.db
    .select({ manifest: manifests.manifest })
    .from(manifests)
    .where(
      and(
        eq(manifests.fleet, sql.placeholder('fleet')),
        eq(manifests.version, sql.placeholder('version')),
        eq(manifests.format, sql.placeholder('format')),
      ),
    )
    .prepare()
  return {
    token: async (sha256) => await token.get({ sha256 }),
    revokedTokenFleet: async (sha256) => (await revokedTokenFleet.get({ sha256 }))?.fleet,
    offer: async (fleet) => await offer.get({ fleet }),
    isForced: async (fleet, version) => (await forced.get({ fleet, version }))?.forced === true,
    manifest: async (fleet, version, format) =>
      format === 1
        ? (await manifest.get({ fleet, version }))?.manifest
        : (await manifestIn.get({ fleet, version, format }))?.manifest,
  }
}
