import { readFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'

const root = new URL('../../', import.meta.url).pathname

/** Paths whose text is finished; what is below them is checked. The list only grows. */
const finished = [
  'README.md',
  'ARCHITECTURE.md',
  'CHANGELOG.md',
  'docs',
  'shared',
  'cli',
  'control',
  'proxy',
  'test/support',
]

/** Words that PostgreSQL's and PgBouncer's manuals do without, and what they say instead. */
const refused: readonly { readonly words: RegExp; readonly instead: string }[] = [
  { words: /\bwho(m|m?ever)\b/i, instead: 'a noun: the client, the operator, the worker' },
  { words: /\b(some|no)body\b/i, instead: 'a noun, with "a" or "no" before it' },
  { words: /\b(he|him|his|she)\b/i, instead: 'the noun, or "it"' },
  { words: /\b(is|are|was|were|be|been|being) asked\b/i, instead: 'queries, requests, prompts, sends' },
  { words: /\bDESIGN\.md\b|\bDESIGN "/, instead: 'a document of this repository' },
]

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--', ...finished], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => /\.(ts|md)$/.test(file))

describe('plain English', () => {
  test.each(refused)('no finished file says $words', ({ words, instead }) => {
    const found = files.flatMap((file) =>
      readFileSync(`${root}${file}`, 'utf8')
        .split('\n')
        .flatMap((line, index) => (words.test(line) ? [`${file}:${index + 1}: ${line}`] : [])),
    )

    expect(found, `write ${instead}`).toEqual([])
  })
})
