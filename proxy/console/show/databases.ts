import type { Pool } from '../../engine/pool/pool.ts'
import type { ServerSource } from '../../engine/pool/server-source.ts'
import type { PoolSpec } from '../../spec.ts'
import { targetsOf } from '../../engine/pool/target.ts'
import { byKey } from '../join.ts'
import { consoleName } from '../console-name.ts'
import { common, connectionsOf, consoleSessions, sortedPools, sortedSources, sum } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'
import { balancing } from './pools.ts'

/**
 * One row per database, while Flotilla's settings are per (database, user): if users differ, the largest number is
 * shown, and NULL for texts. `max_connections` is what the pools of all users may hold together; 0 in
 * `max_client_connections` means no limit, as in PgBouncer.
 */
export const databases: Table = {
  columns: [
    ...texts('name', 'host'),
    ...integers('port'),
    ...texts('database', 'force_user'),
    ...integers('pool_size', 'min_pool_size', 'reserve_pool_size', 'server_lifetime'),
    ...texts('pool_mode', 'load_balance_hosts'),
    ...integers('max_connections', 'current_connections', 'max_client_connections', 'current_client_connections'),
    ...integers('paused', 'disabled'),
  ],
  join: byKey(1, [11, 12, 14]),
  rows: (engine) => {
    const { pools } = engine
    const rows: Row[] = []
    const sources = Map.groupBy(sortedSources(engine), (source) => source.database)
    for (const [database, all] of Map.groupBy(sortedPools(engine), (pool) => pool.database)) {
      const running = all.flatMap((pool) => pool.spec ?? [])
      const states = [pools.pauseApplies(database) ? 1 : 0, pools.isDisabled(database) ? 1 : 0]
      if (running.length > 0) rows.push([...rowOf(database, all, running, sources.get(database) ?? []), ...states])
    }
    rows.push(consoleRow(engine.port, consoleSessions(engine)))
    return rows
  },
}

function rowOf(
  database: string,
  all: readonly Pool[],
  running: readonly PoolSpec[],
  sources: readonly ServerSource[],
): Row {
  const targets = running.flatMap(targetsOf)
  const serverUser = common(running, (spec) => spec.serverUser)
  return [
    database,
    [...new Set(targets.map((target) => target.host.host))].join(','),
    targets[0]?.host.port ?? null,
    common(running, (spec) => spec.serverDatabase),
    running.some((spec) => spec.user !== serverUser) ? serverUser : null,
    largest(running, (spec) => spec.settings.poolSize),
    largest(running, (spec) => spec.settings.minPoolSize),
    largest(running, (spec) => spec.settings.reservePoolSize),
    largest(running, (spec) => Math.floor(spec.settings.serverLifetimeMs / 1000)),
    common(running, (spec) => spec.settings.poolMode),
    balancing(targets),
    // This worker's part: pools created for "*" are known to one worker only.
    sum(sources, (source) => source.partOf(source.current?.settings.poolSize ?? 0)),
    sum(sources, connectionsOf),
    largest(running, (spec) => spec.settings.maxDbClientConnections),
    sum(all, (pool) => pool.active.size + pool.idle.size + pool.waiting.size),
  ]
}

function consoleRow(port: number, sessions: number): Row {
  return [consoleName, null, port, consoleName, consoleName, 2, 0, 0, 3600, 'statement', null, 0, 0, 0, sessions, 0, 0]
}

function largest(specs: readonly PoolSpec[], of: (spec: PoolSpec) => number): number {
  return Math.max(...specs.map(of))
}
