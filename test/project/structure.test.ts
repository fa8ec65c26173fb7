import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { tempFolder } from '../support/temp-folder.ts'
import { circlesOf } from './structure/circles.ts'
import { lineOf, readingOrder } from './structure/reading-order.ts'
import { readSources } from './structure/sources.ts'
import type { Source } from './structure/sources.ts'

test('a circle has every file that reaches the others and is reached by them, and no other', () => {
  const graph = new Map([
    ['entry', ['a', 'x']],
    ['a', ['b', 'leaf']],
    ['b', ['c', 'a']],
    ['c', ['a']],
    ['x', ['y']],
    ['y', ['x', 'c']],
    ['leaf', []],
  ])

  expect(circlesOf(graph)).toEqual([
    ['a', 'b', 'c'],
    ['x', 'y'],
  ])
})

test('an import of types, a re-export and a dynamic import are imports', async () => {
  const [a] = await sourcesOf({
    'a.ts':
      "import type { B } from './b.ts'\nexport * from './c/c.ts'\nconst d = import('./d.ts')\nimport 'node:net'\n",
    'b.ts': 'export type B = 1\n',
    'c/c.ts': 'export const c = 1\n',
    'd.ts': 'export const d = 1\n',
  })

  expect(a?.imports).toEqual(['b.ts', 'c/c.ts', 'd.ts'])
})

test('a function has the lines from its first word to its last brace, and its class before its name', async () => {
  const [a] = await sourcesOf({
    'a.ts': 'class A {\n  /** Why. */\n  #b(\n    c: number,\n  ): number {\n    return c\n  }\n}\nconst d = () => 1\n',
  })

  expect(a?.functions).toEqual([
    { name: 'A.#b', line: 3, lines: 5 },
    { name: 'd', line: 9, lines: 1 },
  ])
})

test('an assignment to a field counts where the class is declared in another file', async () => {
  const [a, b] = await sourcesOf({
    'a.ts': 'export class A {\n  field = 1\n  own(other: A): void {\n    other.field = 2\n  }\n}\n',
    'b.ts':
      "import { A } from './a.ts'\nconst a = new A()\na.field += 2\na.field++\nconst b = { c: 1 }\nb.c = a.field\n",
  })

  expect(a?.fieldWrites).toEqual([])
  expect(b?.fieldWrites).toEqual([
    { owner: 'A', field: 'field', line: 3 },
    { owner: 'A', field: 'field', line: 4 },
  ])
})

test('the longest name in the reading order decides, and a name is taken beside the first of its line', () => {
  const architecture =
    '# A\n\n## Folders\n\n| folder | what |\n| --- | --- |\n| `a/app.ts`, `routes/` | x |\n| `a/` | y |\n\n## Next\n\n| `z` | z |\n'
  const order = readingOrder(architecture, ['a/app.ts', 'a/routes/one.ts', 'a/other.ts'])

  expect(order).toEqual([['a/app.ts', 'a/routes/'], ['a/']])
  expect(['a/app.ts', 'a/routes/one.ts', 'a/other.ts', 'b/b.ts'].map((path) => lineOf(order, path))).toEqual([
    0, 0, 1, -1,
  ])
})

/** In alphabetical order of their paths. */
async function sourcesOf(files: Readonly<Record<string, string>>): Promise<Source[]> {
  const root = await tempFolder()
  const config = { compilerOptions: { module: 'nodenext', allowImportingTsExtensions: true, noEmit: true } }
  for (const [path, text] of Object.entries({ ...files, 'tsconfig.json': JSON.stringify(config) })) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  return readSources(root).sort((a, b) => (a.path < b.path ? -1 : 1))
}
