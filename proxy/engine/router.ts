import type { PoolName } from './name.ts'
import type { Pools } from './pools.ts'

/** The virtual databases that are the console; PgBouncer's name is the one tools know. */
const consoleDatabases: ReadonlySet<string> = new Set(['pgbouncer', 'flotilla'])

export type Route =
  | { readonly to: 'console' }
  | { readonly to: 'pool'; readonly name: PoolName }
  /** No such pool or no such user: told to the client only after a login that cannot succeed. */
  | { readonly to: 'nowhere' }

/** What serves a client that asks for `database` as `user`. Rules in order; the first that matches wins. */
export function route(pools: Pools, database: string, user: string): Route {
  if (consoleDatabases.has(database)) return { to: 'console' }
  const name = pools.find(database, user)
  if (name !== null && name.current !== null) return { to: 'pool', name }
  return { to: 'nowhere' }
}
