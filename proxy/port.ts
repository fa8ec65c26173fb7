/**
 * What the agent (main thread) and the engine (worker thread) say to each other over their MessagePort. Everything
 * here survives structured cloning. The agent wakes the engine, which blocks in its loop, by the loop's wake handle.
 */
import type { Cause } from '../shared/causes.ts'
import type { HbaRule } from '../shared/config/hba.ts'
import type { IdentLine } from '../shared/config/ident.ts'
import type { GeneralSettings, PoolSettings } from '../shared/config/settings.ts'
import type { EngineDisconnect } from '../shared/disconnect.ts'
import type { Position } from '../shared/wire.ts'
import type { Address, Handed, TlsOptions } from './io/io.ts'

/** A stored SCRAM-SHA-256 verifier (RFC 5803): what a client's proof is checked against. */
export interface ScramVerifier {
  readonly iterations: number
  readonly salt: Uint8Array
  readonly storedKey: Uint8Array
  readonly serverKey: Uint8Array
}

/** Everything a client's login may be checked against. Null where the password does not allow that method. */
export interface ClientSecret {
  /** "md5" + md5(password + user), as in pg_authid. */
  readonly md5: string | null
  readonly scram: ScramVerifier | null
  /** SHA-256 of the password itself; absent where it is not known. */
  readonly digest?: Uint8Array
  /** What is good as well, for a while. Where both have a verifier, salt and iterations are the same. */
  readonly previous?: PreviousSecret
}

export interface PreviousSecret extends Omit<ClientSecret, 'previous'> {
  /** By the machine's clock; null as long as it stands in the configuration. */
  readonly untilMs: number | null
}

/** One server of a pool with the addresses its name has now (IPv4 or IPv6 literals, never empty). */
export interface HostSpec {
  readonly host: string
  readonly port: number
  readonly role: 'primary' | 'replica'
  readonly addresses: readonly string[]
}

/** One pool, ready to run: resolved, with its secrets in clear. Never logged. */
export interface PoolSpec {
  /** What the version says where SET at the console has changed it: `hash` and `settings` are then of what runs. */
  readonly overridden?: { readonly hash: string; readonly settings: PoolSettings }
  readonly database: string
  readonly user: string
  readonly hash: string
  readonly connectHash: string
  readonly serverDatabase: string
  readonly serverUser: string
  readonly settings: PoolSettings
  readonly hosts: readonly HostSpec[]
  readonly clientSecret: ClientSecret
  readonly serverPassword: string | null
  /** Of `auth_user`; null or absent where it has none. */
  readonly authPassword?: string | null
  /** Absent with `server_tls_sslmode = "disable"`. Pools with equal options share the object. */
  readonly serverTls?: TlsOptions
  /** The worker that serves the whole database; absent where every worker has a part of it. */
  readonly worker?: number
}

export interface ConsoleUserSpec {
  readonly user: string
  readonly right: 'admin' | 'stats'
  /** Null trusts the name alone; only an explicit document says so. */
  readonly clientSecret: ClientSecret | null
}

/** Who may log in from where and how. */
export interface AccessRules {
  readonly rules: readonly HbaRule[]
  readonly maps: readonly IdentLine[]
}

/** A whole version, prepared: nothing in it can fail any more. */
export interface FleetSpec {
  readonly position: Position
  readonly general: GeneralSettings
  /** The general settings as people write them, for SHOW CONFIG: key → value. */
  readonly generalValues: Readonly<Record<string, string | number>>
  readonly consoleUsers: readonly ConsoleUserSpec[]
  readonly pools: readonly PoolSpec[]
  /** What `auth_hba` and `auth_ident` say; absent when they say nothing. */
  readonly access?: AccessRules
  /** Absent with `client_tls_sslmode = "disable"`. */
  readonly clientTls?: TlsOptions
}

/** The TLS options of what runs, after its files have changed. */
export interface TlsUpdate {
  readonly clientTls: TlsOptions | undefined
  readonly pools: readonly { readonly database: string; readonly user: string; readonly serverTls: TlsOptions }[]
}

/** What control wants and why it does not run yet; SHOW POOL_VERSIONS shows it beside what runs. */
export interface Desired {
  readonly position: Position
  readonly pools: readonly { pool: string; user: string; hash: string }[]
  readonly error: { code: string; message: string; pool: string | null; user: string | null } | null
}

