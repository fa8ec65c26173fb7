import { bigints, integers, texts } from '../table.ts'
import type { Table } from '../table.ts'

/** Always empty: names are looked up one by one, and zones are not watched. */
export const dnsZones: Table = {
  columns: [...texts('zonename'), ...bigints('serial'), ...integers('count')],
  join: null,
  rows: () => [],
}
