import type { ConsoleUserSpec } from '../spec.ts'
import type { Exchange } from '../engine/wire/conversation.ts'
import type { OperatedEngine } from './operated-engine.ts'
import type { Statement } from './statements.ts'

export type Right = ConsoleUserSpec['right']

/** Runs a command and sends its answer: at once, or as an exchange that waits in between. */
export type Run = (caller: Caller, statement: Statement) => Exchange<void> | void

/** What a command may use of its session. */
export interface Caller {
  readonly engine: OperatedEngine
  readonly user: string
  readonly right: Right
  applicationName: string
  /** Sends whole messages, of a few KiB; more per turn of the loop only after `turn`. */
  send(bytes: Uint8Array): void
  /**
   * Waits for another turn of the loop, so that a long answer does not block others, and until the client has read so
   * far.
   */
  turn(): Exchange<void>
  /** Waits; the code that makes `ready` true calls `wake`. */
  until(ready: () => boolean): Exchange<void>
  wake(): void
}
