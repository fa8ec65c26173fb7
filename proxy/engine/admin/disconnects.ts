import type { LostServer } from '../messages.ts'

export interface Disconnect extends LostServer {
  /** On the engine's clock. */
  readonly atMs: number
}

/** The servers lost last, for SHOW DISCONNECTS. Control keeps the whole list; here the oldest make room. */
export class Disconnects {
  readonly #capacity: number
  #ring: Disconnect[] = []
  /** Where the oldest stands once the ring is full. */
  #oldest = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  add(atMs: number, server: LostServer): void {
    const disconnect = { ...server, atMs }
    if (this.#ring.length < this.#capacity) {
      this.#ring.push(disconnect)
      return
    }
    this.#ring[this.#oldest] = disconnect
    this.#oldest = (this.#oldest + 1) % this.#capacity
  }

  newestFirst(): Disconnect[] {
    return [...this.#ring.slice(this.#oldest), ...this.#ring.slice(0, this.#oldest)].toReversed()
  }
}
