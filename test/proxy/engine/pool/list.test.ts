import { expect, test } from 'vitest'
import { List } from '../../../../proxy/engine/pool/list.ts'
import type { Listed } from '../../../../proxy/engine/pool/list.ts'

class Item implements Listed<Item> {
  list: List<Item> | null = null
  previous: Item | null = null
  next: Item | null = null
}

test('items come in the order of head and tail pushes', () => {
  const list = new List<Item>('test')
  const [a, b, c] = [new Item(), new Item(), new Item()]

  list.pushTail(b)
  list.pushTail(c)
  list.pushHead(a)

  expect([...list]).toEqual([a, b, c])
  expect(list.size).toBe(3)
})

test('the item at hand may be removed while iterating', () => {
  const list = new List<Item>('test')
  for (let index = 0; index < 3; index++) list.pushTail(new Item())

  for (const item of list) list.remove(item)

  expect(list.size).toBe(0)
  expect([list.head, list.tail]).toEqual([null, null])
})

test('an item stands in one list only', () => {
  const item = new Item()
  new List<Item>('one').pushTail(item)

  expect(() => new List<Item>('other').pushTail(item)).toThrow('one list only')
})

test('an item is taken only from the list it is in', () => {
  const item = new Item()
  new List<Item>('one').pushTail(item)

  expect(() => new List<Item>('other').remove(item)).toThrow('the list it is in')
})
