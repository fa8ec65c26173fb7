import { expect, test } from 'vitest'
import { descriptionOf } from '../../../../proxy/engine/session/description.ts'
import { BackendTag } from '../../../../proxy/protocol/tags.ts'

/** One field of a RowDescription: name, table, column, type, length, modifier, format. */
function field(name: string, table: number, type: number, format: number): Buffer {
  const fixed = Buffer.alloc(18)
  fixed.writeInt32BE(table, 0)
  fixed.writeInt16BE(1, 4)
  fixed.writeInt32BE(type, 6)
  fixed.writeInt16BE(4, 10)
  fixed.writeInt32BE(-1, 12)
  fixed.writeInt16BE(format, 16)
  return Buffer.concat([Buffer.from(`${name}\0`), fixed])
}

function described(...fields: readonly Buffer[]): string {
  const count = Buffer.alloc(2)
  count.writeInt16BE(fields.length)
  const body = Buffer.concat([count, ...fields])
  return descriptionOf(BackendTag.RowDescription, body, 0, body.length)
}

test('names and types of columns make a description, tables and formats do not', () => {
  const one = described(field('v', 100, 23, 0))

  expect(described(field('v', 200, 23, 1))).toBe(one)
  expect(described(field('w', 100, 23, 0))).not.toBe(one)
  expect(described(field('v', 100, 25, 0))).not.toBe(one)
  expect(described(field('v', 100, 23, 0), field('v', 100, 23, 0))).not.toBe(one)
})

test('NoData is a description too', () => {
  expect(descriptionOf(BackendTag.NoData, Buffer.alloc(0), 0, 0)).toBe('')
})
