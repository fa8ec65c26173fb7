import type { Pool } from '../../engine/pool/pool.ts'
import type { Server } from '../../engine/pool/server.ts'
import type { ServerSource } from '../../engine/pool/server-source.ts'
import { targetsOf } from '../../engine/pool/target.ts'
import type { OperatedEngine } from '../operated-engine.ts'
import { byKey, columns } from '../join.ts'
import { consoleName } from '../console-name.ts'
import { compare, consoleSessions, sum } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'
import { secondsAndMicros } from '../time.ts'

/**
 * One row per database and user, or, where users share their servers, per database and the role of these servers, as in
 * PgBouncer: the clients of all these users, and each server once. A draining server is counted in its list like any other. `sv_tested` are servers being reset between two sessions;
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
  rows: (engine) => [
    ...linesOf(engine)
      .map(rowOf)
      .sort((a, b) => compare(String(a[0]), String(b[0])) || compare(String(a[1]), String(b[1]))),
    consoleRow(consoleSessions(engine)),
  ],
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

/** Clients, and the servers they are served by, under one name. */
interface Line {
  readonly pools: Pool[]
  readonly sources: ServerSource[]
}

/** A pool is in the line of its servers. */
function linesOf(engine: OperatedEngine): [name: readonly [string, string], line: Line][] {
  const lines = new Map<string, Line>()
  const lineOf = (database: string, user: string): Line => {
    const key = JSON.stringify([database, user])
    const line = lines.get(key) ?? { pools: [], sources: [] }
    lines.set(key, line)
    return line
  }
  for (const source of engine.pools.sources()) lineOf(source.database, source.user).sources.push(source)
  for (const pool of engine.pools.all()) lineOf(pool.database, pool.source?.user ?? pool.user).pools.push(pool)
  return [...lines].map(([key, line]) => [JSON.parse(key) as [string, string], line])
}

function rowOf([name, { pools, sources }]: ReturnType<typeof linesOf>[number]): Row {
  const all = sources.flatMap(({ serverSets }) => serverSets)
  const cancels = sum(all, (serverSet) => sum(serverSet.active, cancelsOf) + sum(serverSet.canceled, cancelsOf))
  const spec = all[0]?.spec ?? pools[0]?.spec ?? null
  return [
    ...name,
    sum(pools, (pool) => pool.active.size + pool.idle.size),
    sum(pools, (pool) => pool.waiting.size),
    cancels,
    0,
    sum(all, (serverSet) => serverSet.active.size + serverSet.replication.size),
    cancels,
    sum(all, (serverSet) => serverSet.canceled.size),
    sum(all, (serverSet) => serverSet.idle.size),
    0,
    sum(all, (serverSet) => serverSet.reset.size),
    sum(all, (serverSet) => serverSet.login.size),
    ...secondsAndMicros(Math.max(0, ...pools.map(({ maxWaitMs }) => maxWaitMs))),
    spec?.settings.poolMode ?? null,
    spec === null ? null : balancing(targetsOf(spec)),
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
