/** State and totals of an engine. */
import type { Cause } from '../shared/causes.ts'
import type { Position } from '../shared/wire.ts'

/** Totals since the pool was first known; times in microseconds. Names follow SHOW STATS_TOTALS. */
export interface PoolTotals {
  server_assignment_count: number
  xact_count: number
  query_count: number
  bytes_received: number
  bytes_sent: number
  xact_time: number
  query_time: number
  wait_time: number
  client_parse_count: number
  server_parse_count: number
  bind_count: number
  client_login_count: number
}

/**
 * What is known of the servers of a pool: some are `present`, logged in; or there is none, and the last login `failed` or
 * succeeded (`proven`), or has yet to come (`untried`).
 */
export type ServingSnapshot =
  | { readonly state: 'present' | 'proven' | 'untried' }
  | {
      readonly state: 'failed'
      readonly sqlstate: string
      readonly message: string
      /** How long logins have failed. */
      readonly forMs: number
    }

export interface PoolSnapshot {
  readonly pool: string
  readonly user: string
  /** The running hash; null after the pool was removed and only drains. */
  readonly hash: string | null
  /** Changed by SET at the console: `hash` is not its version's. */
  readonly overridden: boolean
  /** For a pool created for a client: the one with "*" that it follows. */
  readonly template?: { readonly pool: string; readonly user: string }
  /** Null without servers of its own: "*", and a pool that was removed. */
  readonly serving: ServingSnapshot | null
  /** A line of servers that the pools of other users share; it has no clients. */
  readonly sharedServers?: true
  readonly clientsActive: number
  readonly clientsIdle: number
  readonly clientsWaiting: number
  readonly serversActive: number
  readonly serversIdle: number
  readonly serversLogin: number
  /** Opened for one client each, outside of the pool's own. */
  readonly serversReplication: number
  readonly serversDraining: number
  /** Linked servers pinned to their client by session state. */
  readonly serversPinned: number
  readonly maxWaitMs: number
  readonly poolSize: number
  readonly totals: PoolTotals
  /** Checkouts by wait: none, by the classes of `waitBoundsMs`, and above all bounds. */
  readonly waits: readonly number[]
  /** Errors of PostgreSQL sent to clients, by the class of their SQLSTATE, its first two characters. */
  readonly serverErrors: Readonly<Record<string, number>>
  /** Closed servers by cause, including planned ends. */
  readonly closed: Readonly<Partial<Record<Cause, number>>>
  /** Errors sent to clients by the proxy itself, by SQLSTATE. */
  readonly refused: Readonly<Record<string, number>>
}

/** Upper bounds of the classes of waits for a server. */
export const waitBoundsMs = [1, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 30_000, 60_000] as const

/** A row of a SHOW command, by column. */
export type ShownRow = Readonly<Record<string, string | number | null>>

export interface ClientGroup {
  readonly database: string
  readonly user: string
  application_name: string
  readonly state: string
  count: number
}

/** Console tables, by the names of their commands in lower case. */
export interface ConsoleTables {
  readonly databases: readonly ShownRow[]
  readonly lists: readonly ShownRow[]
  readonly config: readonly ShownRow[]
  readonly pools: readonly ShownRow[]
  readonly stats_totals: readonly ShownRow[]
  readonly version: readonly ShownRow[]
  readonly clients: readonly ClientGroup[]
}

const servingOrder = ['present', 'failed', 'proven', 'untried'] as const

/** Of several workers or pools: what is known by the most telling of them. */
export function mergedServing(all: readonly (ServingSnapshot | null)[]): ServingSnapshot | null {
  const known = all.filter((one) => one !== null)
  for (const state of servingOrder) {
    const found = known.filter((one) => one.state === state)
    if (found.length > 0) return found.reduce(longerFailed)
  }
  return null
}

function longerFailed(one: ServingSnapshot, other: ServingSnapshot): ServingSnapshot {
  return one.state === 'failed' && other.state === 'failed' && other.forMs > one.forMs ? other : one
}

/** State of auth_query for one database and role. */
export interface AuthQuerySnapshot {
  readonly database: string
  readonly user: string
  readonly connections: { readonly new: number; readonly idle: number; readonly active: number }
  /** Number of waiting queries. */
  readonly waiting: number
}

export interface EngineSnapshot {
  readonly running: Position | null
  readonly clients: number
  readonly clientsLogin: number
  /** Number of delayed answers to failed logins. */
  readonly loginsDelayed: number
  readonly pools: readonly PoolSnapshot[]
  /** By database and role. */
  readonly authQueries: readonly AuthQuerySnapshot[]
  /** Logins rejected before a pool was known, by SQLSTATE. */
  readonly refused: Readonly<Record<string, number>>
  /** Overrides of SET at the console: "key = value". */
  readonly overrides: readonly string[]
  /** If requested. */
  readonly tables?: ConsoleTables
}
