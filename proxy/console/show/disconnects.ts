import { compare } from '../pools.ts'
import { bigints, integers, texts } from '../table.ts'
import type { Table } from '../table.ts'
import { timestamp } from '../time.ts'

/** Server connections lost since the proxy started, newest first, at most a thousand. */
export const disconnects: Table = {
  columns: [
    ...texts('at', 'database', 'user', 'host'),
    ...integers('port'),
    ...texts('role'),
    ...integers('backend_pid'),
    ...texts('cause', 'errno', 'sqlstate', 'message', 'state'),
    ...bigints('connection_age_ms', 'idle_ms'),
    ...integers('client_hurt'),
    ...texts('pool_hash'),
  ],
  join: (ofWorkers) => ofWorkers.flat().toSorted((a, b) => compare(String(b[0]), String(a[0]))),
  rows: ({ disconnects, context }) =>
    disconnects
      .newestFirst()
      .map((one) => [
        timestamp(context.io, one.atMs),
        one.pool,
        one.user,
        one.host,
        one.port,
        one.role,
        one.backend_pid,
        one.cause,
        one.errno,
        one.sqlstate,
        one.message,
        one.state,
        Math.round(one.connection_age_ms),
        Math.round(one.idle_ms),
        one.client_hurt ? 1 : 0,
        one.pool_hash,
      ]),
}
