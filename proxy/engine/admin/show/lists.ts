import { byKey } from '../join.ts'
import { consoleName, poolsOf, sum } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Table } from '../table.ts'

/**
 * How much there is of everything, in PgBouncer's order. Connections are not preallocated, so none is ever free; the
 * console counts as a database, a user and a pool.
 */
export const lists: Table = {
  columns: [...texts('list'), ...integers('items')],
  join: (ofWorkers) => [
    ...byKey(
      1,
      [1],
    )(ofWorkers.map((rows, worker) => rows.filter(([list]) => worker === 0 || heldByOne.has(String(list))))),
  ],
  rows: ({ pools, context, logins }) => {
    const names = [...pools.names()]
    const hosts = names.flatMap((name) => name.current?.spec.hosts ?? [])
    const looked = hosts.filter((host) => host.addresses.length !== 1 || host.addresses[0] !== host.host)
    return [
      ['databases', new Set([consoleName, ...names.map((name) => name.database)]).size],
      ['users', new Set([consoleName, ...names.map((name) => name.user)]).size],
      ['peers', context.peers.known.length],
      ['pools', names.length + 1],
      ['peer_pools', context.peers.known.length],
      ['free_clients', 0],
      ['used_clients', context.clients.size],
      ['login_clients', logins.size],
      ['free_servers', 0],
      [
        'used_servers',
        sum(names, (name) => sum(poolsOf(name), (pool) => pool.connections)) +
          sum(pools.authQueries.sources(), (source) => source.connections.size),
      ],
      ['dns_names', new Set(looked.map((host) => host.host)).size],
      ['dns_zones', 0],
      ['dns_queries', 0],
      ['dns_pending', 0],
    ]
  },
}

/** What each worker has of its own; the rest is the same for all. */
const heldByOne: ReadonlySet<string> = new Set(['used_clients', 'login_clients', 'used_servers'])
