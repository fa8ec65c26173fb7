/**
 * Messages between the agent (main thread) and an engine (worker thread) over the MessagePort. All survive structured
 * cloning. The agent wakes the engine, which blocks in its loop, by the loop's wake handle.
 */
import type { EngineDisconnect } from '../shared/disconnect.ts'
import type { PoolOperation } from '../shared/operations.ts'
import type { Address, Handed } from './io/io.ts'
import type { OperationOutcome } from '../shared/wire.ts'
import type { OperatedState, OrderedChange, QueryAnswer, WorkerQuery } from './operation.ts'
import type { EngineSnapshot } from './snapshot.ts'
import type { ApplyOutcome, Desired, FleetSpec, PeersUpdate, PreflightOutcome, TlsUpdate } from './spec.ts'

export type ToEngine =
  /**
   * `force` skips the check that the position rises (a proxy that runs from a file, or the first version of a new
   * epoch).
   */
  | { readonly type: 'apply'; readonly id: number; readonly force: boolean; readonly spec: FleetSpec }
  /**
   * Tries a version before it is applied: at most `atOnce` connections at a time. Answered by `preflighted`. What it
   * opens is used when the version is applied, and closed by `preflight_over` or with the next version.
   */
  | {
      readonly type: 'preflight'
      readonly id: number
      readonly spec: FleetSpec
      readonly rule: PreflightRule
      readonly atOnce: number
    }
  | { readonly type: 'preflight_over' }
  | { readonly type: 'desired'; readonly desired: Desired }
  /** Names were looked up again: host → its addresses. Servers on an address that disappeared drain. */
  | { readonly type: 'addresses'; readonly hosts: Readonly<Record<string, readonly string[]>> }
  /** Certificate files were reloaded, for new connections. */
  | { readonly type: 'tls'; readonly update: TlsUpdate }
  /** The peers of the fleet; null if unknown. Answers `peers`, and is also sent on changes. */
  | { readonly type: 'peers'; readonly update: PeersUpdate | null }
  /** `tables` includes the console tables for metrics. */
  | { readonly type: 'snapshot'; readonly id: number; readonly tables?: true }
  /** Answers a RELOAD of the console; `error` contains path and reason. */
  | { readonly type: 'reloaded'; readonly id: number; readonly error: string | null }
  /** The fleet's orders change the state of databases, in one step; answered by `answer`. */
  | { readonly type: 'carry_out'; readonly id: number; readonly changes: readonly OrderedChange[] }
  /** An operation from control; answered by `operated`. Without `acts` nothing is changed. */
  | {
      readonly type: 'operate'
      readonly id: number
      readonly operation: PoolOperation
      readonly pool: string
      readonly acts: boolean
    }
  /**
   * `drain` lets transactions finish for `timeoutMs`, `clients` waits as long for clients to leave; then, or at once
   * with `now`, everything closes. `handover` waits like `clients`, disconnects idle ones at `drain_rate`, and ends
   * like `drain`.
   */
  | { readonly type: 'stop'; readonly mode: StopMode; readonly timeoutMs: number }
  /**
   * A connection accepted by another worker, and the bytes read from it. `placedLife`: the life of this worker in which
   * the client was counted for it; null if it was not.
   */
  | { readonly type: 'handed'; readonly handed: Handed; readonly bytes: Uint8Array; readonly placedLife: number | null }
  /** A query or operation of another worker's console; answered by `answer`. */
  | { readonly type: 'query'; readonly id: number; readonly query: WorkerQuery }
  /** Answers of the queried workers, in order; null for one that could not answer. */
  | { readonly type: 'answers'; readonly id: number; readonly answers: readonly QueryAnswer[] }
  /** Operators' state, complete: for a restarted thread, before its first version and after it. */
  | { readonly type: 'restore'; readonly state: OperatedState }

/** Messages for an engine's console. */
export type ToConsole = Extract<
  ToEngine,
  { readonly type: 'desired' | 'snapshot' | 'reloaded' | 'carry_out' | 'operate' | 'query' | 'answers' | 'restore' }
>

/** `guard`: a pool that serves must not stop serving. `require`: every pool must serve. */
export type PreflightRule = 'guard' | 'require'

