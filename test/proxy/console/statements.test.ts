import { array, assert, constantFrom, oneof, property, string } from 'fast-check'
import { expect, test } from 'vitest'
import { SqlError } from '../../../shared/errors.ts'
import { parseStatements } from '../../../proxy/console/statements.ts'

function valuesOf(source: string): string[][] {
  return parseStatements(source).map((statement) => statement.map((token) => token.value))
}

test.for<[source: string, statements: string[][]]>([
  ['SHOW POOLS', [['SHOW', 'POOLS']]],
  [' show\tpools ;\n', [['show', 'pools']]],
  [
    'SHOW POOLS;SHOW LISTS;',
    [
      ['SHOW', 'POOLS'],
      ['SHOW', 'LISTS'],
    ],
  ],
  ['', []],
  [' ; ;', []],
  ['-- nothing', []],
  ['SHOW -- which?\nPOOLS', [['SHOW', 'POOLS']]],
  ['SHOW/* a /* nested */ comment */POOLS', [['SHOW', 'POOLS']]],
  ["SET application_name = 'it''s; -- data'", [['SET', 'application_name', '=', "it's; -- data"]]],
  ['SET "TimeZone" TO UTC', [['SET', 'TimeZone', 'TO', 'UTC']]],
  ['SELECT 1-1', [['SELECT', '1', '-', '1']]],
])('%j is read as %j', ([source, statements]) => {
  expect(valuesOf(source)).toEqual(statements)
})

test('what was quoted is a text, not a word', () => {
  const [statement] = parseStatements(`'SHOW' "POOLS" SHOW`)

  expect(statement?.map((token) => token.kind)).toEqual(['text', 'text', 'word'])
})

test.for(["SHOW 'POOLS", 'SHOW "POOLS', 'SHOW /* POOLS', 'SHOW /* /* */'])('%j is refused with 42601', (source) => {
  expect(() => parseStatements(source)).toThrow(expect.objectContaining({ sqlstate: '42601' }))
})

/** Quotes and comments in disorder are refused; everything else is read. */
function read(source: string): 'read' | 'refused' {
  try {
    parseStatements(source)
    return 'read'
  } catch (error) {
    if (error instanceof SqlError) return 'refused'
    throw error
  }
}

test('any text is read or refused, and nothing else', () => {
  const piece = oneof(string(), constantFrom(';', "'", '"', '--', '/*', '*/', '\n', 'SHOW'))

  const check = property(array(piece), (pieces) => {
    expect(['read', 'refused']).toContain(read(pieces.join(' ')))
  })

  expect(() => assert(check)).not.toThrow()
})

test('no word of a plain text is lost', () => {
  const plain = string().map((text) => text.replaceAll(/['"/-]/g, ''))

  const check = property(plain, (text) => {
    expect(valuesOf(text).flat().join('')).toBe(text.replaceAll(/[\s;]/g, ''))
  })

  expect(() => assert(check)).not.toThrow()
})
