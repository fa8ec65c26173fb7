import { byKey } from '../join.ts'
import { common, compare, sum } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Table } from '../table.ts'

/** One row per user; if the pools of a user differ, the largest limit is shown, and NULL for texts. */
export const users: Table = {
  columns: [
    ...texts('name', 'pool_size', 'reserve_pool_size', 'pool_mode'),
    ...integers('max_user_connections', 'current_connections'),
    ...integers('max_user_client_connections', 'current_client_connections'),
  ],
  join: byKey(1, [5, 7]),
  rows: ({ pools }) =>
    [...Map.groupBy(pools.all(), (pool) => pool.user)]
      .sort(([a], [b]) => compare(a, b))
      .map(([user, own]) => {
        const settings = own.flatMap((pool) => pool.settings ?? [])
        const size = common(settings, (one) => one.poolSize)
        const reserve = common(settings, (one) => one.reservePoolSize)
        return [
          user,
          size === null ? null : String(size),
          reserve === null ? null : String(reserve),
          common(settings, (one) => one.poolMode),
          Math.max(0, ...settings.map((one) => one.maxUserConnections)),
          sum(pools.sources(), ({ serverUser, serverSets }) =>
            serverUser === user ? sum(serverSets, ({ size }) => size) : 0,
          ),
          Math.max(0, ...settings.map((one) => one.maxUserClientConnections)),
          sum(own, ({ clientCount }) => clientCount),
        ]
      }),
}
