import assert from 'node:assert/strict'

/** An item of at most one list; the list is its state. */
export interface Listed<Item extends Listed<Item>> {
  list: List<Item> | null
  previous: Item | null
  next: Item | null
}

/**
 * HOT. A doubly linked list through its items: moving one allocates nothing. `size` belongs to the links, so it cannot
 * drift from them.
 */
export class List<Item extends Listed<Item>> {
  readonly name: string
  head: Item | null = null
  tail: Item | null = null
  #size = 0

  constructor(name: string) {
    this.name = name
  }

  get size(): number {
    return this.#size
  }

  pushHead(item: Item): void {
    if (item.list !== null) assert.fail('an item is in one list only')
    item.list = this
    item.next = this.head
    if (this.head === null) this.tail = item
    else this.head.previous = item
    this.head = item
    this.#size++
  }

  pushTail(item: Item): void {
    if (item.list !== null) assert.fail('an item is in one list only')
    item.list = this
    item.previous = this.tail
    if (this.tail === null) this.head = item
    else this.tail.next = item
    this.tail = item
    this.#size++
  }

  remove(item: Item): void {
    if (item.list !== this) assert.fail('an item is removed from the list it is in')
    const { previous, next } = item
    if (previous === null) this.head = next
    else previous.next = next
    if (next === null) this.tail = previous
    else next.previous = previous
    item.list = null
    item.previous = null
    item.next = null
    this.#size--
  }

  /** For a walk during which other items may be removed. */
  copy(): Item[] {
    return [...this]
  }

  /** Safe against removal of the current item while iterating. */
  *[Symbol.iterator](): Generator<Item> {
    let item = this.head
    while (item !== null) {
      const next: Item | null = item.next
      yield item
      item = next
    }
  }
}
