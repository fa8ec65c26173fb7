import type { Engine } from '../engine/engine.ts'
import type { QueryAnswer, WorkerQuery } from '../operation.ts'
import type { Desired } from '../spec.ts'
import type { Disconnects } from './disconnects.ts'
import type { Overrides } from './overrides.ts'
import type { Statistics } from './statistics.ts'

/** An engine, with what its console keeps beside it: what commands use and tables show. */
export interface OperatedEngine extends Pick<
  Engine,
  'context' | 'pools' | 'logins' | 'port' | 'stateChanged' | 'when'
> {
  readonly statistics: Statistics
  readonly disconnects: Disconnects
  /** What SET has changed. */
  readonly overrides: Overrides
  /** The general settings as written, for SHOW CONFIG. */
  readonly generalValues: Readonly<Record<string, string | number>>
  /** What control offered last. */
  readonly desired: Desired | null
  /** Asks the agent to look for a newer configuration now; `answer` gets null or what went wrong. */
  reload(answer: (error: string | null) => void): void
  /** Asks the other workers; where there are none, the answer comes at once. */
  queryWorkers(query: WorkerQuery, answer: (answers: readonly QueryAnswer[]) => void): void
}
