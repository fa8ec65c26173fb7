/**
 * What crosses the MessagePort between the agent (main thread) and an engine (worker thread). Everything here survives
 * structured cloning. The agent wakes the engine, which blocks in its loop, by the loop's wake handle.
 */
import type { EngineDisconnect } from '../shared/disconnect.ts'
import type { PoolOperation } from '../shared/operations.ts'
import type { Address, Handed } from './io/io.ts'
import type { OperatedState, OperationOutcome, QueryAnswer, WorkerQuery } from './operation.ts'
import type { EngineSnapshot } from './snapshot.ts'
import type { ApplyOutcome, Desired, FleetSpec, PeersUpdate, TlsUpdate } from './spec.ts'

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

/** The messages that are for the console of an engine. */
export type ToConsole = Extract<
  ToEngine,
  { readonly type: 'desired' | 'snapshot' | 'reloaded' | 'operate' | 'query' | 'answers' | 'restore' }
>

export type StopMode = 'drain' | 'clients' | 'handover' | 'now'

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
