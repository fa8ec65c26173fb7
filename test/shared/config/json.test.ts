import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseJson } from '../../../shared/config/json.ts'
import { ConfigSyntaxError } from '../../../shared/config/problems.ts'

test('what JSON.parse reads is read the same', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), fc.constantFrom(undefined, 1, '\t'), (text, indent) => {
      const written = JSON.stringify(JSON.parse(text), null, indent)

      expect(parseJson(written)).toEqual(JSON.parse(written))
    }),
  )
})

test('what JSON.parse refuses is refused', () => {
  const mangled = fc
    .tuple(fc.json({ maxDepth: 3 }), fc.nat(), fc.string({ maxLength: 2 }))
    .map(
      ([text, at, insert]) => text.slice(0, at % (text.length + 1)) + insert + text.slice((at % (text.length + 1)) + 1),
    )
  const faultOf = (read: (text: string) => unknown, text: string): string => {
    try {
      read(text)
      return 'none'
    } catch (error) {
      // The one thing refused on top of what JSON.parse refuses, wherever the text goes wrong later on.
      return String(error).includes('duplicate key') ? 'duplicate key' : 'some'
    }
  }
  fc.assert(
    fc.property(mangled, (text) => {
      const ours = faultOf(parseJson, text)
      return ours === 'duplicate key' || ours === faultOf(JSON.parse, text)
    }),
    { numRuns: 1000 },
  )
  expect(faultOf(parseJson, '[1,]')).toBe('some')
})

test('a key given twice is refused with its line and column', () => {
  expect(fault('{"pools": {\n  "a": 1,\n  "a": 2\n}}')).toMatchObject({ line: 3, column: 3 })
})

test('a fault names line and column and never quotes the text', () => {
  const error = fault('{\n "password": "geheim"x }')

  expect(error).toMatchObject({ line: 2, column: 22 })
  expect(error.message).not.toContain('geheim')
})

test('__proto__ is a key like any other', () => {
  const tree = parseJson('{"__proto__": {"a": 1}}') as object

  expect(Object.keys(tree)).toEqual(['__proto__'])
  expect(Object.getPrototypeOf(tree)).toBe(Object.prototype)
})

test('text nested without end is refused', () => {
  expect(fault('['.repeat(100_000)).message).toContain('nesting too deep')
})

function fault(text: string): ConfigSyntaxError {
  try {
    parseJson(text)
  } catch (error) {
    if (error instanceof ConfigSyntaxError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
