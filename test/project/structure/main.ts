/**
 * `npm run structure`: files per folder, circles of imports, imports against the reading order, the longest functions,
 * and assignments to fields of classes from other files. It prints and judges nothing; `npm run lint` judges.
 */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { markdownTable } from '../../../bench/table.ts'
import { circlesOf } from './circles.ts'
import { lineOf, readingOrder } from './reading-order.ts'
import { readSources } from './sources.ts'
import type { Source } from './sources.ts'

/** As many lines as a screen has (docs: "a function fits a screen"). */
const functionLinesMax = 70
const functionsShown = 15

const root = join(import.meta.dirname, '../../..')
const all = readSources(root)
const product = all.filter(({ path }) => /^(?:cli|control|proxy|shared)\//.test(path))
const files = new Set(product.map(({ path }) => path))
const graph = new Map(product.map(({ path, imports }) => [path, imports.filter((target) => files.has(target))]))
const edges = [...graph].flatMap(([from, targets]) => targets.map((to) => ({ from, to })))

const write = (text: string): void => void process.stdout.write(`${text}\n`)

function print(title: string, head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  write(`\n## ${title}\n`)
  if (rows.length === 0) return
  write(
    markdownTable(
      head,
      rows.map((row) => row.map(String)),
    ),
  )
}

function count<T>(items: readonly T[], key: (item: T) => string): [string, T[]][] {
  return [...Map.groupBy(items, key)].sort(([a], [b]) => (a < b ? -1 : 1))
}

function printFolders(): void {
  const linesOf = (sources: readonly Source[]): number => sources.reduce((sum, { lines }) => sum + lines, 0)
  const rows = count(all, ({ path }) => dirname(path)).map(([folder, sources]) => [
    folder,
    sources.length,
    linesOf(sources),
  ])
  const longest = [...product].sort((a, b) => b.lines - a.lines).slice(0, 5)
  print(`Folders: ${all.length} files, ${linesOf(all)} lines`, ['folder', 'files', 'lines'], rows)
  print(
    'Longest files',
    ['file', 'lines'],
    longest.map(({ path, lines }) => [path, lines]),
  )
}

function printCircles(): void {
  const circles = circlesOf(graph)
  const rows = circles.map((circle) => [circle.length, [...new Set(circle.map(dirname))].sort().join(', ')])
  print(`Circles of imports, types included: ${circles.length}`, ['files', 'in'], rows)
  for (const circle of circles) write(`\n${circle.length}: ${circle.join(' ')}`)
}

/** Pairs of folders that import each other; the rarer direction is the one that is out of order. */
function printMutual(): void {
  const between = new Map(count(edges, ({ from, to }) => `${dirname(from)} → ${dirname(to)}`))
  const rows = [...between].flatMap(([pair, { length: forth }]) => {
    const [from, to] = pair.split(' → ') as [string, string]
    const back = between.get(`${to} → ${from}`)?.length ?? 0
    const isCommoner = forth > back || (forth === back && from < to)
    return from !== to && back > 0 && isCommoner ? [[from, to, forth, back]] : []
  })
  print(`Folders that import each other: ${rows.length} pairs`, ['folder', 'and', 'forth', 'back'], rows)
}

function printAgainstOrder(): void {
  const order = readingOrder(readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8'), [...files])
  const against = edges.filter(({ from, to }) => {
    const [above, below] = [lineOf(order, from), lineOf(order, to)]
    return above > -1 && below > -1 && below < above
  })
  const unnamed = [...files].filter((path) => lineOf(order, path) === -1)
  const rows = count(against, ({ from, to }) => `${dirname(from)} → ${dirname(to)}`).map(([pair, found]) => [
    pair,
    found.length,
  ])
  print(`Imports against ARCHITECTURE's reading order: ${against.length}`, ['from → to', 'imports'], rows)
  if (unnamed.length > 0) write(`\nnamed by no line: ${unnamed.join(' ')}`)
}

function printFunctions(): void {
  const functions = product.flatMap(({ path, functions: found }) => found.map((one) => ({ path, ...one })))
  const sorted = functions.sort((a, b) => b.lines - a.lines)
  const tooLong = sorted.filter(({ lines }) => lines > functionLinesMax)
  const rows = sorted
    .slice(0, Math.max(functionsShown, tooLong.length))
    .map(({ path, name, line, lines }) => [`${path}:${line}`, name, lines])
  print(
    `Longest functions: ${tooLong.length} with more than ${functionLinesMax} lines`,
    ['where', 'function', 'lines'],
    rows,
  )
}

function printFieldWrites(): void {
  const writes = product.flatMap(({ path, fieldWrites }) => fieldWrites.map((one) => ({ path, ...one })))
  write(`\n## Fields assigned from other files: ${writes.length} places\n`)
  for (const [owner, found] of count(writes, (one) => one.owner).sort(([, a], [, b]) => b.length - a.length)) {
    write(
      `${owner}, ${found.length}: ${count(found, ({ field }) => field)
        .map(fieldAndPlaces)
        .join('; ')}`,
    )
  }
}

function fieldAndPlaces([field, found]: [string, { path: string; line: number }[]]): string {
  return `${field} (${found.map(({ path, line }) => `${path.split('/').at(-1)}:${line}`).join(', ')})`
}

printFolders()
printCircles()
printMutual()
printAgainstOrder()
printFunctions()
printFieldWrites()
