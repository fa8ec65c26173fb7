/** Spreads a fleet's requests: `ms` ± 20 %. `random` gives 0 ≤ x < 1. */
export function jittered(ms: number, random: () => number): number {
  const spread = 0.2
  return Math.round(ms * (1 - spread + 2 * spread * random()))
}

export interface BackoffOptions {
  readonly firstMs: number
  readonly maxMs: number
  readonly random: () => number
}

/** Waits that double from `firstMs` to `maxMs`, each with jitter, until something succeeds. */
export class Backoff {
  readonly #options: BackoffOptions
  #nextMs: number

  constructor(options: BackoffOptions) {
    this.#options = options
    this.#nextMs = options.firstMs
  }

  /** The wait before the next attempt, in milliseconds. */
  next(): number {
    const ms = this.#nextMs
    this.#nextMs = Math.min(ms * 2, this.#options.maxMs)
    return jittered(ms, this.#options.random)
  }

  /** Call it when an attempt succeeded. */
  reset(): void {
    this.#nextMs = this.#options.firstMs
  }
}
