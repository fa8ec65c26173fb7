import { copyBytes } from '../../io/copy.ts'
import { headerBytes } from '../../protocol/framing.ts'
import type { Socket } from '../../io/io.ts'

const usualBytes = 128 * 1024

/**
 * Replaces what a client sent to a server: pieces of it and messages of our own, laid side by side for one send. One
 * per thread, emptied before each use.
 */
export class SendBuffer {
  #bytes = Buffer.allocUnsafeSlow(usualBytes)
  #length = 0

  get length(): number {
    return this.#length
  }

  /** Empties the buffer; memory for an unusually long message is released. */
  clear(): void {
    this.#length = 0
    if (this.#bytes.length > usualBytes) this.#bytes = Buffer.allocUnsafeSlow(usualBytes)
  }

  add(bytes: Uint8Array, start: number, end: number): void {
    const length = end - start
    if (this.#length + length > this.#bytes.length) this.#grow(length)
    copyBytes(bytes, start, end, this.#bytes, this.#length)
    this.#length += length
  }

  addWhole(bytes: Uint8Array): void {
    this.add(bytes, 0, bytes.length)
  }

  /** Tag and length of a message; its body follows. */
  addHeader(tag: number, length: number): void {
    if (this.#length + headerBytes > this.#bytes.length) this.#grow(headerBytes)
    this.#bytes[this.#length] = tag
    this.#bytes.writeInt32BE(length, this.#length + 1)
    this.#length += headerBytes
  }

  /** False if the socket queued some of it. */
  sendTo(socket: Socket): boolean {
    const sent = socket.send(this.#bytes, 0, this.#length)
    this.#length = 0
    return sent
  }

  #grow(length: number): void {
    const larger = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(this.#length + length)))
    larger.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = larger
  }
}
