import { SqlError } from '../../../shared/errors.ts'

/** A whole typed message; `bytes` from `start` to `end` is its body, valid until the generator yields again. */
export interface Message {
  readonly tag: number
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
}

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

/**
 * Received bytes that were not handled yet, as typed messages: tag (1 byte), length (Int32, including itself), body.
 */
export class Inbox {
  #bytes: Uint8Array = empty
  #start = 0
  #end = 0

  /** Sets the bytes of an onData call; what is left afterwards begins at `start`. */
  open(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes = bytes
    this.#start = start
    this.#end = end
  }

  get bytes(): Uint8Array {
    return this.#bytes
  }

  get start(): number {
    return this.#start
  }

  get end(): number {
    return this.#end
  }

  advanceTo(offset: number): void {
    this.#start = offset
  }

  /** Call after the bytes are no longer valid. */
  close(): void {
    this.#bytes = empty
    this.#start = 0
    this.#end = 0
  }

  take(lengthMax: number): Message | undefined {
    const { bytes, start, end } = this
    if (end - start < headerBytes) return undefined
    const length = readLength(bytes, start)
    if (length < 4 || length > lengthMax) throw new SqlError('protocol_violation', 'invalid message length')
    const next = start + 1 + length
    if (next > end) return undefined
    this.#start = next
    return { tag: bytes[start] as number, bytes, start: start + headerBytes, end: next }
  }
}

/** Tag and length. */
export const headerBytes = 5

/** The length word of the message that begins at `at`; it includes itself but not the tag. */
export function readLength(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at + 1] as number) << 24) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 8) |
    (bytes[at + 4] as number)
  )
}

const empty = new Uint8Array(0)
