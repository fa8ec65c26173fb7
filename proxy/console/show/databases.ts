import type { Pool } from '../../engine/pool/server-set.ts'
import type { PoolName } from '../../engine/pool/pool.ts'
import { byKey } from '../join.ts'
import { common, consoleName, consoleSessions, poolsOf, sortedNames, sum } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'
import { balancing } from './pools.ts'

/**
 * One row per database, while Flotilla's settings are per (database, user): where the users differ, a number is the
 * largest of theirs and a text is NULL. `max_connections` is what all users' pools may hold together; 0 in
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
    for (const [database, names] of Map.groupBy(sortedNames(engine), (name) => name.database)) {
      const running = names.flatMap((name) => name.current ?? [])
      const states = [pools.holds(database) ? 1 : 0, pools.isDisabled(database) ? 1 : 0]
      if (running.length > 0) rows.push([...rowOf(database, names, running), ...states])
    }
    rows.push(consoleRow(engine.port, consoleSessions(engine)))
    return rows
  },
}

function rowOf(database: string, names: readonly PoolName[], running: readonly Pool[]): Row {
  const targets = running.flatMap((pool) => pool.targets)
  const serverUser = common(running, (pool) => pool.spec.serverUser)
  return [
    database,
    [...new Set(targets.map((target) => target.host.host))].join(','),
    targets[0]?.host.port ?? null,
    common(running, (pool) => pool.spec.database),
    running.some((pool) => pool.spec.user !== serverUser) ? serverUser : null,
    largest(running, (pool) => pool.settings.poolSize),
    largest(running, (pool) => pool.settings.minPoolSize),
    largest(running, (pool) => pool.settings.reservePoolSize),
    largest(running, (pool) => Math.floor(pool.settings.serverLifetimeMs / 1000)),
    common(running, (pool) => pool.settings.poolMode),
    balancing(targets),
    // This worker's part: what was made for "*" is known to one worker only.
    sum(running, (pool) => pool.name.partOf(pool.settings.poolSize)),
    sum(names, (name) => sum(poolsOf(name), (pool) => pool.connections)),
    largest(running, (pool) => pool.settings.maxDbClientConnections),
    sum(names, (name) => name.active.size + name.idle.size + name.waiting.size),
  ]
}

function consoleRow(port: number, sessions: number): Row {
  return [consoleName, null, port, consoleName, consoleName, 2, 0, 0, 3600, 'statement', null, 0, 0, 0, sessions, 0, 0]
}

function largest(pools: readonly Pool[], of: (pool: Pool) => number): number {
  return Math.max(...pools.map(of))
}
