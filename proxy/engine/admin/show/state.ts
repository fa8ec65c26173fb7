import { texts } from '../table.ts'
import type { Table } from '../table.ts'

/** The pooler as a whole; SHOW DATABASES has what is paused of it. It is never suspended: there is no take-over. */
export const state: Table = {
  columns: texts('key', 'value'),
  rows: ({ pools }) => [
    ['active', yes(!pools.pausedAll)],
    ['paused', yes(pools.pausedAll)],
    ['suspended', yes(false)],
  ],
}

function yes(is: boolean): string {
  return is ? 'yes' : 'no'
}
