import type { Random } from './random.ts'

/** A future event that can be canceled. */
export interface Scheduled {
  cancel(): void
}

interface Entry {
  readonly atMs: number
  /** Orders events of the same instant at random, so that their order is explored too. */
  readonly tie: number
  run: (() => void) | null
}

/** The virtual clock and its queue of events. Time moves only from event to event. */
export class Schedule {
  readonly #random: Random
  #heap: Entry[] = []
  #nowMs = 0

  constructor(random: Random) {
    this.#random = random
  }

  get nowMs(): number {
    return this.#nowMs
  }

  get empty(): boolean {
    return this.#heap.length === 0
  }

  after(delayMs: number, run: () => void): Scheduled {
    const entry: Entry = { atMs: this.#nowMs + Math.max(0, delayMs), tie: this.#random.next(), run }
    this.#push(entry)
    return {
      cancel: () => {
        entry.run = null
      },
    }
  }

  /** Runs the next event. False when there is none until `untilMs`, where the clock then stands. */
  step(untilMs: number): boolean {
    for (;;) {
      const entry = this.#heap[0]
      if (entry === undefined || entry.atMs > untilMs) {
        if (Number.isFinite(untilMs)) this.#nowMs = Math.max(this.#nowMs, untilMs)
        return false
      }
      this.#pop()
      const { run } = entry
      if (run === null) continue
      this.#nowMs = entry.atMs
      entry.run = null
      run()
      return true
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(entry)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!before(entry, heap[parent] as Entry)) break
      heap[at] = heap[parent] as Entry
      at = parent
    }
    heap[at] = entry
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop() as Entry
    if (heap.length === 0) return
    let at = 0
    for (;;) {
      let child = at * 2 + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1] as Entry, heap[child] as Entry)) child++
      if (!before(heap[child] as Entry, last)) break
      heap[at] = heap[child] as Entry
      at = child
    }
    heap[at] = last
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.tie < b.tie)
}
