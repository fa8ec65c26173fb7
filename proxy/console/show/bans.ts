import { compare, sortedSources, sum } from '../pools.ts'
import { bigints, integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'
import { timestamp } from '../time.ts'

/**
 * Addresses at which the last login failed: PgCat's columns, then ours. An address is banned while nothing is opened to
 * it, which is the delay before the next attempt (server_login_retry); a successful login removes it.
 */
export const bans: Table = {
  columns: [
    ...texts('db', 'user', 'role', 'host', 'reason', 'ban_time'),
    ...bigints('ban_duration_seconds', 'ban_remaining_seconds'),
    ...integers('port'),
    ...texts('address'),
    ...integers('failures'),
  ],
  join: joined,
  *rows(engine) {
    const { io } = engine.context
    for (const source of sortedSources(engine)) {
      for (const failure of source.health.failing(source.current?.targets ?? [])) {
        const { target, message, sinceMs, atMs, pauseMs, failures } = failure
        yield [
          source.database,
          source.user,
          target.host.role,
          target.host.host,
          message,
          timestamp(io, sinceMs),
          Math.ceil(pauseMs / 1000),
          Math.ceil(Math.max(0, atMs + pauseMs - io.nowMs()) / 1000),
          target.host.port,
          target.address,
          failures,
        ]
      }
    }
  },
}

/**
 * Each worker opens servers of its own and has seen some of the failures. An address is banned from the first of them
 * until no worker waits; the reason is that of the worker that waits longest.
 */
function joined(ofWorkers: readonly (readonly Row[])[]): Row[] {
  const longest = ofWorkers.flat().toSorted((a, b) => Number(b[at.remaining]) - Number(a[at.remaining]))
  const sameAddress = Map.groupBy(longest, (row) =>
    JSON.stringify([at.database, at.user, at.host, at.port, at.address].map((column) => row[column])),
  )
  return [...sameAddress.values()]
    .map((rows) => {
      const row = [...(rows[0] as Row)] // never empty
      row[at.since] = rows.map((one) => String(one[at.since])).toSorted(compare)[0] ?? null
      row[at.duration] = Math.max(...rows.map((one) => Number(one[at.duration])))
      row[at.failures] = sum(rows, (one) => Number(one[at.failures]))
      return row
    })
    .toSorted((a, b) => compare(nameOf(a), nameOf(b)))
}

const at = {
  database: 0,
  user: 1,
  host: 3,
  since: 5,
  duration: 6,
  remaining: 7,
  port: 8,
  address: 9,
  failures: 10,
} as const

/** Sort key of rows. */
function nameOf(row: Row): string {
  return JSON.stringify([row[at.database], row[at.user]])
}
