import type { PoolName } from '../../engine/pool/pool.ts'
import type { Server } from '../../engine/pool/server.ts'
import { byKey, columns } from '../join.ts'
import { compare, consoleName, consoleSessions, poolsOf, sortedNames, sum } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'
import { secondsAndMicros } from '../time.ts'

/**
 * A server that drains stands in its list like any other. `sv_tested` are servers in the reset between two sessions;
 * `sv_being_canceled` those that wait, free, for cancel requests that are still on their way to them.
 */
export const pools: Table = {
  columns: [
    ...texts('database', 'user'),
    ...integers('cl_active', 'cl_waiting', 'cl_active_cancel_req', 'cl_waiting_cancel_req'),
    ...integers('sv_active', 'sv_active_cancel', 'sv_being_canceled', 'sv_idle', 'sv_used', 'sv_tested', 'sv_login'),
    ...integers('maxwait', 'maxwait_us'),
    ...texts('pool_mode', 'load_balance_hosts'),
  ],
  join: joined,
  rows: (engine) => [...sortedNames(engine).map(rowOf), consoleRow(consoleSessions(engine))],
}

/** By database and user; the longest wait of any worker. */
function joined(ofWorkers: readonly (readonly Row[])[]): Row[] {
  const waitOf = (row: Row): number => Number(row[13]) * 1e6 + Number(row[14])
  const longest = ofWorkers.flat().toSorted((a, b) => waitOf(b) - waitOf(a))
  const place = (row: Row): number => (row[0] === consoleName ? 1 : 0)
  return byKey(
    2,
    columns(2, 12),
  )([longest]).toSorted(
    (a, b) => place(a) - place(b) || compare(String(a[0]), String(b[0])) || compare(String(a[1]), String(b[1])),
  )
}

function rowOf(name: PoolName): Row {
  const all = poolsOf(name)
  const cancels = sum(all, (pool) => sum(pool.active, cancelsOf) + sum(pool.canceled, cancelsOf))
  const pool = all[0] ?? null
  return [
    name.database,
    name.user,
    name.active.size + name.idle.size,
    name.waiting.size,
    cancels,
    0,
    sum(all, (pool) => pool.active.size + pool.replication.size),
    cancels,
    sum(all, (pool) => pool.canceled.size),
    sum(all, (pool) => pool.idle.size),
    0,
    sum(all, (pool) => pool.reset.size),
    sum(all, (pool) => pool.login.size),
    ...secondsAndMicros(name.maxWaitMs),
    pool?.settings.poolMode ?? null,
    pool === null ? null : balancing(pool.targets),
  ]
}

function consoleRow(sessions: number): Row {
  return [consoleName, consoleName, sessions, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'statement', null]
}

function cancelsOf(server: Server): number {
  return server.cancels
}

/** PgBouncer names its way of balancing only where there is more than one host. */
export function balancing(targets: readonly { readonly host: { readonly host: string } }[]): string | null {
  return new Set(targets.map((target) => target.host.host)).size > 1 ? 'round-robin' : null
}
