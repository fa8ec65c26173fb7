import type { Timer } from './io.ts'

/**
 * Timers of a loop in a binary heap, the earliest at its root; of those due at the same time the older one first. A
 * canceled timer leaves the heap at once, so it uses no memory until it would have been due.
 */
export class Timers {
  readonly #heap: Entry[] = []
  #sequence = 0

  get size(): number {
    return this.#heap.length
  }

  /** Time of the next timer; Infinity if there is none. */
  get nextMs(): number {
    return this.#heap[0]?.atMs ?? Infinity
  }

  at(atMs: number, run: () => void): Timer {
    const entry = new Entry(this, atMs, this.#sequence++, run)
    entry.index = this.#heap.length
    this.#heap.push(entry)
    this.#up(entry)
    return entry
  }

  /** Runs due timers. A timer set by one of them waits for the next call, however short it is. */
  runDue(nowMs: number): void {
    const newer = this.#sequence
    for (;;) {
      const entry = this.#heap[0]
      if (entry === undefined || entry.atMs > nowMs || entry.sequence >= newer) return
      this.remove(entry)
      entry.run()
    }
  }

  remove(entry: Entry): void {
    if (entry.index === absent) return
    const last = this.#heap.pop() as Entry // the heap holds at least `entry`
    if (last !== entry) {
      this.#place(last, entry.index)
      this.#up(last)
      this.#down(last)
    }
    entry.index = absent
  }

  #place(entry: Entry, index: number): void {
    this.#heap[index] = entry
    entry.index = index
  }

  #up(entry: Entry): void {
    while (entry.index > 0) {
      const parent = this.#heap[(entry.index - 1) >> 1] as Entry
      if (!entry.before(parent)) return
      const { index } = entry
      this.#place(entry, parent.index)
      this.#place(parent, index)
    }
  }

  #down(entry: Entry): void {
    for (;;) {
      const left = this.#heap[2 * entry.index + 1]
      if (left === undefined) return
      const right = this.#heap[2 * entry.index + 2]
      const child = right !== undefined && right.before(left) ? right : left
      if (!child.before(entry)) return
      const { index } = entry
      this.#place(entry, child.index)
      this.#place(child, index)
    }
  }
}

const absent = -1

class Entry implements Timer {
  readonly #timers: Timers
  readonly atMs: number
  readonly sequence: number
  readonly run: () => void
  index = absent

  constructor(timers: Timers, atMs: number, sequence: number, run: () => void) {
    this.#timers = timers
    this.atMs = atMs
    this.sequence = sequence
    this.run = run
  }

  before(other: Entry): boolean {
    return this.atMs < other.atMs || (this.atMs === other.atMs && this.sequence < other.sequence)
  }

  cancel(): void {
    this.#timers.remove(this)
  }
}
