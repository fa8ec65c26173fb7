import type { PoolHash } from '../../shared/config/effective.ts'
import { wildcard } from '../../shared/config/wildcard.ts'
import type { OperatedPool } from '../../shared/operations.ts'
import type { PoolName, PoolReport, Serving } from '../../shared/wire.ts'
import type { OperatedState } from '../operation.ts'
import { mergedServing } from '../snapshot.ts'
import type { EngineSnapshot, PoolSnapshot } from '../snapshot.ts'
import type { ApplyError } from './failure.ts'

export interface PoolReportsOptions {
  readonly desired: readonly PoolHash[]
  /** Why the desired version does not run. */
  readonly error: ApplyError | null
  /** Undefined if no operator has done anything. */
  readonly operated?: OperatedState | undefined
  /** The wall clock. */
  readonly nowMs: number
}

/** Two times that are less apart are one: what an engine calls 3,000 ms ago it calls 3,001 ms ago the next time. */
const sameTimeMs = 2000

/**
 * What a report says of each pool. It remembers since when a pool does not serve, so that a pool without news is reported in
 * the same words.
 */
export class PoolReports {
  readonly #since = new Map<string, number>()

  /** One line for each pool that runs, drains or is desired; pools created for "*" are counted in its line. */
  of(snapshot: EngineSnapshot, { desired, error, operated, nowMs }: PoolReportsOptions): PoolReport[] {
    const wanted = new Map(desired.map((pool) => [nameKey(pool), pool.hash]))
    const present = new Set(snapshot.pools.map(nameKey))
    // Without their "*", draining pools have lines of their own.
    const made = Map.groupBy(snapshot.pools, ({ template }) =>
      template !== undefined && present.has(nameKey(template)) ? nameKey(template) : null,
    )
    const own = (made.get(null) ?? []).filter(({ sharedServers }) => sharedServers !== true)
    const running = new Map(own.map((pool) => [nameKey(pool), withMade(pool, made.get(nameKey(pool)) ?? [])]))
    const names = [...running.values(), ...desired.filter((pool) => !running.has(nameKey(pool)))]
    this.#forget(running)
    return names.map(({ pool, user }) => {
      const key = nameKey({ pool, user })
      const now = running.get(key)
      const desiredHash = wanted.get(key) ?? null
      const failure = desiredHash === now?.hash ? null : (error?.about(pool, user) ?? null)
      const overrides = now?.overridden === true ? snapshot.overrides : []
      return {
        pool,
        user,
        hash: now?.hash ?? null,
        desired_hash: desiredHash,
        state: failure === null ? calmState(now) : 'failed',
        draining_servers: now?.serversDraining ?? 0,
        ...(isWildcard(pool, user) ? { dynamic_pools: made.get(key)?.length ?? 0 } : {}),
        ...told(failure, overrides),
        ...(now === undefined || now.hash === null ? {} : { serving: this.#serving(key, now, nowMs) }),
        operated: operated === undefined ? [] : operatedStatesOf(operated, pool),
        overridden: overrides.map(keyOf),
      }
    })
  }

  #serving(key: string, { serving }: PoolSnapshot, nowMs: number): Serving {
    if (serving?.state !== 'failed') {
      this.#since.delete(key)
      const isTried = serving?.state === 'present' || serving?.state === 'proven'
      return { state: isTried ? 'yes' : 'not_yet_tried', cause: null, since: null }
    }
    const sinceMs = nowMs - serving.forMs
    const known = this.#since.get(key)
    const kept = known !== undefined && Math.abs(known - sinceMs) < sameTimeMs ? known : sinceMs
    this.#since.set(key, kept)
    const { sqlstate, message } = serving
    return { state: 'no', cause: `${sqlstate}: ${message}`, since: new Date(kept).toISOString() }
  }

  #forget(running: ReadonlyMap<string, unknown>): void {
    for (const key of this.#since.keys()) if (!running.has(key)) this.#since.delete(key)
  }
}

/** Of "key = value". */
export function keyOf(override: string): string {
  return override.slice(0, override.indexOf(' '))
}

function nameKey({ pool, user }: PoolName): string {
  return JSON.stringify([pool, user])
}

/** What operators should know about the pool. */
function told(failure: ApplyError | null, overrides: readonly string[]): Pick<PoolReport, 'code' | 'message'> {
  if (failure !== null) return { code: failure.code, message: failure.message }
  if (overrides.length === 0) return { code: null, message: null }
  return { code: 'overridden', message: `SET at the proxy's console: ${overrides.join(', ')}` }
}

/** PAUSE, DISABLE and SUSPEND, as far as they concern a pool. */
function operatedStatesOf({ pausedAll, paused, disabled, suspended }: OperatedState, pool: string): OperatedPool[] {
  return [
    ...(pausedAll || paused.includes(pool) ? ['paused' as const] : []),
    ...(disabled.includes(pool) ? ['disabled' as const] : []),
    ...(suspended ? ['suspended' as const] : []),
  ]
}

/** Draining servers of pools created for "*" count for it, and it serves as they do. */
function withMade(pool: PoolSnapshot, made: readonly PoolSnapshot[]): PoolSnapshot {
  if (made.length === 0) return pool
  const serversDraining = made.reduce((sum, one) => sum + one.serversDraining, pool.serversDraining)
  return { ...pool, serversDraining, serving: mergedServing([pool.serving, ...made.map(({ serving }) => serving)]) }
}

function isWildcard(pool: string, user: string): boolean {
  return pool === wildcard || user === wildcard
}

function calmState(pool: PoolSnapshot | undefined): 'running' | 'draining' {
  return pool !== undefined && pool.serversDraining > 0 ? 'draining' : 'running'
}

/** What has changed between two reports, by pool. */
export interface PoolChanges {
  readonly changed: readonly PoolReport[]
  readonly removed: readonly PoolName[]
}

/** Each pool of a report as text, by name. */
export type ToldPools = ReadonlyMap<string, string>

export function toldPools(pools: readonly PoolReport[]): ToldPools {
  return new Map(pools.map((pool) => [nameKey(pool), JSON.stringify(pool)]))
}

export function poolChanges(before: ToldPools, now: readonly PoolReport[]): PoolChanges {
  const names = new Set(now.map(nameKey))
  return {
    changed: now.filter((pool) => before.get(nameKey(pool)) !== JSON.stringify(pool)),
    removed: [...before.keys()].filter((key) => !names.has(key)).map(nameOf),
  }
}

function nameOf(key: string): PoolName {
  const [pool, user] = JSON.parse(key) as [string, string]
  return { pool, user }
}
