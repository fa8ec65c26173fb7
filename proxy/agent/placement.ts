import type { FleetSpec, PoolSpec } from '../spec.ts'

/** A database with fewer servers per worker is not divided. */
const sharePerWorkerMin = 2

/**
 * Assigns each database to all workers or to one, remembered in `homes`. Limits are exact either way; but with a limit
 * below the sum of the pools, or with few servers, servers would move back and forth between workers at the price of
 * logins.
 */
export function placed(spec: FleetSpec, workers: number, placements: Map<string, number>): FleetSpec {
  if (workers === 1) return spec
  const databases = Map.groupBy(spec.pools, (pool) => pool.database)
  for (const database of placements.keys()) if (!databases.has(database)) placements.delete(database)
  const loads = Array.from({ length: workers }, () => 0)
  // Users with the same role share its servers.
  const sizeOf = (pools: readonly PoolSpec[]): number =>
    [...new Map(pools.map((pool) => [pool.serverUser, pool.settings.poolSize])).values()].reduce(
      (sum, size) => sum + size,
      0,
    )
  const atHome = [...databases].filter(([, pools]) => !pools.every((pool) => isDivided(pool, workers)))
  for (const [database, pools] of atHome) {
    const worker = placements.get(database)
    if (worker !== undefined) loads[worker] = (loads[worker] ?? 0) + sizeOf(pools)
  }
  for (const [database, pools] of atHome) {
    if (placements.has(database)) continue
    const worker = loads.indexOf(Math.min(...loads))
    placements.set(database, worker)
    loads[worker] = (loads[worker] ?? 0) + sizeOf(pools)
  }
  const homeOf = new Map(atHome.map(([database]) => [database, placements.get(database)]))
  return {
    ...spec,
    pools: spec.pools.map((pool) => {
      const worker = homeOf.get(pool.database)
      return worker === undefined ? pool : { ...pool, worker }
    }),
  }
}

function isDivided({ settings }: PoolSpec, workers: number): boolean {
  const { poolSize, maxDbConnections, maxUserConnections, maxAddressConnections } = settings
  return poolSize >= sharePerWorkerMin * workers && maxDbConnections + maxUserConnections + maxAddressConnections === 0
}
