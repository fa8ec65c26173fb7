/** The folders of ARCHITECTURE.md in their reading order: a file imports only from its own line or from one below. */

const heading = '## Folders'

/** The first column of the table under the heading: per line, the folders and files that it names, in full. */
export function readingOrder(architecture: string, paths: readonly string[]): string[][] {
  const section = architecture.split(`${heading}\n`)[1]?.split('\n## ')[0]
  if (section === undefined) throw new Error(`ARCHITECTURE.md has no "${heading}"`)
  const cells = section.split('\n').flatMap((line) => (line.startsWith('| `') ? [line.split('|')[1] as string] : []))
  return cells.map((cell) => {
    const names = [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1] as string)
    const first = names[0] as string
    const parent = first.slice(0, first.lastIndexOf('/', first.length - 2) + 1)
    const isKnown = (name: string): boolean => paths.some((path) => path.startsWith(name))
    return names.map((name) => (isKnown(name) ? name : parent + name))
  })
}

/** The line of a file: that of the longest name that its path starts with; -1 when no line names it. */
export function lineOf(order: readonly (readonly string[])[], path: string): number {
  const named = order.flatMap((names, line) => names.map((name) => ({ name, line })))
  const fitting = named.filter(({ name }) => path.startsWith(name))
  return fitting.sort((a, b) => b.name.length - a.name.length)[0]?.line ?? -1
}