/** A proxy of the fleet, where others reach it. `address` is an IPv4 or IPv6 literal. */
export interface PeerSpec {
  readonly number: number
  readonly address: string
  readonly port: number
}

export interface PeersUpdate {
  /** This proxy's own; 0 while it has none. */
  readonly number: number
  readonly peers: readonly PeerSpec[]
}

export type ToEngine =
  /** `force` skips the check that the position rises (a proxy that runs from a file, or a new epoch's first apply). */
  | { readonly type: 'apply'; readonly id: number; readonly force: boolean; readonly spec: FleetSpec }
  | { readonly type: 'desired'; readonly desired: Desired }
  /** Names were looked up again: host → its addresses now. Servers on an address that left drain. */
  | { readonly type: 'addresses'; readonly hosts: Readonly<Record<string, readonly string[]>> }
  /** Files of certificates were read again: for connections to come. */
  | { readonly type: 'tls'; readonly update: TlsUpdate }
  /** Who is in the fleet now; null when nobody could say. Answers `peers`, and comes unasked. */
  | { readonly type: 'peers'; readonly update: PeersUpdate | null }
  /** `tables` asks for what metrics are made of too. */
  | { readonly type: 'snapshot'; readonly id: number; readonly tables?: true }
  /** Answers a RELOAD typed on the console; `error` names path and reason. */
  | { readonly type: 'reloaded'; readonly id: number; readonly error: string | null }
  /** What an operator wants of a database, by way of control; answered by `operated`. */
  | { readonly type: 'operate'; readonly id: number; readonly operation: PoolOperation; readonly pool: string }
  /**
   * `drain` lets transactions finish for `timeoutMs`, `clients` waits as long for clients to leave by themselves; then,
   * or at once with `now`, everything closes. `handover` waits like `clients`, sends idle ones away at `drain_rate`, and
   * ends like `drain`.
   */
  | { readonly type: 'stop'; readonly mode: StopMode; readonly timeoutMs: number }
  /**
   * A connection that another worker has accepted, and what has been read of it. `placedLife`: in which life of
   * this worker the client was counted for it; null when it was not.
   */
  | { readonly type: 'handed'; readonly handed: Handed; readonly bytes: Uint8Array; readonly placedLife: number | null }
  /** Another worker's console wants to know something, or have it done; answered by `answer`. */
  | { readonly type: 'query'; readonly id: number; readonly query: WorkerQuery }
  /** What the workers that were asked answered, in their order; null where one could not. */
  | { readonly type: 'answers'; readonly id: number; readonly answers: readonly QueryAnswer[] }
  /** What operators have done, whole: to a thread that takes the place of another, before its first version and after. */
  | { readonly type: 'restore'; readonly state: OperatedState }

/** What one worker's console asks the others. */
export type WorkerQuery =
  /** The rows of a SHOW command. */
  | { readonly kind: 'rows'; readonly command: string }
  | { readonly kind: 'operate'; readonly operation: Operation; readonly database: string | null }
  | { readonly kind: 'kill client'; readonly client: number }
  /** SET; with null, what SET has changed is taken back. */
  | { readonly kind: 'set'; readonly key: string; readonly value: string | null }
  /** Answered when it is so, however long that takes. */
  | { readonly kind: 'wait'; readonly for: 'released' | 'closed' | 'flushed'; readonly database: string | null }

export type Operation = 'pause' | 'resume' | 'suspend' | 'reconnect' | 'kill' | 'disable' | 'enable'

/** Rows; whether anything was changed or found. */
export type QueryAnswer = readonly (readonly (string | number | null)[])[] | boolean | null

/** PAUSE, DISABLE, SUSPEND and SET that hold: they are the process's, whichever thread serves. */
export interface OperatedState {
  readonly pausedAll: boolean
  readonly paused: readonly string[]
  readonly disabled: readonly string[]
  readonly suspended: boolean
  /** Key and value of each SET, in their order. */
  readonly overrides: readonly (readonly [string, string | number])[]
}

export type PoolOperation = 'pause' | 'resume' | 'reconnect' | 'disable' | 'enable' | 'kill'

/** Servers of the database that still have to end: at 0, a pause is complete and nobody is on an old connection. */
export interface OperationOutcome {
  /** There is no such database here. */
  readonly known: boolean
  readonly paused: boolean
  readonly servers: number
}

export type StopMode = 'drain' | 'clients' | 'handover' | 'now'

