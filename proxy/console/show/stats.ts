import type { PoolTotals } from '../../snapshot.ts'
import type { OperatedEngine } from '../operated-engine.ts'
import type { DatabaseStatistics } from '../statistics.ts'
import { totalNames } from '../statistics.ts'
import { byKey, columns } from '../join.ts'
import { numerics, texts } from '../table.ts'
import type { Join, Row, Table } from '../table.ts'

/** SHOW STATS shortens two names of averages. */
const shortened: Partial<Record<keyof PoolTotals, string>> = { bytes_received: 'recv', bytes_sent: 'sent' }

/** Prefixed in all commands except the first eight columns of STATS_TOTALS and STATS_AVERAGES. */
const lateNames: ReadonlySet<keyof PoolTotals> = new Set([
  'client_parse_count',
  'server_parse_count',
  'bind_count',
  'client_login_count',
])

/**
 * As in PgBouncer's code, `total_received` counts what came from clients and `total_sent` what came from servers; its
 * manual is less precise. Parses and binds are those of tracked named statements (max_prepared_statements).
 */
export const stats: Table = {
  columns: [
    ...texts('database'),
    ...numerics(...totalNames.map((name) => `total_${name.replace('bytes_', '')}`)),
    ...numerics(...totalNames.map((name) => `avg_${shortened[name] ?? name}`)),
  ],
  join: withAverages(1 + totalNames.length),
  rows: (engine) =>
    statisticsOf(engine).map(({ database, totals, averages }) => [database, ...whole(totals), ...whole(averages)]),
}

export const statsTotals: Table = {
  columns: [...texts('database'), ...numerics(...totalNames)],
  join: byKey(1, columns(1, totalNames.length)),
  rows: (engine) => statisticsOf(engine).map(({ database, totals }) => [database, ...whole(totals)]),
}

export const statsAverages: Table = {
  columns: [
    ...texts('database'),
    ...numerics(...totalNames.map((name) => (lateNames.has(name) ? `avg_${name}` : name))),
  ],
  join: withAverages(1),
  rows: (engine) => statisticsOf(engine).map(({ database, averages }) => [database, ...whole(averages)]),
}

/** SHOW STATS over all databases, one value per row. */
export const totals: Table = {
  columns: [...texts('name'), ...numerics('value')],
  join: (ofWorkers) => {
    // The values are one row of SHOW STATS without the name.
    const asRow = (rows: readonly Row[]): Row => ['', ...rows.map(([, value]) => value ?? null)]
    const [row] = withAverages(1 + totalNames.length)(ofWorkers.map((rows) => [asRow(rows)]))
    return (ofWorkers[0] ?? []).map(([name], at) => [name ?? null, row?.[at + 1] ?? null])
  },
  rows: (engine) => {
    const all = statisticsOf(engine)
    const summed = (kind: 'totals' | 'averages', name: keyof PoolTotals): number =>
      Math.round(all.reduce((total, database) => total + database[kind][name], 0))
    return [
      ...totalNames.map((name) => [`total_${name.replace('bytes_', '')}`, summed('totals', name)]),
      ...totalNames.map((name) => [`avg_${shortened[name] ?? name}`, summed('averages', name)]),
    ]
  },
}

/** Averages begin at the column `first`, in the order of the totals: a time is per transaction or query. */
function withAverages(first: number): Join {
  const columnOf = (name: keyof PoolTotals): number => first + totalNames.indexOf(name)
  const perItem = [
    [columnOf('xact_time'), columnOf('xact_count')],
    [columnOf('query_time'), columnOf('query_count')],
  ] as const
  return (ofWorkers) => {
    const multiplied = ofWorkers.map((rows) =>
      rows.map((row) => {
        const product = [...row]
        for (const [time, count] of perItem) product[time] = Number(row[time]) * Number(row[count])
        return product
      }),
    )
    return byKey(
      1,
      columns(1, first + totalNames.length - 1),
    )(multiplied).map((row) => {
      const divided = [...row]
      for (const [time, count] of perItem)
        divided[time] = Math.round(Number(row[time]) / Math.max(1, Number(row[count])))
      return divided
    })
  }
}

function statisticsOf(engine: OperatedEngine): DatabaseStatistics[] {
  return engine.statistics.databases(engine.pools.all(), engine.context.io.nowMs())
}

/** Tools read all values as integers. */
function whole(totals: PoolTotals): number[] {
  return totalNames.map((name) => Math.round(totals[name]))
}
