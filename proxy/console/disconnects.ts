import type { EngineDisconnect } from '../../shared/disconnect.ts'

export interface TimedDisconnect extends EngineDisconnect {
  /** By the engine's clock. */
  readonly atMs: number
}

/** The latest disconnects, for SHOW DISCONNECTS. Control keeps the whole list; here the oldest are dropped. */
export class Disconnects {
  readonly #capacity: number
  #ring: TimedDisconnect[] = []
  /** Index of the oldest once the ring is full. */
  #oldest = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  add(atMs: number, disconnect: EngineDisconnect): void {
    const timed = { ...disconnect, atMs }
    if (this.#ring.length < this.#capacity) {
      this.#ring.push(timed)
      return
    }
    this.#ring[this.#oldest] = timed
    this.#oldest = (this.#oldest + 1) % this.#capacity
  }

  newestFirst(): TimedDisconnect[] {
    return [...this.#ring.slice(this.#oldest), ...this.#ring.slice(0, this.#oldest)].toReversed()
  }
}
