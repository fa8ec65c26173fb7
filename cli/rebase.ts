/** Two operators changed the same version: what each changed, and both together. */
import { isDeepStrictEqual } from 'node:util'
import { secretKeys } from '../shared/config/credentials.ts'
import { diffTrees } from '../shared/config/diff.ts'
import type { Change } from '../shared/config/diff.ts'
import { join } from '../shared/config/problems.ts'

/** Lines about what differs. Passwords are not printed. */
export function changeLines(before: unknown, after: unknown): string[] {
  return diffTrees(before, after).map(changeLine)
}

/** `~ pools.app.pool_size = 5 -> 9` */
export function changeLine(change: Change): string {
  const { path } = change
  const before = shown(path, change.before)
  const after = shown(path, change.after)
  if (before === undefined) return `+ ${path} = ${after}`
  if (after === undefined) return `- ${path} = ${before}`
  return `~ ${path} = ${before} -> ${after}`
}

/** Passwords are printed as references only. */
function shown(path: string, value: unknown): string | undefined {
  const key = /[^.]*$/.exec(path)?.[0] ?? ''
  if (typeof value === 'string' && (secretKeys() as readonly string[]).includes(key)) return '(a password)'
  return JSON.stringify(value)
}

export interface Merged {
  readonly tree: unknown
  /** Paths that both changed, differently. */
  readonly conflicts: readonly string[]
}

/** The changes from `base` to `mine` applied to `theirs`. Lists are changed as a whole. */
export function rebased(base: unknown, mine: unknown, theirs: unknown): Merged {
  const conflicts: string[] = []
  const merge = (old: unknown, ours: unknown, other: unknown, path: string): unknown => {
    if (isDeepStrictEqual(ours, old) || isDeepStrictEqual(ours, other)) return other
    if (isDeepStrictEqual(other, old)) return ours
    if (!isTable(ours) || !isTable(other)) {
      conflicts.push(path)
      return other
    }
    const before = isTable(old) ? old : {}
    const merged: Record<string, unknown> = {}
    for (const key of new Set([...Object.keys(other), ...Object.keys(ours)])) {
      const value = merge(before[key], ours[key], other[key], join(path, key))
      if (value !== undefined) merged[key] = value
    }
    return merged
  }
  return { tree: merge(base, mine, theirs, ''), conflicts }
}

/** A reference to a password is a value. */
function isTable(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !('secret' in value) && !('env' in value)
  )
}
