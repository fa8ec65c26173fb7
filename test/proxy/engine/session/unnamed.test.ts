import { expect, test } from 'vitest'
import { UnnamedStatement } from '../../../../proxy/engine/session/unnamed.ts'

const group = 1

/** What the statement says, as far as it is kept. */
function saying(own: UnnamedStatement): string | null {
  const parse = own.current?.parse ?? null
  return parse === null ? null : Buffer.from(parse).toString()
}

function parse(own: UnnamedStatement, text: string, settled = false): void {
  const bytes = Buffer.from(text)
  own.parsed(settled, group).keep(bytes, 0, bytes.length)
}

test('the last Parse counts, and a Close or a Query takes it away', () => {
  const own = new UnnamedStatement()

  parse(own, 'one')
  parse(own, 'two')
  const before = saying(own)
  own.taken(false, group)

  expect(before).toBe('two')
  expect(saying(own)).toBeNull()
  expect(own.stamp).toBe(0)
})

test('no two Parses have the same stamp', () => {
  const own = new UnnamedStatement()
  const stamps = new Set<number>()

  for (let left = 100; left > 0; left--) {
    parse(own, 'x', left % 3 === 0)
    stamps.add(own.stamp)
  }

  expect(stamps.size).toBe(100)
})

test('what an error skips has not been done; what was sent after its Sync still is', () => {
  const own = new UnnamedStatement()
  parse(own, 'one', true)
  parse(own, 'skipped')
  own.taken(false, group)
  parse(own, 'later')

  own.undo(false, 2, 1)
  const then = saying(own)
  own.undo(false, 1, 0)

  expect(then).toBe('later')
  expect(saying(own)).toBe('one')
})

test('a Parse that fails leaves none, whatever was before it', () => {
  const own = new UnnamedStatement()
  parse(own, 'one', true)
  parse(own, 'wrong')
  parse(own, 'skipped')

  own.undo(true, 1, 0)

  expect(saying(own)).toBeNull()
})

test('an error that skips more than is kept leaves none', () => {
  const own = new UnnamedStatement()
  parse(own, 'one', true)
  for (let index = 0; index < 20; index++) parse(own, `${index}`)

  own.undo(false, 20, 0)

  expect(saying(own)).toBeNull()
})

test('memory of a long pipeline is given back when it has been answered', () => {
  const own = new UnnamedStatement()
  for (let index = 0; index < 10; index++) parse(own, `${index}`)

  parse(own, 'next', true)
  own.undo(false, 1, 0)

  expect(saying(own)).toBe('9')
})
