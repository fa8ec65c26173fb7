import type { Need } from '../../memory/shared-counters.ts'
import type { Context } from './context.ts'
import type { PoolName } from './pool.ts'
import type { Pool, Target } from './server-set.ts'
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
  readonly #context: () => Context
  /** Names that lack servers which other workers have. */
  readonly #wanting = new Set<PoolName>()
  /** What other workers lack, and nothing could be closed for yet. */
  #foreign: readonly Need[] = []
  /** What was let go of for another worker is left to it until then; by slot. */
  readonly #yielded = new Map<number, number>()
  #lookedMs = 0
  /** Names that wait for room. */
  readonly #blocked = new Set<PoolName>()
  /** Servers are being looked through: one that closes now does not begin this anew. */
  #busy = false

  constructor(pools: () => Pools, context: () => Context) {
    this.#pools = pools
    this.#context = context
  }

  /** Why one more client of this name cannot be let in; null when it can. */
  refusal(name: PoolName): string | null {
    const { database, user, current } = name
    const { shared, general } = this.#context()
    if (shared !== null) {
      // Those who leave this worker again have been counted: see Client.
      const limit = shared.admit(name, general.maxClientConnections)
      return limit === null ? null : clientLimits[limit]
    }
    if (current === null) return null
    const { maxDbClientConnections, maxUserClientConnections } = current.settings
    if (maxDbClientConnections > 0 && clientsOf(this.#pools().ofDatabase(database)) >= maxDbClientConnections) {
      return clientLimits.database
    }
    if (maxUserClientConnections > 0 && clientsOf(this.#pools().ofUser(user)) >= maxUserClientConnections) {
      return clientLimits.user
    }
    return null
  }

  /** Whether there is room for a server of `name`, or room was made; otherwise it is tried again when there may be. */
  admit(name: PoolName): boolean {
    const { settings } = name.current as Pool // asked by the current pool
    const { maxDbConnections, maxUserConnections } = settings
    if (maxDbConnections === 0 && maxUserConnections === 0) return true
    return (
      this.#makesRoom(name, maxDbConnections, name.slots?.database ?? null, () =>
        serversOf(this.#pools().ofDatabase(name.database)),
      ) &&
      this.#makesRoom(name, maxUserConnections, name.slots?.user ?? null, () =>
        serversOf(this.#pools().ofUser(name.user)),
      )
    )
  }

  admitTo(name: PoolName, target: Target): boolean {
    const { settings } = name.current as Pool // asked by the current pool
    const slot = this.#context().shared?.addressSlot(target) ?? null
    return this.#makesRoom(name, settings.maxAddressConnections, slot, () =>
      serversOf(this.#pools().names()).filter(
        (server) => server.target.address === target.address && server.target.host.port === target.host.port,
      ),
    )
  }

  /** `slot` is where workers count together what is limited. */
  #makesRoom(name: PoolName, limit: number, slot: number | null, servers: () => Server[]): boolean {
    if (limit === 0) return true
    const present = servers()
    const count = present.length + (this.#context().shared?.elsewhere(slot) ?? 0)
    if (count < limit && !this.#isYielded(slot)) return true
    // For a minimum alone nobody gives way.
    if (name.waiting.size === 0) return false
    this.#blocked.add(name)
    const surplus = Math.max(1, count - limit + 1)
    const evicted = idlest(present, name).slice(0, surplus)
    this.#look(() => {
      for (const server of evicted) server.close('evicted')
    })
    if (evicted.length < surplus) {
      if (slot !== null) this.#need(name, slot)
      return false
    }
    this.#blocked.delete(name)
    return true
  }

  // What workers have together

  /** Servers that the pool has in all workers. */
  sizeOf(pool: Pool): number {
    const { shared } = this.#context()
    if (shared === null || pool.draining) return pool.size
    return pool.size + shared.elsewhere(pool.name.slots?.pool ?? null)
  }

  /** Whether the pool may have one more server; if other workers have what it lacks, they hear of it. */
  hasRoom(pool: Pool, sizeMax: number): boolean {
    const slot = pool.name.slots?.pool ?? null
    if (this.sizeOf(pool) < sizeMax) {
      if (!this.#isYielded(slot)) return true
      this.#want(pool.name)
      return false
    }
    if (slot !== null && pool.size < sizeMax && pool.name.waiting.size > 0) {
      if (pool.size === 0 || pool.name.maxWaitMs >= borrowAfterMs) this.#need(pool.name, slot)
      else this.#want(pool.name)
    }
    return false
  }

  /** Counts a server that is to be opened; false when another worker was faster. */
  open(pool: Pool, target: Target, sizeMax: number): boolean {
    const { shared } = this.#context()
    if (shared === null || shared.open(pool, target, sizeMax)) return true
    this.#want(pool.name)
    return false
  }

  #need(name: PoolName, slot: number): void {
    const { shared, io } = this.#context()
    if (shared === null) return
    this.#want(name)
    shared.need(slot, io.nowMs() - name.maxWaitMs)
  }

  /** It grows when another worker says that something has become free. */
  #want(name: PoolName): void {
    const { shared } = this.#context()
    if (shared === null) return
    this.#wanting.add(name)
    shared.hungry = true
  }

  /** Another worker lacks something, or has let something go. */
  lookAround(): void {
    const { shared } = this.#context()
    if (shared === null) return
    this.#lookAtNeeds()
    const wanting = [...this.#wanting]
    this.#wanting.clear()
    this.freed()
    for (const name of wanting) name.grow()
    shared.hungry = this.#wanting.size + this.#blocked.size > 0
  }

  /** Closes a server that is spare for each need of another worker; what is left is looked at as servers get free. */
  #lookAtNeeds(): void {
    const { shared } = this.#context()
    if (shared === null || this.#busy) return
    this.#look(() => {
      this.#foreign = shared.needs().filter((need) => {
        const [server] = this.#heldOf(need)
          .filter((held) => held.list === held.pool.idle && this.#isSpare(held, need))
          .sort((a, b) => a.idleSinceMs - b.idleSinceMs)
        if (server === undefined) return true
        if (this.#takes(need)) server.close('evicted')
        return false
      })
    })
  }

  /** Unused for a while, or the other has fewer: what is needed here again at once would come back by another login. */
  #isSpare({ idleSinceMs, pool }: Server, need: Need): boolean {
    const { shared, io } = this.#context()
    if (pool.name.slots?.pool === need.slot && (shared?.lead(need) ?? 0) > 1) return true
    return io.nowMs() - idleSinceMs >= lendAfterMs
  }

  #takes(need: Need): boolean {
    const { shared, io } = this.#context()
    if (shared === null || !shared.take(need)) return false
    this.#yielded.set(need.slot, io.nowMs() + yieldForMs)
    return true
  }

  #isYielded(slot: number | null): boolean {
    if (slot === null || this.#yielded.size === 0) return false
    const untilMs = this.#yielded.get(slot)
    if (untilMs === undefined) return false
    if (untilMs > this.#context().io.nowMs()) return true
    this.#yielded.delete(slot)
    return false
  }

  #heldOf({ slot }: Need): Server[] {
    const { shared } = this.#context()
    return serversOf(this.#pools().names()).filter(({ pool, target }) => {
      const { slots } = pool.name
      if (slots?.pool === slot) return !pool.draining
      return slots?.database === slot || slots?.user === slot || shared?.addressSlot(target) === slot
    })
  }

  /** A server of `name` is free, and another worker should have one in its place: it has fewer, or waits for long. */
  #owes(name: PoolName): boolean {
    const { shared, io } = this.#context()
    const { slots } = name
    const nowMs = io.nowMs()
    if (shared === null || slots === null || nowMs < this.#lookedMs + owesEveryMs) return false
    this.#lookedMs = nowMs
    this.#foreign = this.#foreign.filter((need) => shared.stands(need))
    for (const need of this.#foreign) {
      const { slot } = need
      const waitedMs = shared.waitedMs(need, nowMs)
      const starves = waitedMs >= yieldAfterMs && waitedMs > name.maxWaitMs
      const owed =
        slot === slots.pool
          ? shared.lead(need) > 1 || (starves && shared.lead(need) > 0)
          : starves &&
            (slot === slots.database || slot === slots.user || (name.settings?.maxAddressConnections ?? 0) > 0)
      if (owed && this.#takes(need)) return true
    }
    return false
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
    if (this.#foreign.length > 0) this.#lookAtNeeds()
  }

  /**
   * HOT: a server of `name` is free. True when it should make room although clients of its own wait: others, who may
   * not have one more, have waited for longer.
   */
  claims(name: PoolName): boolean {
    if (this.#foreign.length > 0 && this.#owes(name)) return true
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

/** Of what another worker has, only those who have waited for so long get a part, unless they have nothing at all. */
const borrowAfterMs = 100

/** A server that has not been used for so long is another worker's to have. */
const lendAfterMs = 100

/** The time in which another worker opens a server in place of one that was closed for it. */
const yieldForMs = 50

/** How often what others need is compared with what becomes free. */
const owesEveryMs = 1

/** In the words of PgBouncer, which users' log filters know. */
export const clientLimits = {
  process: 'no more connections allowed (max_client_conn)',
  database: 'client connections exceeded (max_db_client_connections)',
  user: 'client connections exceeded (max_user_client_connections)',
} as const

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
