import { join } from './problems.ts'

/** `before` is absent where the path was added, `after` where it was removed. */
export interface Change {
  readonly path: string
  readonly before?: unknown
  readonly after?: unknown
}

/** All leaves that differ, ordered by path. */
export function diffTrees(before: unknown, after: unknown): Change[] {
  const old = leaves(before)
  const now = leaves(after)
  const paths = [...new Set([...old.keys(), ...now.keys()])].toSorted()
  return paths.flatMap((path) => {
    const [was, is] = [old.get(path), now.get(path)]
    if (JSON.stringify(was) === JSON.stringify(is)) return []
    return [
      {
        path,
        ...(was === undefined ? {} : { before: was }),
        ...(is === undefined ? {} : { after: is }),
      },
    ]
  })
}

/** Path → value. A reference to a password is one leaf. */
function leaves(tree: unknown): Map<string, unknown> {
  const found = new Map<string, unknown>()
  const walk = (value: unknown, path: string): void => {
    if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) walk(item, `${path}[${index}]`)
      return
    }
    if (typeof value !== 'object' || value === null || 'secret' in value || 'env' in value) {
      found.set(path, value)
      return
    }
    for (const [key, item] of Object.entries(value)) walk(item, join(path, key))
  }
  walk(tree, '')
  return found
}