export type StopMode = 'drain' | 'clients' | 'handover' | 'now'

export type FromEngine =
  /**
   * The listeners are open; `port` is the actual one if 0 was requested. Sent once, first. `fds` are the descriptors of
   * the listeners by key, which the agent closes.
   */
  | {
      readonly type: 'listening'
      readonly host: string
      readonly port: number
      readonly fds?: Readonly<Record<string, number>>
    }
  /** No more connections are accepted: the listener may be closed. */
  | { readonly type: 'unlistened' }
  /** For the worker `to`; no worker owns the connection until it arrives. */
  | {
      readonly type: 'hand'
      readonly to: number
      readonly handed: Handed
      readonly bytes: Uint8Array
      readonly placedLife: number | null
    }
  /**
   * For all other workers, and operations for all of them, in the agent's order. Their answers come as `answers` with
   * this id.
   */
  | { readonly type: 'query'; readonly id: number; readonly query: WorkerQuery }
  | { readonly type: 'answer'; readonly id: number; readonly answer: QueryAnswer }
  | { readonly type: 'applied'; readonly id: number; readonly outcome: ApplyOutcome }
  | { readonly type: 'preflighted'; readonly id: number; readonly outcome: PreflightOutcome }
  | { readonly type: 'disconnect'; readonly disconnect: EngineDisconnect }
  /** RELOAD at the console: poll now, then answer with `reloaded`. */
  | { readonly type: 'reload'; readonly id: number }
  /** Operators' state has changed. */
  | { readonly type: 'state'; readonly state: OperatedState }
  /** A cancel request names an unknown proxy: requests the peers of the fleet. */
  | { readonly type: 'peers' }
  | { readonly type: 'snapshot'; readonly id: number; readonly snapshot: EngineSnapshot }
  | { readonly type: 'operated'; readonly id: number; readonly outcome: OperationOutcome }
  /** SHUTDOWN at the console: stop the proxy. */
  | { readonly type: 'shutdown'; readonly mode: StopMode }
  | {
      readonly type: 'log'
      readonly level: 'debug' | 'info' | 'warn' | 'error'
      readonly message: string
      readonly fields: Readonly<Record<string, string | number | boolean | null>>
    }
  /** All connections are closed and the loop has ended; the thread exits by itself. */
  | { readonly type: 'stopped' }

/** A Unix socket in `dir`, named after the port; `mode` is its file mode. */
export interface UnixListen {
  readonly dir: string
  readonly mode: number
}

/** Where to listen. */
export interface ListenOn {
  readonly host: string
  readonly port: number
  readonly unix?: UnixListen | undefined
  /** A Unix socket for cancel requests only, served as long as there are clients. */
  readonly cancelSocket?: Address | undefined
  /** Cancel sockets of the former owners of the listener, for requests that match no client here. */
  readonly predecessors?: readonly Address[] | undefined
}

/** Passed to the worker thread as `workerData`. */
export interface EngineStart {
  /** `fds` are descriptors of open listeners, by key. */
  readonly listen: ListenOn & { readonly fds?: Readonly<Record<string, number>> }
  /** Absent with a single worker. */
  readonly workers?: WorkersStart
  readonly process: ProcessStart
  /** eventfd in the engine's epoll set: the agent writes 8 bytes to wake it. */
  readonly wakeFd: number
  /** One bit per open file descriptor of the engine, so that the agent can close what a dead engine left. */
  readonly openFds: SharedArrayBuffer
}

/** Outlives the threads, and is the same for all. */
export interface ProcessStart {
  /** 32 secret bytes for mock authentication: see `mockSecret`. */
  readonly mockKey: Uint8Array
  /** Shared memory for counts of failed logins. */
  readonly failedLogins: SharedArrayBuffer
  /** Shared memory for counts of changes of schemas. */
  readonly schemaChanges: SharedArrayBuffer
  /** Whether io_uring may be used. */
  readonly ioUring: boolean
}

/** What a worker needs to know of the others. */
export interface WorkersStart {
  /** Number of this worker, from 0. */
  readonly self: number
  /** Memory of the shared counters. */
  readonly counters: SharedArrayBuffer
  /** The eventfd of each worker, in order. */
  readonly wakeFds: readonly number[]
}
