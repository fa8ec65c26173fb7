import type { OperatedEngine } from '../operated-engine.ts'
import { consoleName } from '../console-name.ts'
import { connectionsOf, sum } from '../pools.ts'
import { integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'

/**
 * Counts of all kinds of items, in PgBouncer's order. Connections are not preallocated, so none is ever free; the
 * console counts as a database, a user and a pool.
 */
export const lists: Table = {
  columns: [...texts('list'), ...integers('items')],
  join: joined,
  // Pools created for "*" are known to one worker only, while others may have the same user or database.
  part: (engine) => [
    ...listsOf(engine),
    ...[...engine.pools.all()].map(({ database, user }) => [JSON.stringify([database, user]), null]),
  ],
  rows: listsOf,
}

function listsOf({ pools, context, logins }: OperatedEngine): Row[] {
  const list = [...pools.all()]
  const hosts = list.flatMap((pool) => pool.spec?.hosts ?? [])
  const looked = hosts.filter((host) => host.addresses.length !== 1 || host.addresses[0] !== host.host)
  const { databases, users, pools: poolCount } = counted(list)
  return [
    ['databases', databases],
    ['users', users],
    ['peers', context.peers.known.length],
    ['pools', poolCount],
    ['peer_pools', context.peers.known.length],
    ['free_clients', 0],
    ['used_clients', context.clients.size],
    ['login_clients', logins.size],
    ['free_servers', 0],
    [
      'used_servers',
      sum(pools.sources(), connectionsOf) + sum(pools.authQueries.sources(), (source) => source.connections.size),
    ],
    ['dns_names', new Set(looked.map((host) => host.host)).size],
    ['dns_zones', 0],
    ['dns_queries', 0],
    ['dns_pending', 0],
  ]
}

/** Counts of pools, and the console. */
function counted(list: readonly { readonly database: string; readonly user: string }[]): Record<Counted, number> {
  return {
    databases: new Set([consoleName, ...list.map(({ database }) => database)]).size,
    users: new Set([consoleName, ...list.map(({ user }) => user)]).size,
    pools: list.length + 1,
  }
}

type Counted = 'databases' | 'users' | 'pools'

function joined(ofWorkers: readonly (readonly Row[])[]): Row[] {
  const all = ofWorkers.flat()
  const names = new Set(all.flatMap(([list, items]) => (items === null ? [String(list)] : [])))
  const ofNames: Readonly<Record<string, number>> = counted(
    [...names].map((name) => {
      const [database, user] = JSON.parse(name) as [string, string] // written by `part`
      return { database, user }
    }),
  )
  return (ofWorkers[0] ?? []).flatMap(([list, items]) => {
    if (items === null || items === undefined) return []
    const summed = sum(
      all.filter((row) => row[0] === list),
      (row) => Number(row[1]),
    )
    return [[list ?? null, ofNames[String(list)] ?? (heldByOne.has(String(list)) ? summed : items)]]
  })
}

/** Rows counted per worker; the others are the same in all. */
const heldByOne: ReadonlySet<string> = new Set(['used_clients', 'login_clients', 'used_servers'])
