/** Drives a login exchange by hand: bytes go in, what it sent comes out. */
import { randomFillSync } from 'node:crypto'
import { Inbox } from '../../../../proxy/protocol/framing.ts'
import type { Conversation, Exchange } from '../../../../proxy/engine/wire/conversation.ts'

/** As for a peer that has not logged in. */
const messageBytesMax = 10_000

export class Dialogue<Result> {
  /** What the exchange sent and the test has not taken. */
  sent = Buffer.alloc(0)
  result: Result | undefined
  finished = false
  readonly #inbox = new Inbox()
  readonly #exchange: Exchange<Result>
  #unread = Buffer.alloc(0)

  constructor(
    begin: (conversation: Conversation) => Exchange<Result>,
    random: (bytes: Uint8Array) => void = (bytes) => void randomFillSync(bytes),
  ) {
    this.#exchange = begin({
      take: () => this.#inbox.take(messageBytesMax),
      send: (bytes) => {
        this.sent = Buffer.concat([this.sent, bytes])
      },
      random,
    })
    this.push(Buffer.alloc(0))
  }

  /** Throws what the exchange throws. */
  push(bytes: Uint8Array): void {
    if (this.finished) throw new Error('the exchange is over')
    // In a place of its own, so that a view that outlives the call is seen to change.
    const place = Buffer.concat([Buffer.alloc(7), this.#unread, bytes, Buffer.alloc(7)])
    this.#inbox.open(place, 7, place.length - 7)
    const step = this.#exchange.next()
    this.#unread = Buffer.from(place.subarray(this.#inbox.start, this.#inbox.end))
    this.#inbox.close()
    place.fill(0xee)
    if (step.done !== true) return
    this.finished = true
    this.result = step.value
  }

  /** The body of the next message it sent, which must have this tag. */
  takeSent(tag: string): Buffer {
    const length = this.sent.readInt32BE(1)
    const found = String.fromCharCode(this.sent[0] as number)
    if (found !== tag) throw new Error(`it sent ${found}, not ${tag}`)
    const body = this.sent.subarray(5, length + 1)
    this.sent = this.sent.subarray(length + 1)
    return body
  }
}

/** Byte1 tag, Int32 length, body. */
export function message(tag: string, body: Uint8Array | string): Buffer {
  const bytes = Buffer.from(body)
  const head = Buffer.alloc(5)
  head.write(tag)
  head.writeInt32BE(bytes.length + 4, 1)
  return Buffer.concat([head, bytes])
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
