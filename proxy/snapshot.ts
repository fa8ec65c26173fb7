/** What an engine tells of itself: what there is now, and totals. */
import type { Cause } from '../shared/causes.ts'
import type { Position } from '../shared/wire.ts'

/** Totals since the pool's name was first known; times in microseconds. Names follow SHOW STATS_TOTALS. */
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

export interface PoolSnapshot {
  readonly pool: string
  readonly user: string
  /** What runs; null once the name was removed and only drains. */
  readonly hash: string | null
  /** SET at the console has changed it: `hash` is not its version's. */
  readonly overridden: boolean
  /** Of a pool that was made for a client: the one with "*" that it follows. */
  readonly template?: { readonly pool: string; readonly user: string }
  readonly clientsActive: number
  readonly clientsIdle: number
  readonly clientsWaiting: number
  readonly serversActive: number
  readonly serversIdle: number
  readonly serversLogin: number
  /** Opened for one client each, beside the pool's own. */
  readonly serversReplication: number
  readonly serversDraining: number
  /** Linked servers that stay with their client because of what its session keeps. */
  readonly serversPinned: number
  readonly maxWaitMs: number
  readonly poolSize: number
  readonly totals: PoolTotals
  /** Checkouts by how long they waited: not at all, by the classes of `waitBoundsMs`, and above all bounds. */
  readonly waits: readonly number[]
  /** Errors of PostgreSQL that clients were sent, by the class of their SQLSTATE, its first two characters. */
  readonly serverErrors: Readonly<Record<string, number>>
  /** Closed servers by cause, planned ones included. */
  readonly closed: Readonly<Partial<Record<Cause, number>>>
  /** Errors sent to clients by the proxy itself, by SQLSTATE. */
  readonly refused: Readonly<Record<string, number>>
}

/** Upper bounds of the classes in which waits for a server are counted. */
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

/** What the console shows, by the names of its commands in lower case. */
export interface ConsoleTables {
  readonly databases: readonly ShownRow[]
  readonly lists: readonly ShownRow[]
  readonly config: readonly ShownRow[]
  readonly pools: readonly ShownRow[]
  readonly stats_totals: readonly ShownRow[]
  readonly version: readonly ShownRow[]
  readonly clients: readonly ClientGroup[]
}

/** What auth_query has of one database as one role. */
export interface AuthQuerySnapshot {
  readonly database: string
  readonly user: string
  readonly connections: { readonly new: number; readonly idle: number; readonly active: number }
  /** Questions in line for one. */
  readonly waiting: number
}

export interface EngineSnapshot {
  readonly running: Position | null
  readonly clients: number
  readonly clientsLogin: number
  /** Answers to failed logins that were delayed so far. */
  readonly loginsDelayed: number
  readonly pools: readonly PoolSnapshot[]
  /** By database and role. */
  readonly authQueries: readonly AuthQuerySnapshot[]
  /** Logins refused before a pool was known, by SQLSTATE. */
  readonly refused: Readonly<Record<string, number>>
  /** What SET at the console has changed: "key = value". */
  readonly overrides: readonly string[]
  /** Where they were asked for. */
  readonly tables?: ConsoleTables
}
