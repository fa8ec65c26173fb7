import type { Presence } from '../host.ts'
import { keepLastSeen } from '../store/proxies.ts'
import type { Store } from '../store/store.ts'

/** Further names are not remembered; the store still has the time of their reports. */
const proxiesMax = 100_000

/** When each proxy was last seen, in memory. `flush` stores what has changed since the last one. */
export class NodePresence implements Presence {
  readonly #nowMs: () => number
  readonly #seen = new Map<string, { fleet: string; proxy: string; atMs: number; isNew: boolean }>()

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  seen(fleet: string, proxy: string): void {
    const known = this.#seen.get(keyOf(fleet, proxy))
    if (known !== undefined) {
      known.atMs = this.#nowMs()
      known.isNew = true
    } else if (this.#seen.size < proxiesMax) {
      this.#seen.set(keyOf(fleet, proxy), { fleet, proxy, atMs: this.#nowMs(), isNew: true })
    }
  }

  lastSeenMs(fleet: string, proxy: string): number | undefined {
    return this.#seen.get(keyOf(fleet, proxy))?.atMs
  }

  async flush(store: Store): Promise<void> {
    const fresh = [...this.#seen.values()].filter(({ isNew }) => isNew)
    for (const entry of fresh) entry.isNew = false
    await keepLastSeen(
      store,
      fresh.map(({ fleet, proxy, atMs }) => ({ fleet, proxy, at: new Date(atMs).toISOString() })),
    )
  }
}

/** Names contain no spaces. */
function keyOf(fleet: string, proxy: string): string {
  return `${fleet} ${proxy}`
}
