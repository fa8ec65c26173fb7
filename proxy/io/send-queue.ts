import type { Memory } from './libc.ts'
import { allocate } from './libc.ts'

/** Small consecutive sends share a chunk of this length. */
const chunkBytesMin = 4096

interface Chunk {
  readonly memory: Memory
  start: number
  end: number
}

/** Copies of bytes that the kernel did not take, in order. */
export class SendQueue {
  readonly #chunks: Chunk[] = []
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  push(bytes: Uint8Array, start: number, end: number): void {
    let at = start
    const last = this.#chunks.at(-1)
    if (last !== undefined) {
      const fits = Math.min(end - at, last.memory.bytes.length - last.end)
      last.memory.bytes.set(bytes.subarray(at, at + fits), last.end)
      last.end += fits
      at += fits
    }
    if (at < end) {
      const memory = allocate(Math.max(end - at, chunkBytesMin))
      memory.bytes.set(bytes.subarray(at, end))
      this.#chunks.push({ memory, start: 0, end: end - at })
    }
    this.#bytes += end - start
  }

  /** The oldest contiguous bytes: address and length; length 0 if there are none. */
  get headAddress(): number {
    const head = this.#chunks[0]
    return head === undefined ? 0 : head.memory.address + head.start
  }

  get headLength(): number {
    const head = this.#chunks[0]
    return head === undefined ? 0 : head.end - head.start
  }

  /** The first `length` bytes of the head have left. */
  shift(length: number): void {
    const head = this.#chunks[0]
    if (head === undefined) return
    head.start += length
    this.#bytes -= length
    if (head.start === head.end) this.#chunks.shift()
  }
}
