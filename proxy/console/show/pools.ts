import type { Pool } from '../../engine/pool/pool.ts'
import type { Server } from '../../engine/pool/server.ts'
import { byKey, columns } from '../join.ts'
import { consoleName } from '../console-name.ts'
import { compare, consoleSessions, sortedPools, sum } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'
import { secondsAndMicros } from '../time.ts'

/**
 * A draining server is counted in its list like any other. `sv_tested` are servers being reset between two sessions;
 * `sv_being_canceled` are free servers waiting for cancel requests on their way to them.
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
  rows: (engine) => [...sortedPools(engine).map(rowOf), consoleRow(consoleSessions(engine))],
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

function rowOf(pool: Pool): Row {
  const all = pool.serverSets
  const cancels = sum(all, (serverSet) => sum(serverSet.active, cancelsOf) + sum(serverSet.canceled, cancelsOf))
  const serverSet = all[0] ?? null
  return [
    pool.database,
    pool.user,
    pool.active.size + pool.idle.size,
    pool.waiting.size,
    cancels,
    0,
    sum(all, (serverSet) => serverSet.active.size + serverSet.replication.size),
    cancels,
    sum(all, (serverSet) => serverSet.canceled.size),
    sum(all, (serverSet) => serverSet.idle.size),
    0,
    sum(all, (serverSet) => serverSet.reset.size),
    sum(all, (serverSet) => serverSet.login.size),
    ...secondsAndMicros(pool.maxWaitMs),
    serverSet?.settings.poolMode ?? null,
    serverSet === null ? null : balancing(serverSet.targets),
  ]
}

function consoleRow(sessions: number): Row {
  return [consoleName, consoleName, sessions, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'statement', null]
}

function cancelsOf(server: Server): number {
  return server.cancels
}

/** PgBouncer shows its load balancing only for more than one host. */
export function balancing(targets: readonly { readonly host: { readonly host: string } }[]): string | null {
  return new Set(targets.map((target) => target.host.host)).size > 1 ? 'round-robin' : null
}
