import type { PoolName } from './name.ts'
import type { Pool, Target } from './pool.ts'
import type { Pools } from './pools.ts'
import type { Server } from './server.ts'

/** Servers change pools, at the price of a login, only for those who have waited for so long. */
const yieldAfterMs = 1000

/**
 * Limits that several names share: connections of one database, of one user, and to one server address. What there is
 * is counted when it matters, from the lists; 0 is no limit. Where there is no room for a server somebody waits for,
 * the servers that have been idle for longest make room.
 */
export class Limits {
  readonly #pools: () => Pools
  /** Names that wait for room. */
  readonly #blocked = new Set<PoolName>()
  /** Servers are being looked through: one that closes now does not begin this anew. */
  #busy = false

  constructor(pools: () => Pools) {
    this.#pools = pools
  }

  /** Why one more client of this name cannot be let in; null when it can. */
  refusal({ database, user, current }: PoolName): string | null {
    if (current === null) return null
    const { maxDbClientConnections, maxUserClientConnections } = current.settings
    if (maxDbClientConnections > 0 && clientsOf(this.#pools().ofDatabase(database)) >= maxDbClientConnections) {
      return 'client connections exceeded (max_db_client_connections)'
    }
    if (maxUserClientConnections > 0 && clientsOf(this.#pools().ofUser(user)) >= maxUserClientConnections) {
      return 'client connections exceeded (max_user_client_connections)'
    }
    return null
  }

  /** Whether there is room for a server of `name`, or room was made; otherwise it is tried again when there may be. */
  admit(name: PoolName): boolean {
    const { settings } = name.current as Pool // asked by the current pool
    const { maxDbConnections, maxUserConnections } = settings
    if (maxDbConnections === 0 && maxUserConnections === 0) return true
    return (
      this.#hasRoom(name, maxDbConnections, () => serversOf(this.#pools().ofDatabase(name.database))) &&
      this.#hasRoom(name, maxUserConnections, () => serversOf(this.#pools().ofUser(name.user)))
    )
  }

  admitTo(name: PoolName, target: Target): boolean {
    const { settings } = name.current as Pool // asked by the current pool
    return this.#hasRoom(name, settings.maxAddressConnections, () =>
      serversOf(this.#pools().names()).filter(
        (server) => server.target.address === target.address && server.target.host.port === target.host.port,
      ),
    )
  }

  #hasRoom(name: PoolName, limit: number, servers: () => Server[]): boolean {
    if (limit === 0) return true
    const present = servers()
    if (present.length < limit) return true
    // For a minimum alone nobody gives way.
    if (name.waiting.size === 0) return false
    this.#blocked.add(name)
    const surplus = present.length - limit + 1
    const evicted = idlest(present, name).slice(0, surplus)
    this.#look(() => {
      for (const server of evicted) server.close('evicted')
    })
    if (evicted.length < surplus) return false
    this.#blocked.delete(name)
    return true
  }

  /** Somebody waits for the room that a server of `name` would take: none is opened for a minimum then. */
  isContested(name: PoolName): boolean {
    for (const blocked of this.#blocked) {
      if (sharesRoom(blocked, name)) return true
    }
    return false
  }

  /** Does nothing but wait for room. */
  isBlocked(name: PoolName): boolean {
    return this.#blocked.has(name)
  }

  /** HOT: a server became idle. */
  offered(): void {
    if (this.#blocked.size > 0) this.freed()
  }

  /**
   * HOT: a server of `name` is free. True when it should make room although clients of its own wait: others, who may
   * not have one more, have waited for longer.
   */
  claims(name: PoolName): boolean {
    if (this.#blocked.size === 0) return false
    for (const blocked of this.#blocked) {
      const { maxWaitMs } = blocked
      if (blocked === name || maxWaitMs < yieldAfterMs || maxWaitMs <= name.maxWaitMs) continue
      if (sharesRoom(blocked, name)) return true
    }
    return false
  }

  /** There may be room now: for who has waited for longest, and `former`, whose server has ended, in its turn. */
  freed(former: PoolName | null = null): void {
    if (this.#blocked.size === 0 || this.#busy) {
      former?.grow()
      return
    }
    this.#look(() => {
      const names = new Set(this.#blocked)
      if (former !== null) names.add(former)
      this.#blocked.clear()
      for (const name of [...names].sort((a, b) => b.maxWaitMs - a.maxWaitMs)) name.grow()
    })
  }

  #look(run: () => void): void {
    const outer = this.#busy
    this.#busy = true
    run()
    this.#busy = outer
  }
}

/** A server of `name` may stand in the way of `blocked`. */
function sharesRoom(blocked: PoolName, name: PoolName): boolean {
  if (blocked.settings === null) return false
  const { maxDbConnections, maxUserConnections, maxAddressConnections } = blocked.settings
  if (maxAddressConnections > 0) return true
  return (
    (maxDbConnections > 0 && blocked.database === name.database) ||
    (maxUserConnections > 0 && blocked.user === name.user)
  )
}

function clientsOf(names: Iterable<PoolName>): number {
  let clients = 0
  for (const name of names) clients += name.idle.size + name.active.size + name.waiting.size
  return clients
}

function serversOf(names: Iterable<PoolName>): Server[] {
  const servers: Server[] = []
  for (const name of names) for (const pool of name.pools) for (const list of pool.lists) servers.push(...list)
  return servers
}

/** The unused servers of other names, the longest unused first. */
function idlest(servers: readonly Server[], name: PoolName): Server[] {
  return servers
    .filter((server) => server.list === server.pool.idle && server.pool.name !== name)
    .sort((a, b) => a.idleSinceMs - b.idleSinceMs)
}
