/** Which pools take their servers from where: decided for what runs, and for a version that is tried before it does. */
import { wildcard } from '../../../shared/config/wildcard.ts'
import type { PoolSpec } from '../../spec.ts'

/** Name of a pool. */
interface Name {
  readonly database: string
  readonly user: string
}

/** The pools with "*" that may serve a user without a pool of its own, the first one that exists. */
export function templatesOf({ database, user }: Name, isConfigured: boolean): Name[] {
  if (database === wildcard || user === wildcard) return []
  const users = isConfigured ? [wildcard] : [user, wildcard]
  return users.map((one) => ({ database: isConfigured ? database : wildcard, user: one }))
}

/** The configuration of "*" for one database and user; it has the hash of "*". */
export function specFor(spec: PoolSpec, { database, user }: Name): PoolSpec {
  return {
    ...spec,
    database,
    user,
    serverDatabase: spec.database === wildcard && spec.serverDatabase === wildcard ? database : spec.serverDatabase,
    serverUser: spec.user === wildcard && spec.serverUser === wildcard ? user : spec.serverUser,
  }
}

/** A pool that has servers: not "*" itself. */
export interface Supplied extends Name {
  readonly spec: PoolSpec
  /** It was created for a client of "*". */
  readonly isMade: boolean
}

/** One (database, server user), and the pools that take servers from it; the first one's configuration applies. */
export interface Supply<Pool extends Supplied> {
  readonly database: string
  readonly serverUser: string
  /** Distinguishes it from the others of the database. */
  readonly key: string
  readonly pools: [Pool, ...Pool[]]
}

/**
 * Users of a database whose servers log in as one role share them, as in PgBouncer. A user whose own keys open its
 * servers (passthrough) does not; nor does one whose servers are opened in another way than those of the first user,
 * which a valid document does not have.
 */
export function supplies<Pool extends Supplied>(pools: Iterable<Pool>): Supply<Pool>[] {
  const all: Supply<Pool>[] = []
  for (const ofDatabase of Map.groupBy(pools, ({ database }) => database).values()) {
    const byKey = new Map<string, Supply<Pool>>()
    for (const pool of ofDatabase.sort(byPrecedence)) {
      const key = supplyKey(pool, (shared) => byKey.get(shared)?.pools[0].spec ?? null)
      const known = byKey.get(key)
      const { database, spec } = pool
      if (known === undefined) byKey.set(key, { database, serverUser: spec.serverUser, key, pools: [pool] })
      else known.pools.push(pool)
    }
    all.push(...byKey.values())
  }
  return all
}

/** `runs` is the configuration that applies to the servers under a key; null if there are none. */
export function supplyKey(
  { user, spec }: Pick<Supplied, 'user' | 'spec'>,
  runs: (key: string) => PoolSpec | null,
): string {
  const { serverUser, connectHash, settings } = spec
  const shared = sharedKey(serverUser)
  const isShared = settings.serverAuth !== 'passthrough' && (runs(shared)?.connectHash ?? connectHash) === connectHash
  return isShared ? shared : JSON.stringify(['user', user])
}

export function sharedKey(serverUser: string): string {
  return JSON.stringify(['role', serverUser])
}

/** Configured pools first, then by user: the same in all workers. */
function byPrecedence(one: Supplied, other: Supplied): number {
  if (one.isMade !== other.isMade) return one.isMade ? 1 : -1
  return one.user < other.user ? -1 : 1
}
