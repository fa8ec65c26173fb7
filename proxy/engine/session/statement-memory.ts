/**
 * Bytes that an engine keeps for the prepared statements of its clients: texts, names, and long messages that arrive in
 * pieces. What does not fit is rejected in the transaction of the client that asks for it; nothing else waits or fails.
 */

/** A single text may take this part at most: while it is sent, it is in memory several times. */
const textShare = 4

export class StatementMemory {
  readonly #bytesMax: () => number
  #bytes = 0

  constructor(bytesMax: () => number) {
    this.#bytesMax = bytesMax
  }

  /** In use. */
  get bytes(): number {
    return this.#bytes
  }

  get textBytesMax(): number {
    return Math.floor(this.#bytesMax() / textShare)
  }

  hasRoom(bytes: number): boolean {
    return this.#bytes + bytes <= this.#bytesMax()
  }

  /** What must be kept is, though there may be no room. */
  add(bytes: number): void {
    this.#bytes += bytes
  }

  release(bytes: number): void {
    this.#bytes -= bytes
  }
}
