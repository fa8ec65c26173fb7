import { texts } from '../table.ts'
import type { Table } from '../table.ts'

/** State of the pooler as a whole; SHOW DATABASES shows what is paused. */
export const state: Table = {
  columns: texts('key', 'value'),
  join: null,
  rows: ({ pools, context }) => [
    ['active', yes(!pools.pausedAll && !context.suspended)],
    ['paused', yes(pools.pausedAll)],
    ['suspended', yes(context.suspended)],
  ],
}

function yes(is: boolean): string {
  return is ? 'yes' : 'no'
}
