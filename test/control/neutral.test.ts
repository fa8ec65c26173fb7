import { readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = new URL('../../', import.meta.url)

/** Imports that are there at run time: not `import type`. */
const importPattern = /^\s*(?:import|export)\s+(?!type\s)(?:[^'";]*?\sfrom\s+)?['"]([^'"]+)['"]/gm
const dynamicPattern = /\bimport\(\s*['"]([^'"]+)['"]/g

interface Graph {
  /** Our own files, relative to the root. */
  readonly ours: Set<string>
  /** "file imports node:x" */
  readonly builtins: string[]
  readonly packages: Set<string>
}

/** Everything a module imports, packages included, found in the text of the files. */
function graphOf(entry: URL): Graph {
  const graph: Graph = { ours: new Set(), builtins: [], packages: new Set() }
  const seen = new Set<string>()
  const queue = [entry.href]
  for (let href = queue.pop(); href !== undefined; href = queue.pop()) {
    if (seen.has(href)) continue
    seen.add(href)
    const name = href.slice(root.href.length)
    if (name.startsWith('node_modules/')) graph.packages.add(name.split('/').slice(1, 3).join('/'))
    else graph.ours.add(name)
    const text = readFileSync(fileURLToPath(href), 'utf8')
    for (const [, specifier] of [...text.matchAll(importPattern), ...text.matchAll(dynamicPattern)]) {
      if (isBuiltin(specifier!)) graph.builtins.push(`${name} imports ${specifier}`)
      else queue.push(import.meta.resolve(specifier!, href))
    }
  }
  return graph
}

test('nothing that the app imports, directly or not, needs Node', () => {
  const graph = graphOf(new URL('control/app.ts', root))

  expect(graph.builtins).toEqual([])
  // The walk went where it should.
  expect([...graph.ours]).toEqual(
    expect.arrayContaining(['control/routes/manifest.ts', 'shared/hash.ts', 'control/store/poll-reads.ts']),
  )
  expect([...graph.packages].some((name) => name.startsWith('drizzle-orm'))).toBe(true)
})

test('the same walk finds what the Node host imports', () => {
  expect(graphOf(new URL('control/node.ts', root)).builtins).toContain('control/node.ts imports node:path')
})

test('no file of the app sets a timer or keeps something that changes between two requests', () => {
  const { ours } = graphOf(new URL('control/app.ts', root))
  const found: string[] = []
  for (const name of ours) {
    const text = readFileSync(new URL(name, root), 'utf8')
    for (const pattern of [
      /\bset(?:Timeout|Interval|Immediate)\b/,
      /\bDate\.now\b|\bnew Date\(\)/,
      /\bMath\.random\b|\bgetRandomValues\b|\brandomUUID\b/,
      /\bprocess\.[a-z]|\bprocess\[/,
      /\bglobalThis\b/,
      /^(?:export )?(?:let|var) /m,
      /^(?:export )?const \w+ = new (?:Map|Set|WeakMap)\b/m,
    ]) {
      const match = pattern.exec(text)
      if (match !== null) found.push(`${name}: ${match[0]}`)
    }
  }
  expect(found).toEqual([])
})
