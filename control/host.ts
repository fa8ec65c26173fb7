/** What control needs from the host it runs on. The app itself knows no clock, no timer and no socket. */
import type { PoolHash } from '../shared/config/effective.ts'
import type { Network } from '../shared/config/network.ts'
import type { Hint, OperationRequest, OperationOutcome, Position } from '../shared/wire.ts'
import type { Sealing } from './domain/sealing.ts'
import type { HintTarget } from './store/proxies.ts'
import type { Store } from './store/store.ts'

export interface Process {
  readonly fleet: string
  readonly proxy: string
  readonly boot: string | null
}

/** A process, as last heard of. */
export interface Contact {
  /** Milliseconds since 1970. */
  readonly atMs: number
  /** Position of the ETag of its last poll. */
  readonly polled: Position | null
}

/**
 * When proxies were last seen; kept in memory and flushed in batches by the host. `boot` is null for a proxy of 0.1.0, which
 * does not say it with its polls.
 */
export interface Presence {
  /** `polled` is what a poll said that it was offered last. */
  seen(fleet: string, proxy: string, boot: string | null, polled?: Position | null): void
  /** What a process said that it runs, or was offered, beside what control has. */
  claimed(process: Process, position: Position | null, current: Position): void
  /** Processes that were above control when they were last heard of, by fleet. */
  above(): ReadonlyMap<string, number>
  /** Undefined if it was not seen since the host started. */
  contact(fleet: string, proxy: string, boot: string | null): Contact | undefined
  /** A proxy came with a token of the fleet that was revoked. */
  refused(fleet: string, proxy: string): void
  /** Since when, until it comes with another one; milliseconds since 1970. */
  refusedSinceMs(fleet: string, proxy: string): number | undefined
}

/** Parks requests until an event. Absent on hosts that cannot park a request. */
export interface Parking {
  /**
   * Resolves with true at the next `wake` of the topic, with false after `waitMs` or when `signal` aborts; never
   * rejects. Waiting has begun when this returns, so no later wake is missed.
   */
  wait(topic: string, waitMs: number, signal: AbortSignal): Promise<boolean>
  wake(topic: string): void
}

/** What came of sending an operation to a proxy. `faulty`: it answered, and not what a proxy should. */
export type OperationAnswer =
  | { readonly kind: 'answered'; readonly outcome: OperationOutcome }
  | { readonly kind: 'unreachable' }
  | { readonly kind: 'faulty'; readonly message: string }

/** Sends proxies what cannot wait for a poll. */
export interface Operations {
  /** Never rejects. */
  send(target: HintTarget, request: OperationRequest): Promise<OperationAnswer>
}

export interface Hints {
  /** Returns at once and delivers in the background. A lost hint costs one poll interval. */
  send(targets: readonly HintTarget[], hint: Hint): void
  /** Called at a hello of a process: forgets failed deliveries to its former address. */
  cleared(fleet: string, proxy: string, boot: string): void
}

/** Names of counters and the values of their labels. */
export interface Counters {
  polls: 'unchanged' | 'offered' | 'none'
  reports: 'kept' | 'repeated' | 'incomplete'
  events: 'received'
  store_failures: 'busy' | 'full'
}

/** A value read from the store when metrics are requested. */
export interface Gauge {
  readonly name: string
  readonly help: string
  readonly samples: readonly { readonly labels: Readonly<Record<string, string>>; readonly value: number }[]
}

export interface Metrics {
  count<Name extends keyof Counters>(name: Name, label: Counters[Name], by?: number): void
  /** In the Prometheus text format; `gauges` are added to the host's own metrics. */
  render(gauges: readonly Gauge[]): Promise<{ contentType: string; body: string }>
}

/** What the current version of a fleet wants to run. */
export interface ParsedVersion {
  /** Of the version and its manifest. */
  readonly key: string
  readonly pools: readonly Pick<PoolHash, 'pool' | 'user' | 'hash'>[]
  /** Digest of `pools`. */
  readonly running: string
}

export interface ControlHost {
  readonly store: Store
  readonly nowMs: () => number
  /** Cryptographically strong. */
  readonly random: (bytes: number) => Uint8Array
  readonly sealing: Sealing
  readonly operatorToken: string
  /** Where proxies may register to be reached; undefined allows all but the addresses that are always forbidden. */
  readonly proxyNetworks?: readonly Network[] | undefined
  readonly presence: Presence
  /** By fleet; absent on hosts that keep nothing between requests. */
  readonly parsed?: Map<string, ParsedVersion>
  readonly hints: Hints
  readonly operations: Operations
  readonly parking?: Parking
  readonly metrics?: Metrics
  /** Reports an internal error. Never receives a secret. */
  readonly logError: (message: string, error: unknown) => void
}
