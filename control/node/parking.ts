import type { Parking } from '../host.ts'

/** More than this wait at once are answered at once instead. */
const waitingMax = 20_000

/** Requests that wait in this process. `close` lets all of them go. */
export class NodeParking implements Parking {
  readonly #waiting = new Map<string, Set<() => void>>()
  #count = 0
  #closed = false

  wait(topic: string, waitMs: number, signal: AbortSignal): Promise<void> {
    if (this.#closed || signal.aborted || this.#count >= waitingMax) return Promise.resolve()
    return new Promise((resolve) => {
      const waiters = this.#waiting.get(topic) ?? new Set()
      this.#waiting.set(topic, waiters)
      this.#count += 1
      const go = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', go)
        if (waiters.delete(go)) this.#count -= 1
        if (waiters.size === 0 && this.#waiting.get(topic) === waiters) this.#waiting.delete(topic)
        resolve()
      }
      const timer = setTimeout(go, waitMs)
      signal.addEventListener('abort', go)
      waiters.add(go)
    })
  }

  wake(topic: string): void {
    for (const go of this.#waiting.get(topic) ?? []) go()
  }

  close(): void {
    this.#closed = true
    for (const topic of this.#waiting.keys()) this.wake(topic)
  }
}