export interface ApplyOutcome {
  /** False when the position was not above the running one; nothing changed then. */
  readonly applied: boolean
  readonly running: Position | null
  readonly added: number
  readonly rebuilt: number
  readonly retuned: number
  readonly removed: number
  readonly kept: number
}

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

export type FromEngine =
  /**
   * The listeners are open; `port` is the real one when 0 was asked for. Sent once, before anything else. `fds` are the
   * descriptors of the listeners, by their keys, which the agent closes.
   */
  | {
      readonly type: 'listening'
      readonly host: string
      readonly port: number
      readonly fds?: Readonly<Record<string, number>>
    }
  /** Nothing is accepted any more: the listener may be closed. */
  | { readonly type: 'unlistened' }
  /** For the worker `to`; the connection is nobody's until it arrives. */
  | {
      readonly type: 'hand'
      readonly to: number
      readonly handed: Handed
      readonly bytes: Uint8Array
      readonly placedLife: number | null
    }
  /**
   * For every other worker, and what is to be done for all of them, in the one order in which the agent passes it on.
   * Their answers come as `answers` with this id.
   */
  | { readonly type: 'query'; readonly id: number; readonly query: WorkerQuery }
  | { readonly type: 'answer'; readonly id: number; readonly answer: QueryAnswer }
  | { readonly type: 'applied'; readonly id: number; readonly outcome: ApplyOutcome }
  | { readonly type: 'disconnect'; readonly disconnect: EngineDisconnect }
  /** RELOAD was typed on the console: poll now, then answer with `reloaded`. */
  | { readonly type: 'reload'; readonly id: number }
  /** An operator has changed something that outlives this thread. */
  | { readonly type: 'state'; readonly state: OperatedState }
  /** A cancel request is for a proxy that is not known: who is in the fleet? */
  | { readonly type: 'peers' }
  | { readonly type: 'snapshot'; readonly id: number; readonly snapshot: EngineSnapshot }
  | { readonly type: 'operated'; readonly id: number; readonly outcome: OperationOutcome }
  /** SHUTDOWN was typed on the console: stop the proxy. */
  | { readonly type: 'shutdown'; readonly mode: StopMode }
  | {
      readonly type: 'log'
      readonly level: 'debug' | 'info' | 'warn' | 'error'
      readonly message: string
      readonly fields: Readonly<Record<string, string | number | boolean | null>>
    }
  /** All connections are closed and the loop has ended; the thread exits by itself. */
  | { readonly type: 'stopped' }

/** A Unix socket beside the port, in `dir`; `mode` says who may connect. */
export interface UnixListen {
  readonly dir: string
  readonly mode: number
}

/** Where connections come from. */
export interface ListenOn {
  readonly host: string
  readonly port: number
  readonly unix?: UnixListen | undefined
  /** A Unix socket for cancel requests alone, which is served as long as there are clients. */
  readonly cancelSocket?: Address | undefined
  /** The cancel sockets of the processes that had the listener before: whom a request may be for when it is for nobody here. */
  readonly predecessors?: readonly Address[] | undefined
}

/** Given to the worker thread as `workerData`. */
export interface EngineStart {
  /** `fds` are listeners that are open already, by their keys. */
  readonly listen: ListenOn & { readonly fds?: Readonly<Record<string, number>> }
  /** Absent where the process has one worker. */
  readonly workers?: WorkersStart
  readonly process: ProcessStart
  /** eventfd in the engine's epoll set: the agent writes 8 bytes to wake it. */
  readonly wakeFd: number
  /** One bit per file descriptor the engine holds open, so that the agent can close what a dead engine left. */
  readonly openFds: SharedArrayBuffer
}

/** What outlives a thread, and is the same for all of them. */
export interface ProcessStart {
  /** 32 secret bytes, by which users that do not exist look like those that do: see `mockSecret`. */
  readonly mockKey: Uint8Array
  /** The memory in which failed logins are counted. */
  readonly failedLogins: SharedArrayBuffer
  /** Whether io_uring may be used. */
  readonly ioUring: boolean
}

/** What a worker has to know of the others. */
export interface WorkersStart {
  /** Which of them this is, from 0. */
  readonly self: number
  /** The memory of their shared counters. */
  readonly counters: SharedArrayBuffer
  /** The eventfd of each, in order. */
  readonly wakeFds: readonly number[]
}
