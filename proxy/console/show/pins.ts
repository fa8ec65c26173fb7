import { reasonsOf } from '../../engine/session/session-state.ts'
import { all } from '../join.ts'
import { sortedServers } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Table } from '../table.ts'
import { timestamp } from '../time.ts'

/** One row per server that is pinned to its client by session state. */
export const pins: Table = {
  columns: [...texts('database', 'user'), ...integers('client_id', 'remote_pid'), ...texts('reason', 'since')],
  join: all,
  *rows(engine) {
    for (const server of sortedServers(engine)) {
      const { client } = server
      if (client === null || !server.pinned) continue
      yield [
        client.pool.database,
        client.pool.user,
        client.id,
        server.backendKey?.pid ?? 0,
        reasonsOf(server.kept),
        timestamp(engine.context.io, server.pinnedAtMs),
      ]
    }
  },
}
