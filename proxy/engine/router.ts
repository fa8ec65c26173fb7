import type { Pool } from './pool/pool.ts'
import type { Pools } from './pool/pools.ts'
import type { PoolSpec } from '../spec.ts'

/** The virtual databases of the console; tools know PgBouncer's name. */
const consoleDatabases: ReadonlySet<string> = new Set(['pgbouncer', 'flotilla'])

export function isConsole(database: string): boolean {
  return consoleDatabases.has(database)
}

export type Route =
  | { readonly to: 'console' }
  | { readonly to: 'pool'; readonly pool: Pool }
  /** A pool to be created for this client after its login, from `template`. */
  | { readonly to: 'wildcard'; readonly template: Pool }
  /** No such database or user: told to the client only after a login that cannot succeed. */
  | { readonly to: 'nowhere' }

/** What serves a client of `database` and `user`. The first rule that matches applies. */
export function route(pools: Pools, database: string, user: string): Route {
  if (isConsole(database)) return { to: 'console' }
  const pool = pools.find(database, user)
  if (pool !== null && pool.spec !== null && !pool.isWildcard) return { to: 'pool', pool }
  const template = pools.templateFor(database, user)
  if (template !== null) return { to: 'wildcard', template }
  return { to: 'nowhere' }
}

/** The configuration that determines how the client authenticates; null if there is none. */
export function serving(target: Route): PoolSpec | null {
  switch (target.to) {
    case 'pool':
      return target.pool.spec
    case 'wildcard':
      return target.template.spec
    case 'console':
    case 'nowhere':
      return null
    default:
      return target satisfies never
  }
}
