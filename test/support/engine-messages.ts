/** Messages between a test and the process that runs an engine for it. */
import type { ToEngine } from '../../proxy/port.ts'
import type { EngineSnapshot } from '../../proxy/snapshot.ts'
import type { ApplyOutcome, FleetSpec } from '../../proxy/spec.ts'
import type { EngineDisconnect } from '../../shared/disconnect.ts'
import type { LogFields, LogLevel } from '../../proxy/agent/log.ts'

export interface LogLine {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}

export type ToProcess =
  | { readonly ask: 'apply'; readonly id: number; readonly spec: FleetSpec; readonly force: boolean }
  | { readonly ask: 'snapshot'; readonly id: number }
  | { readonly ask: 'post'; readonly message: ToEngine }
  | { readonly ask: 'fail worker'; readonly worker: number }

export type FromProcess =
  | { readonly say: 'listening'; readonly port: number }
  | { readonly say: 'answer'; readonly id: number; readonly value: ApplyOutcome | EngineSnapshot }
  | { readonly say: 'refusal'; readonly id: number; readonly reason: string }
  | { readonly say: 'disconnect'; readonly disconnect: EngineDisconnect }
  | { readonly say: 'log'; readonly line: LogLine }
  | { readonly say: 'ended'; readonly reason: string }
