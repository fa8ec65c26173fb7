/** Merging the rows of workers for a SHOW command into the rows of the process. */
import type { Join } from './table.ts'

/** Concatenates: every worker has rows of its own. */
export const all: Join = (ofWorkers) => ofWorkers.flat()

/** Merges rows that are equal in the first `keys` columns by adding up the columns `summed`. */
export function byKey(keys: number, summed: readonly number[]): Join {
  return (ofWorkers) => {
    const rows = new Map<string, (string | number | null)[]>()
    for (const row of ofWorkers.flat()) {
      const key = JSON.stringify(row.slice(0, keys))
      const known = rows.get(key)
      if (known === undefined) rows.set(key, [...row])
      else for (const at of summed) known[at] = Number(known[at]) + Number(row[at])
    }
    return [...rows.values()]
  }
}

/** The numbers from `first` up to, not including, `last`. */
export function columns(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at)
}
