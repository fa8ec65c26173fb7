import type { ConsoleUserSpec } from '../spec.ts'
import type { Exchange } from '../engine/wire/conversation.ts'
import type { OperatedEngine } from './operated-engine.ts'

export type Right = ConsoleUserSpec['right']

/** What a command may use of the session that typed it. */
export interface Caller {
  readonly engine: OperatedEngine
  readonly user: string
  readonly right: Right
  applicationName: string
  /** Answers in whole messages, of a few KiB; more in one turn of the loop only after `turn`. */
  send(bytes: Uint8Array): void
  /** Another turn of the loop, so that a long answer holds up nobody, and not before the client has read so far. */
  turn(): Exchange<void>
  /** Waits; whoever makes `ready` true calls `wake`. */
  until(ready: () => boolean): Exchange<void>
  wake(): void
}
