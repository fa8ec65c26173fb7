import { sortedNames } from '../pools.ts'
import { bigints, integers, texts } from '../table.ts'
import type { Table } from '../table.ts'
import { timestamp } from '../time.ts'

/**
 * Addresses at which the last login failed: PgCat's columns, then ours. An address is banned for as long as nothing is
 * opened to it, which is the pause before the next attempt (server_login_retry); a login that succeeds ends it.
 */
export const bans: Table = {
  columns: [
    ...texts('db', 'user', 'role', 'host', 'reason', 'ban_time'),
    ...bigints('ban_duration_seconds', 'ban_remaining_seconds'),
    ...integers('port'),
    ...texts('address'),
    ...integers('failures'),
  ],
  *rows(engine) {
    const { io } = engine.context
    for (const name of sortedNames(engine)) {
      for (const failure of name.health.failing(name.current?.targets ?? [])) {
        const { target, message, sinceMs, atMs, pauseMs, failures } = failure
        yield [
          name.database,
          name.user,
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
