import type { Position } from '../../shared/wire.ts'
import { comparePositions } from '../../shared/position.ts'
import type { Contact, Presence, Process } from '../host.ts'
import { keepLastSeen } from '../store/proxies.ts'
import type { LastSeen } from '../store/proxies.ts'
import type { Store } from '../store/store.ts'

/** Further processes are not remembered; the store still has the time of their reports. */
const processesMax = 100_000

/** A process that was above control and has not been heard of for this long is no longer told of. */
const forgottenAfterMs = 600_000

interface Entry {
  readonly fleet: string
  readonly proxy: string
  readonly boot: string | null
  atMs: number
  /** Not stored yet. */
  isNew: boolean
  polled: Position | null
}

/** A process that says it has run more than the store knows. */
export interface ClaimAbove extends Process {
  readonly position: Position
}

/** When each process was last seen, in memory. `flush` stores what has changed since the last one. */
export class NodePresence implements Presence {
  readonly #nowMs: () => number
  readonly #seen = new Map<string, Entry>()
  /** Since when the token of a proxy is refused, by name. */
  readonly #refused = new Map<string, number>()

  /** Those that are above control, by key. */
  readonly #above = new Map<string, { readonly fleet: string; readonly atMs: number }>()
  readonly #onAbove: (claim: ClaimAbove) => void

  /** `onAbove` is told of the first proxy of each fleet that is above control. */
  constructor(nowMs: () => number, onAbove: (claim: ClaimAbove) => void = () => undefined) {
    this.#nowMs = nowMs
    this.#onAbove = onAbove
  }

  seen(fleet: string, proxy: string, boot: string | null, polled?: Position | null): void {
    this.#refused.delete(keyOf(fleet, proxy, null))
    const key = keyOf(fleet, proxy, boot)
    const known = this.#seen.get(key)
    if (known !== undefined) {
      known.atMs = this.#nowMs()
      known.isNew = true
      if (polled !== undefined) known.polled = polled
    } else if (this.#seen.size < processesMax) {
      this.#seen.set(key, { fleet, proxy, boot, atMs: this.#nowMs(), isNew: true, polled: polled ?? null })
    }
  }

  claimed(process: Process, position: Position | null, current: Position): void {
    const { fleet, proxy, boot } = process
    const key = keyOf(fleet, proxy, boot)
    if (position === null || comparePositions(position, current) <= 0) {
      this.#above.delete(key)
      return
    }
    const isFirst = !this.above().has(fleet)
    if (this.#above.size < processesMax) this.#above.set(key, { fleet, atMs: this.#nowMs() })
    if (isFirst) this.#onAbove({ ...process, position })
  }

  above(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>()
    for (const [key, { fleet, atMs }] of this.#above) {
      if (this.#nowMs() - atMs > forgottenAfterMs) this.#above.delete(key)
      else counts.set(fleet, (counts.get(fleet) ?? 0) + 1)
    }
    return counts
  }

  refused(fleet: string, proxy: string): void {
    const key = keyOf(fleet, proxy, null)
    if (!this.#refused.has(key) && this.#refused.size < processesMax) this.#refused.set(key, this.#nowMs())
  }

  refusedSinceMs(fleet: string, proxy: string): number | undefined {
    return this.#refused.get(keyOf(fleet, proxy, null))
  }

  contact(fleet: string, proxy: string, boot: string | null): Contact | undefined {
    return this.#seen.get(keyOf(fleet, proxy, boot))
  }

  async flush(store: Store): Promise<void> {
    const fresh = [...this.#seen.values()].filter(({ isNew }) => isNew)
    for (const entry of fresh) entry.isNew = false
    const seen = fresh.map(({ fleet, proxy, boot, atMs }): LastSeen => {
      return { fleet, proxy, boot, at: new Date(atMs).toISOString() }
    })
    await keepLastSeen(store, seen)
  }
}

/** Names contain no spaces. */
function keyOf(fleet: string, proxy: string, boot: string | null): string {
  return boot === null ? `${fleet} ${proxy}` : `${fleet} ${proxy} ${boot}`
}
