import { expect, test } from 'vitest'
import { parseOptions } from '../../../proxy/protocol/options.ts'

test.each<[string, [string, string][]]>([
  ['', []],
  ['   ', []],
  ['-c search_path=a', [['search_path', 'a']]],
  ['-csearch_path=a', [['search_path', 'a']]],
  ['--search_path=a', [['search_path', 'a']]],
  ['--search-path=a-b', [['search_path', 'a-b']]],
  [
    ' -c  search_path=a\t--statement_timeout=5s\n',
    [
      ['search_path', 'a'],
      ['statement_timeout', '5s'],
    ],
  ],
  ['-c search_path=a\\ b\\\\c', [['search_path', 'a b\\c']]],
  ['-c search_path="$user",public', [['search_path', '"$user",public']]],
  ['-c a=b=c', [['a', 'b=c']]],
  ['-c a=', [['a', '']]],
  ['-c a=b\\', [['a', 'b']]],
  ['-c a=b\u00a0c', [['a', 'b\u00a0c']]],
  ['-c a=1 -c a=2', [['a', '1'], ['a', '2']]], // prettier-ignore
])('options %j set %j', (options, settings) => {
  expect(parseOptions(options)).toEqual(settings)
})

test.each(['-c', '-c search_path', '--search_path', '--=a', '-c =a', '--', '-d 5', 'search_path=a', '\\'])(
  'options %j are refused as a syntax error',
  (options) => {
    expect(() => parseOptions(options)).toThrow(expect.objectContaining({ name: 'SqlError', sqlstate: '42601' }))
  },
)
