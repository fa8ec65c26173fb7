import { sha256Hex } from '../../shared/hash.ts'
import type { PoolHash } from '../../shared/config/effective.ts'
import type { PoolName, PoolReport } from '../../shared/wire.ts'

/** What a state is made of, so that the pools of ten thousand proxies are not read for each list. */
export interface PoolFacts {
  /** Digest of what runs, see `digestOf`. */
  readonly running: string
  /** Number of pools that run. */
  readonly count: number
  readonly notServing: { readonly count: number; readonly first: readonly NotServing[] }
  /** Pools (databases) by what operators have done to them. */
  readonly operated: { readonly paused: readonly string[]; readonly disabled: readonly string[] }
  /** False for a proxy of 0.1.0, which does not say. */
  readonly tellsOperated: boolean
  readonly suspended: boolean
  /** Old servers that still finish a transaction. */
  readonly drainingServers: number
}

export interface NotServing extends PoolName {
  readonly cause: string | null
  readonly since: string | null
}

/** How many pools are told by name. */
const firstMax = 3

/** Equal for equal pools with equal hashes, in any order. */
export function digestOf(pools: readonly Pick<PoolHash, 'pool' | 'user' | 'hash'>[]): string {
  return sha256Hex(
    pools
      .map(({ pool, user, hash }) => JSON.stringify([pool, user, hash]))
      .sort()
      .join('\n'),
  )
}

export function poolFactsOf(pools: readonly PoolReport[]): PoolFacts {
  const running = runningOf(pools)
  const silent = pools.filter(({ serving }) => serving?.state === 'no')
  const first = silent.slice(0, firstMax).map(({ pool, user, serving }): NotServing => {
    return { pool, user, cause: serving?.cause ?? null, since: serving?.since ?? null }
  })
  const operated = (state: 'paused' | 'disabled'): string[] => [
    ...new Set(pools.filter((one) => one.operated?.includes(state) === true).map(({ pool }) => pool)),
  ]
  return {
    running: digestOf(running),
    count: running.length,
    notServing: { count: silent.length, first },
    operated: { paused: operated('paused'), disabled: operated('disabled') },
    tellsOperated: pools.some((one) => one.operated !== undefined),
    suspended: pools.some((one) => one.operated?.includes('suspended') === true),
    drainingServers: pools.reduce((sum, pool) => sum + pool.draining_servers, 0),
  }
}

function runningOf(pools: readonly PoolReport[]): { pool: string; user: string; hash: string }[] {
  return pools.flatMap(({ pool, user, hash }) => (hash === null ? [] : [{ pool, user, hash }]))
}

/** How what runs differs from what is desired, in words. */
export function differences(
  desired: readonly Pick<PoolHash, 'pool' | 'user' | 'hash'>[],
  pools: readonly PoolReport[],
): string[] {
  const running = new Map(runningOf(pools).map((pool) => [nameOf(pool), pool.hash]))
  if (running.size === 0) return ['it reports none of its pools']
  const wanted = new Map(desired.map((pool) => [nameOf(pool), pool.hash]))
  const missing = [...wanted.keys()].filter((name) => !running.has(name))
  const other = [...wanted].filter(([name, hash]) => (running.get(name) ?? hash) !== hash).map(([name]) => name)
  const surplus = [...running.keys()].filter((name) => !wanted.has(name))
  return [
    ...(other.length === 0 ? [] : [`${listed(other)} runs something else`]),
    ...(missing.length === 0 ? [] : [`${listed(missing)} does not run`]),
    ...(surplus.length === 0 ? [] : [`${listed(surplus)} is not in the configuration`]),
  ]
}

/** The first names, and how many more there are. */
export function listed(names: readonly string[]): string {
  const first = names.slice(0, firstMax).join(', ')
  return names.length > firstMax ? `${first} and ${names.length - firstMax} more` : first
}

export function nameOf({ pool, user }: PoolName): string {
  return `${pool}/${user}`
}

/** The pools of a report that tells only changes, applied to those of the report that it is about. */
export function mergedPools(
  before: readonly PoolReport[],
  changed: readonly PoolReport[],
  removed: readonly PoolName[],
): PoolReport[] {
  const keyOf = ({ pool, user }: PoolName): string => JSON.stringify([pool, user])
  const pools = new Map(before.map((pool) => [keyOf(pool), pool]))
  for (const name of removed) pools.delete(keyOf(name))
  for (const pool of changed) pools.set(keyOf(pool), pool)
  return [...pools.values()]
}
