import { readFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'

const root = new URL('../../', import.meta.url).pathname

/** What is below these paths is checked. */
const checked = [
  'README.md',
  'ARCHITECTURE.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'docs',
  'shared',
  'cli',
  'control',
  'proxy',
  'test',
  'bench',
]

/** The words themselves. */
const thisFile = 'test/project/plain-english.test.ts'

/** Words that PostgreSQL's and PgBouncer's manuals do without, and what they say instead. */
const refused: readonly { readonly words: RegExp; readonly instead: string }[] = [
  { words: /\bwho(m|m?ever)\b/i, instead: 'a noun: the client, the operator, the worker' },
  {
    words: /\b((some|no|any|every)body|(some|any|every)one)\b/i,
    instead: 'a noun, with "a", "no" or "each" before it',
  },
  { words: /\b(he|him|his|she)\b/i, instead: 'the noun, or "it"' },
  { words: /\b(is|are|was|were|be|been|being) asked\b/i, instead: 'queries, requests, prompts, sends' },
  {
    words: /\b(crews?|deeds?|umpire|keeper|hungry|passage|patience)\b/i,
    instead: "the field's word: workers, operation, checker, supervisor",
  },
  { words: /\bDESIGN\.md\b|\bDESIGN "/, instead: 'a document of this repository' },
]

// Not untracked ones: those that other tests make for a moment may be gone before they are read.
const files = execFileSync('git', ['ls-files', '--', ...checked], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter((file) => /\.(ts|md)$/.test(file) && file !== thisFile)

describe('plain English', () => {
  test.each(refused)('no file says $words', ({ words, instead }) => {
    const found = files.flatMap((file) =>
      readFileSync(`${root}${file}`, 'utf8')
        .split('\n')
        .flatMap((line, index) => (words.test(line) ? [`${file}:${index + 1}: ${line}`] : [])),
    )

    expect(found, `write ${instead}`).toEqual([])
  })
})
