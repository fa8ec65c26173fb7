import { bodyIn, generalIn } from '../../shared/config/body-format.ts'
import { secretRefsOf } from '../../shared/config/effective.ts'
import type { EffectivePool } from '../../shared/config/effective.ts'
import type { BodyFormat } from '../../shared/config/formats.ts'
import { poolHashes } from '../../shared/hash.ts'
import type { PoolHashes } from '../../shared/hash.ts'
import type { Manifest } from '../../shared/wire.ts'
import type { Candidate } from './applier.ts'
import { ControlError, type ControlClient } from './control-client.ts'
import { ApplyError } from './failure.ts'
import { inParallel } from './in-parallel.ts'
import { reasonOf } from './log.ts'
import { offeredAs, formatOf, verifyBody, verifyFormat, verifyGeneral, type Offer, type OfferedPool } from './offer.ts'
import { secretKey } from './secrets.ts'
import type { LastKnownGood } from './state.ts'

/** Maximum number of concurrent requests for pool bodies. */
const fetchesAtOnce = 8

/**
 * Turns manifests into candidates: fetches missing pool bodies, verifies them, and keeps those of the running version
 * and the candidate.
 */
export class ControlSource {
  readonly #control: Pick<ControlClient, 'poolBody'>
  /** Verified bodies by the hash under which they are offered. */
  readonly #held = new Map<string, OfferedPool>()
  #heldFormat: BodyFormat = 1
  readonly #onDisk = new WeakMap<EffectivePool, PoolHashes>()
  /** The manifest of each offer. */
  readonly #origins = new WeakMap<Offer, { readonly manifest: Manifest; readonly etag: string | null }>()

  /** Of the last manifest that was loaded; 0 before the first. */
  #epoch = 0
  readonly #onNewEpoch: () => void

  /** `onNewEpoch`: control's store was restored from a backup since the last version. */
  constructor(control: Pick<ControlClient, 'poolBody'>, onNewEpoch: () => void) {
    this.#control = control
    this.#onNewEpoch = onNewEpoch
  }

  candidate(manifest: Manifest, etag: string | null): Candidate {
    const { epoch, version } = manifest
    return {
      position: { epoch, version },
      format: manifest.body_format ?? 1,
      pools: manifest.pools,
      load: async () => await this.#load(manifest, etag),
      force: false,
      ...(manifest.forced === true ? { unproven: true } : {}),
    }
  }

  /** The version of the last run, as it was offered. A body damaged on disk is fetched again. */
  lastKnownGood(good: LastKnownGood): Candidate {
    for (const promised of good.manifest.pools) {
      const body = good.bodies[promised.hash]
      if (body === undefined) continue
      try {
        this.#held.set(promised.hash, verifyBody(promised, body))
      } catch {
        // Not kept, so it is fetched like any other.
      }
    }
    // Of a later release, the manifest in full is what can be read.
    const isKnown = good.offered !== undefined && formatOf(good.offered) !== undefined
    return this.candidate(isKnown ? good.offered : good.manifest, good.etag)
  }

  /** Drops what the running offer does not need. Returns what is saved on disk of it, and its secrets. */
  applied(offer: Offer): (Omit<LastKnownGood, 'secrets' | 'addresses'> & { secretKeys: Set<string> }) | undefined {
    const needed = new Set(offer.pools.map(offeredHashOf))
    for (const hash of this.#held.keys()) {
      if (!needed.has(hash)) this.#held.delete(hash)
    }
    const origin = this.#origins.get(offer)
    if (origin === undefined) return undefined
    const { manifest: offered, etag } = origin
    const { body_format: format = 1, ...manifest } = offered
    const lines = offer.pools.map(({ body }) => ({ pool: body.pool, user: body.user, ...this.#hashesOnDisk(body) }))
    const bodies = lines.map(({ hash }, index) => [hash, bodyIn(1, offer.pools[index]!.body)])
    const { settings, console_users } = generalIn(1, { settings: offer.general, console_users: offer.consoleUsers })
    const general = { settings, console_users: [...console_users] }
    return {
      manifest: { ...manifest, pools: lines, general },
      ...(format === 1 ? {} : { offered }),
      etag,
      bodies: Object.fromEntries(bodies) as LastKnownGood['bodies'],
      secretKeys: secretKeysOf(offer),
    }
  }

  /** On disk, bodies are in format 1, which every release reads. */
  #hashesOnDisk(body: EffectivePool): PoolHashes {
    const known = this.#onDisk.get(body) ?? poolHashes(body, 1)
    this.#onDisk.set(body, known)
    return known
  }

  async #load(manifest: Manifest, etag: string | null): Promise<Offer> {
    const { epoch, version } = manifest
    if (this.#epoch > 0 && epoch > this.#epoch) this.#onNewEpoch()
    this.#epoch = Math.max(this.#epoch, epoch)
    this.#holdIn(verifyFormat(manifest))
    const general = verifyGeneral(manifest.general)
    const pools = await inParallel(manifest.pools, fetchesAtOnce, async (promised) => await this.#body(promised))
    const offer: Offer = { position: { epoch, version }, ...general, pools }
    this.#origins.set(offer, { manifest, etag })
    return offer
  }

  /** Adds the hashes of another format, so that what is held is not fetched once more only to be named otherwise. */
  #holdIn(format: BodyFormat): void {
    if (format === this.#heldFormat) return
    this.#heldFormat = format
    const others = Array.from(this.#held.values(), ({ body }) => offeredAs(poolHashes(body, format).hash, body))
    for (const pool of others) this.#held.set(offeredHashOf(pool), pool)
  }

  async #body(promised: Manifest['pools'][number]): Promise<OfferedPool> {
    const held = this.#held.get(promised.hash)
    if (held !== undefined) return held
    const verified = verifyBody(promised, await this.#fetch(promised))
    this.#held.set(promised.hash, verified)
    return verified
  }

  async #fetch({ pool, user, hash }: Manifest['pools'][number]): Promise<unknown> {
    try {
      return await this.#control.poolBody(hash)
    } catch (error) {
      if (!(error instanceof ControlError)) throw error
      throw new ApplyError('body_unavailable', reasonOf(error), { pool, user, cause: error })
    }
  }
}

function offeredHashOf({ hash, offeredHash }: OfferedPool): string {
  return offeredHash ?? hash
}

function secretKeysOf(offer: Offer): Set<string> {
  const refs = [
    ...offer.pools.flatMap(({ body }) => secretRefsOf(body).map(([, ref]) => ref)),
    ...offer.consoleUsers.map(({ password }) => password),
  ]
  return new Set(refs.filter((ref) => ref !== null).flatMap((ref) => ('secret' in ref ? [secretKey(ref)] : [])))
}
