import { SqlError } from '../../../shared/errors.ts'
import type { Message } from '../../protocol/framing.ts'

/**
 * What a login or another exchange needs of a connection. An exchange is a generator that reads top to bottom; it
 * yields when it needs more bytes (or another event), and is resumed by its driver.
 */
export interface Conversation {
  /** The next whole message, or undefined if it has not arrived. Throws SqlError 08P01 above the length limit. */
  take(): Message | undefined
  send(bytes: Uint8Array): void
  random(bytes: Uint8Array): void
}

export type Exchange<Result> = Generator<void, Result, void>

/** The next message of any type. */
export function* nextMessage(conversation: Conversation): Exchange<Message> {
  for (;;) {
    const message = conversation.take()
    if (message !== undefined) return message
    yield
  }
}

/** The next message, which must be of type `tag`. */
export function* readMessage(conversation: Conversation, tag: number): Exchange<Message> {
  const message = yield* nextMessage(conversation)
  if (message.tag !== tag) {
    throw new SqlError('protocol_violation', `expected message "${String.fromCharCode(tag)}"`)
  }
  return message
}
