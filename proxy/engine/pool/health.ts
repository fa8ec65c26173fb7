import type { Target } from './target.ts'

/** An address at which the last login failed. */
export interface Failure {
  readonly target: Target
  readonly sinceMs: number
  readonly failures: number
  /** Error of the last one. */
  readonly message: string
  /** Nothing is opened before `pauseMs` after `atMs`. */
  readonly atMs: number
  readonly pauseMs: number
}

/** Health of a pool's servers, by address. It belongs to the pool, so rebuilds keep it. */
export class Health {
  readonly #failures = new Map<string, Failure>()

  succeeded(target: Target): void {
    this.#failures.delete(keyOf(target))
  }

  failed(target: Target, { message, nowMs, pauseMs }: { message: string; nowMs: number; pauseMs: number }): void {
    const known = this.#failures.get(keyOf(target))
    const failures = (known?.failures ?? 0) + 1
    this.#failures.set(keyOf(target), {
      target,
      sinceMs: known?.sinceMs ?? nowMs,
      failures,
      message,
      atMs: nowMs,
      pauseMs,
    })
  }

  /** Failures at present targets; those of other addresses are dropped. */
  failing(targets: readonly Target[]): Failure[] {
    const wanted = new Set(targets.map(keyOf))
    for (const key of this.#failures.keys()) if (!wanted.has(key)) this.#failures.delete(key)
    return [...this.#failures.values()]
  }
}

function keyOf({ host, address }: Target): string {
  return `${host.host} ${host.port} ${address}`
}
