/** Something at which clients wait in a line of its own. */
export interface Queue {
  /** Since when its oldest client has waited; Infinity if none waits. It only rises. */
  readonly waitingSinceMs: number
  /** It is in an order. Set by the order alone. */
  queued: boolean
}

/**
 * HOT. Queues by their oldest clients: a binary heap in two arrays, so that nothing is allocated per wait. The head of a
 * queue may leave at any time; the heap learns of it when that queue has come to its top, which is early enough, because
 * a queue only moves back.
 */
export class OldestFirst<Item extends Queue> {
  readonly #items: Item[] = []
  readonly #sincesMs: number[] = []

  /** A client waits in `item`. */
  add(item: Item): void {
    if (item.queued) return
    item.queued = true
    this.#items.push(item)
    this.#sincesMs.push(item.waitingSinceMs)
    this.#rise(this.#items.length - 1)
  }

  remove(item: Item): void {
    if (!item.queued) return
    this.#removeAt(this.#items.indexOf(item))
  }

  /** The queue whose client has waited for longest; null if no client waits. */
  first(): Item | null {
    for (;;) {
      const item = this.#items[0]
      if (item === undefined) return null
      const sinceMs = item.waitingSinceMs
      if (sinceMs === this.#sincesMs[0]) return item
      if (sinceMs === Infinity) {
        this.#removeAt(0)
      } else {
        this.#sincesMs[0] = sinceMs
        this.#sink(0)
      }
    }
  }

  /** In no order, including queues that have become empty. */
  [Symbol.iterator](): Iterator<Item> {
    return this.#items[Symbol.iterator]()
  }

  #removeAt(at: number): void {
    const last = this.#items.length - 1
    ;(this.#items[at] as Item).queued = false
    this.#swap(at, last)
    this.#items.pop()
    this.#sincesMs.pop()
    if (at === last) return
    this.#sink(at)
    this.#rise(at)
  }

  #rise(from: number): void {
    for (let at = from; at > 0;) {
      const parent = (at - 1) >> 1
      if (this.#since(parent) <= this.#since(at)) return
      this.#swap(at, parent)
      at = parent
    }
  }

  #sink(from: number): void {
    for (let at = from; ;) {
      const left = 2 * at + 1
      const right = left + 1
      let least = at
      if (this.#since(left) < this.#since(least)) least = left
      if (this.#since(right) < this.#since(least)) least = right
      if (least === at) return
      this.#swap(at, least)
      at = least
    }
  }

  #since(at: number): number {
    return this.#sincesMs[at] ?? Infinity
  }

  #swap(one: number, other: number): void {
    const item = this.#items[one] as Item
    const sinceMs = this.#sincesMs[one] as number
    this.#items[one] = this.#items[other] as Item
    this.#sincesMs[one] = this.#sincesMs[other] as number
    this.#items[other] = item
    this.#sincesMs[other] = sinceMs
  }
}
