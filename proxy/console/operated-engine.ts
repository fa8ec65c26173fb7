import type { Engine } from '../engine/engine.ts'
import type { QueryAnswer, WorkerQuery } from '../operation.ts'
import type { Desired } from '../spec.ts'
import type { Disconnects } from './disconnects.ts'
import type { Overrides } from './overrides.ts'
import type { Statistics } from './statistics.ts'

/** An engine, with the state its console keeps beside it, for commands and tables. */
export interface OperatedEngine extends Pick<
  Engine,
  'context' | 'pools' | 'logins' | 'port' | 'stateChanged' | 'when'
> {
  readonly statistics: Statistics
  readonly disconnects: Disconnects
  /** Overrides of SET. */
  readonly overrides: Overrides
  /** The general settings as written, for SHOW CONFIG. */
  readonly generalValues: Readonly<Record<string, string | number>>
  /** The last offer of control. */
  readonly desired: Desired | null
  /** Makes the agent look for a newer configuration; `answer` gets null or the error. */
  reload(answer: (error: string | null) => void): void
  /** Queries the other workers; without any, answers at once. */
  queryWorkers(query: WorkerQuery, answer: (answers: readonly QueryAnswer[]) => void): void
}
