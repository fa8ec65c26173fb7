import flotilla from '../../../package.json' with { type: 'json' }
import { texts } from '../table.ts'
import type { Table } from '../table.ts'

/** Version of PgBouncer that this console follows, to the column. */
export const pgbouncerVersion = '1.25.2'

/** Tools look for "PgBouncer" followed by a version. */
export const version: Table = {
  columns: texts('version'),
  join: null,
  rows: () => [[`PgBouncer ${pgbouncerVersion} (Flotilla ${flotilla.version})`]],
}
