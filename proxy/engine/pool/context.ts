import type { EngineGeneralSettings } from '../../../shared/config/settings.ts'
import type { Io, Socket } from '../../io/io.ts'
import type { Cancels } from '../cancel/cancel.ts'
import type { Client } from './client.ts'
import type { Limits } from './limits.ts'
import type { FromEngine } from '../../port.ts'
import type { Workers } from '../workers/workers.ts'
import type { Peers } from '../cancel/peers.ts'
import type { Refusals } from '../refusals.ts'
import type { ProcessCounts } from '../workers/process-counts.ts'
import type { TlsContexts } from '../wire/tls.ts'

/** An operator who has logged in to the console. It is counted and shown as a client is, and served by no pool. */
export interface OperatorSession {
  readonly socket: Socket
  readonly id: number
  readonly user: string
  readonly applicationName: string
  readonly connectedAtMs: number
  readonly requestedAtMs: number
  /** Tells the operator why, and ends. */
  fatal(sqlstate: string, message: string): void
}

/** What one engine's clients, servers and pools share. */
export interface Context {
  readonly io: Io
  readonly post: (message: FromEngine) => void
  readonly cancels: Cancels
  /** The other proxies of the fleet. */
  readonly peers: Peers
  readonly tls: TlsContexts
  readonly refusals: Refusals
  /** What pools may have together. */
  readonly limits: Limits
  /** The workers of the process, this one too; null when it is the only one. */
  readonly workers: Workers | null
  /** What the workers of the process hold together; null when there is only this one. */
  readonly counts: ProcessCounts | null
  /** Called when an operator has changed something that outlives this thread. */
  readonly operated: () => void
  /** Called when a server has ended: somebody may wait for that. */
  readonly serverEnded: () => void
  general: EngineGeneralSettings
  /** Everyone who has logged in. */
  readonly clients: Set<Client | OperatorSession>
  /** Secret bytes of this process, or of the fleet: makes up what an unknown user is challenged with. */
  readonly mockKey: Uint8Array
  /** Set while the engine stops: a client that becomes free is sent away. */
  stopping: boolean
  /** SUSPEND: nothing is read of clients and servers, and no server is opened. */
  suspended: boolean
  /** How many there were: who waits for one knows it from the next. */
  suspensions: number
}
