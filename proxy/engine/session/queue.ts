/** First in, first out. `Array.shift` moves all items that remain, which thousands of statements in one pipeline feel. */
export class Queue<Item extends object> {
  /** Items before `#head` have been taken. */
  readonly #items: (Item | null)[] = []
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  get first(): Item | undefined {
    return this.#items[this.#head] ?? undefined
  }

  push(item: Item): void {
    this.#items.push(item)
  }

  shift(): Item | undefined {
    const item = this.first
    if (item === undefined) return undefined
    this.#items[this.#head++] = null
    // Each item is moved once at most, on average.
    if (this.#head * 2 >= this.#items.length) {
      this.#items.splice(0, this.#head)
      this.#head = 0
    }
    return item
  }

  /** The first `count` of them. */
  take(count: number): Item[] {
    const items: Item[] = []
    for (let left = count; left > 0; left--) {
      const item = this.shift()
      if (item !== undefined) items.push(item)
    }
    return items
  }

  clear(): void {
    this.#items.length = 0
    this.#head = 0
  }
}
