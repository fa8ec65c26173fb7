/** A queue of bytes. It copies what is pushed, so that the caller may reuse its buffer. */
export class ByteQueue {
  #chunks: Buffer[] = []
  #length = 0

  get length(): number {
    return this.#length
  }

  push(bytes: Uint8Array, start = 0, end = bytes.length): void {
    if (end === start) return
    this.#chunks.push(Buffer.from(bytes.subarray(start, end)))
    this.#length += end - start
  }

  /** At most `bytesMax` bytes, in order; empty when there are none. */
  take(bytesMax: number): Buffer {
    const wanted = Math.min(bytesMax, this.#length)
    const parts: Buffer[] = []
    let rest = wanted
    let whole = 0
    while (rest > 0) {
      const chunk = this.#chunks[whole] as Buffer
      if (chunk.length <= rest) {
        parts.push(chunk)
        rest -= chunk.length
        whole++
        continue
      }
      parts.push(chunk.subarray(0, rest))
      this.#chunks[whole] = chunk.subarray(rest)
      rest = 0
    }
    this.#chunks.splice(0, whole)
    this.#length -= wanted
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)
  }

  /** Puts bytes back at the front. */
  unshift(bytes: Buffer): void {
    if (bytes.length === 0) return
    this.#chunks.unshift(bytes)
    this.#length += bytes.length
  }

  clear(): void {
    this.#chunks = []
    this.#length = 0
  }
}
