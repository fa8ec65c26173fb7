import type { EngineGeneralSettings } from '../../../shared/config/settings.ts'
import type { Io, Socket } from '../../io/io.ts'
import type { Cancels } from '../cancel/cancel.ts'
import type { Client } from './client.ts'
import type { Limits } from './limits.ts'
import type { FromEngine } from '../../port.ts'
import type { SchemaChanges } from '../../memory/schema-changes.ts'
import type { Workers } from '../workers/workers.ts'
import type { Peers } from '../cancel/peers.ts'
import type { StatementMemory } from '../session/statement-memory.ts'
import type { Refusals } from '../refusals.ts'
import type { ProcessCounts } from '../workers/process-counts.ts'
import type { TlsContexts } from '../wire/tls.ts'

/** An operator who has logged in to the console. It is counted and listed like a client, and served by no pool. */
export interface OperatorSession {
  readonly socket: Socket
  readonly id: number
  readonly user: string
  readonly applicationName: string
  readonly connectedAtMs: number
  readonly requestedAtMs: number
  /** Sends a fatal error, and ends. */
  fatal(sqlstate: string, message: string): void
}

/** Shared by an engine's clients, servers and pools. */
export interface Context {
  readonly io: Io
  readonly post: (message: FromEngine) => void
  readonly cancels: Cancels
  /** The other proxies of the fleet. */
  readonly peers: Peers
  readonly tls: TlsContexts
  readonly refusals: Refusals
  /** Limits that pools share. */
  readonly limits: Limits
  /** The workers of the process, including this one; null if it is the only one. */
  readonly workers: Workers | null
  /** Counts shared by the workers; null if there is only this one. */
  readonly counts: ProcessCounts | null
  /** Called when an operator has changed state that outlives this thread. */
  readonly operated: () => void
  /** Called when a server has closed, which some operations wait for. */
  readonly serverEnded: () => void
  general: EngineGeneralSettings
  /** All clients that have logged in. */
  readonly clients: Set<Client | OperatorSession>
  /** Secret from which challenges of unknown users are derived, the fleet's or this process's. */
  readonly mockKey: Uint8Array
  /** Changes of schemas that this process has seen. */
  readonly schemaChanges: SchemaChanges
  /** Of what its clients have prepared. */
  readonly statementMemory: StatementMemory
  /** Set while the engine stops: a client that becomes free is disconnected. */
  stopping: boolean
  /** SUSPEND: clients and servers are not read, and no server is opened. */
  suspended: boolean
  /** Number of suspensions so far: a waiting SUSPEND is told from the next by it. */
  suspensions: number
}
