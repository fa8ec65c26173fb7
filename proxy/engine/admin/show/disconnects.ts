import { compare } from '../pools.ts'
import { bigints, integers, texts } from '../table.ts'
import type { Table } from '../table.ts'
import { timestamp } from '../time.ts'

/** Server connections lost since the proxy started, newest first; the last thousand of them. */
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
      .map((lost) => [
        timestamp(context.io, lost.atMs),
        lost.pool,
        lost.user,
        lost.host,
        lost.port,
        lost.role,
        lost.backendPid,
        lost.cause,
        lost.errno,
        lost.sqlstate,
        lost.message,
        lost.state,
        Math.round(lost.connectionAgeMs),
        Math.round(lost.idleMs),
        lost.clientHurt ? 1 : 0,
        lost.poolHash,
      ]),
}
