/**
 * Where messages begin and end (manual, "Message Overview"): Byte1 type, Int32 length that includes itself, body. The
 * one place that reads a header; requests.ts and replies.ts, which are hot, call `readLength` for each message, and
 * everything else takes messages from an Inbox.
 */
import { SqlError } from '../../shared/errors.ts'
import { int32 } from './read.ts'

/** Type and length. */
export const headerBytes = 5

const lengthMin = 4

/**
 * HOT. The length of the message whose header is at `at`: it includes itself but not the type. 0 if it is invalid.
 */
export function readLength(bytes: Uint8Array, at: number): number {
  const length = int32(bytes, at + 1)
  return length < lengthMin ? 0 : length
}

/** A whole typed message; `bytes` from `start` to `end` is its body, valid until the generator yields again. */
export interface Message {
  readonly tag: number
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
}

/** Received bytes that were not handled yet, as typed messages. */
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

  /** The next whole message, or undefined if it has not arrived. Throws SqlError 08P01 if it is above `lengthMax`. */
  take(lengthMax: number): Message | undefined {
    const { bytes, start, end } = this
    if (end - start < headerBytes) return undefined
    const length = readLength(bytes, start)
    if (length === 0 || length > lengthMax) throw new SqlError('protocol_violation', invalidLengthText)
    const next = start + 1 + length
    if (next > end) return undefined
    this.#start = next
    return { tag: bytes[start] as number, bytes, start: start + headerBytes, end: next }
  }
}

/** PostgreSQL's text. */
export const invalidLengthText = 'invalid message length'

const empty = new Uint8Array(0)
