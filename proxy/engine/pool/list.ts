import assert from 'node:assert/strict'

/** An item of at most one list; the list is its state. */
export interface Listed<Item extends Listed<Item>> {
  list: List<Item> | null
  previous: Item | null
  next: Item | null
}

/**
 * A doubly linked list through its items: moving one allocates nothing. `size` is changed with the links, so it cannot
 * drift.
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
    assert(item.list === null, 'an item is in one list only')
    item.list = this
    item.next = this.head
    if (this.head === null) this.tail = item
    else this.head.previous = item
    this.head = item
    this.#size++
  }

  pushTail(item: Item): void {
    assert(item.list === null, 'an item is in one list only')
    item.list = this
    item.previous = this.tail
    if (this.tail === null) this.head = item
    else this.tail.next = item
    this.tail = item
    this.#size++
  }

  remove(item: Item): void {
    assert(item.list === this, 'an item is removed from the list it is in')
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
