import type { Exchange } from '../engine/wire/conversation.ts'
import type { Engine } from '../engine/engine.ts'
import type { Right } from './commands.ts'

/** What a command may use of the session that typed it. */
export interface Caller {
  readonly engine: Engine
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
