/** Spreads the requests of a fleet: `ms` ± 20 %. `random` returns 0 ≤ x < 1. */
export function jittered(ms: number, random: () => number): number {
  const spread = 0.2
  return Math.round(ms * (1 - spread + 2 * spread * random()))
}

export interface BackoffOptions {
  readonly firstMs: number
  readonly maxMs: number
  readonly random: () => number
}

/** Delays that double from `firstMs` to `maxMs`, with jitter, until an attempt succeeds. */
export class Backoff {
  readonly #options: BackoffOptions
  #nextMs: number

  constructor(options: BackoffOptions) {
    this.#options = options
    this.#nextMs = options.firstMs
  }

  /** Delay before the next attempt, in milliseconds. */
  next(): number {
    const ms = this.#nextMs
    this.#nextMs = Math.min(ms * 2, this.#options.maxMs)
    return jittered(ms, this.#options.random)
  }

  /** Call after a successful attempt. */
  reset(): void {
    this.#nextMs = this.#options.firstMs
  }
}
