/** How the rows that workers give for one SHOW command become the rows of the process. */
import type { Join } from './table.ts'

/** Every worker has its own. */
export const all: Join = (ofWorkers) => ofWorkers.flat()

/** Rows that bear the same in the first `keys` columns become one, with the numbers in the columns `summed` added up. */
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

/** The numbers from `first` up to `last`. */
export function columns(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at)
}
