import type { Parking } from '../host.ts'

/** Further waits end at once; a parked poll has two. */
const waitingMax = 40_000

/** Parked requests of this process. `close` ends all of them. */
export class NodeParking implements Parking {
  readonly #waiting = new Map<string, Set<(isWoken: boolean) => void>>()
  #count = 0
  #closed = false

  wait(topic: string, waitMs: number, signal: AbortSignal): Promise<boolean> {
    if (this.#closed || signal.aborted || this.#count >= waitingMax) return Promise.resolve(false)
    return new Promise((resolve) => {
      const waiters = this.#waiting.get(topic) ?? new Set()
      this.#waiting.set(topic, waiters)
      this.#count += 1
      const go = (isWoken: boolean): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', giveUp)
        if (waiters.delete(go)) this.#count -= 1
        if (waiters.size === 0 && this.#waiting.get(topic) === waiters) this.#waiting.delete(topic)
        resolve(isWoken)
      }
      const giveUp = (): void => go(false)
      const timer = setTimeout(giveUp, waitMs)
      signal.addEventListener('abort', giveUp)
      waiters.add(go)
    })
  }

  wake(topic: string): void {
    for (const go of this.#waiting.get(topic) ?? []) go(true)
  }

  close(): void {
    this.#closed = true
    for (const waiters of this.#waiting.values()) for (const go of waiters) go(false)
  }
}
