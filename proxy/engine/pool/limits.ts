import type { Want } from '../../memory/shared-counters.ts'
import type { Context } from './context.ts'
import type { Pool } from './pool.ts'
import type { ServerSet } from './server-set.ts'
import type { Target } from './target.ts'
import type { Server } from './server.ts'

/** Servers change pools, which costs a login, only for clients that have waited for this long. */
const giveWayAfterMs = 1000

/** The pools that share limits. */
interface LimitedPools {
  all(): Iterable<Pool>
  ofDatabase(database: string): Iterable<Pool>
  ofUser(user: string): Iterable<Pool>
}

type LimitsContext = Pick<Context, 'io' | 'general' | 'counts'>

/**
 * Limits that several pools share: connections of a database, of a user, and to a server address. Counts are computed
 * from the lists when needed; 0 means no limit. If there is no room for a server that a client waits for, the servers
 * idle for longest make room.
 */
export class Limits {
  readonly #pools: () => LimitedPools
  readonly #context: () => LimitsContext
  /** Pools that want servers which other workers have. */
  readonly #awaiting = new Set<Pool>()
  /** Wants of other workers for which nothing could be closed yet. */
  #wants: readonly Want[] = []
  /** Until when room lent to another worker is left to it, by slot. */
  readonly #lent = new Map<number, number>()
  #lookedMs = 0
  /** Pools that wait for room. */
  readonly #blocked = new Set<Pool>()
  /** Servers are being closed to make room: their closing does not start this again. */
  #busy = false

  constructor(pools: () => LimitedPools, context: () => LimitsContext) {
    this.#pools = pools
    this.#context = context
  }

  /** Why this pool cannot admit one more client; null if it can. */
  refusal(pool: Pool): string | null {
    const { database, user, current } = pool
    const { counts, general } = this.#context()
    if (counts !== null) {
      // Clients that another worker gets were counted by it: see Client.
      const limit = counts.admit(pool, general.maxClientConnections)
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

  /** Whether there is room for a server of `pool`, or room was made; otherwise it is retried when there may be. */
  admit(pool: Pool): boolean {
    const { settings } = pool.current as ServerSet // called by the current server set
    const { maxDbConnections, maxUserConnections } = settings
    if (maxDbConnections === 0 && maxUserConnections === 0) return true
    return (
      this.#makesRoom(pool, maxDbConnections, pool.slots?.database ?? null, () =>
        serversOf(this.#pools().ofDatabase(pool.database)),
      ) &&
      this.#makesRoom(pool, maxUserConnections, pool.slots?.user ?? null, () =>
        serversOf(this.#pools().ofUser(pool.user)),
      )
    )
  }

  admitTo(pool: Pool, target: Target): boolean {
    const { settings } = pool.current as ServerSet // called by the current server set
    const slot = this.#context().counts?.addressSlot(target) ?? null
    return this.#makesRoom(pool, settings.maxAddressConnections, slot, () => this.#serversAt(target))
  }

  #serversAt({ address, host }: Target): Server[] {
    return serversOf(this.#pools().all()).filter(
      ({ target }) => target.address === address && target.host.port === host.port,
    )
  }

  /**
   * PostgreSQL at `target` accepts no further connection (53300): if clients of `pool` wait for one, the server of
   * another pool there that has been idle for longest makes room. The limit may be that of a role or a database, so one
   * of the same role or database goes first. Those of a minimum stay, because they would be opened again.
   */
  makeRoomAt(pool: Pool, target: Target): void {
    const wanted = pool.current?.spec
    if (pool.waiting.size === 0 || wanted === undefined) return
    const spare = idlest(this.#serversAt(target), pool).filter(({ serverSet }) => serverSet.size > serverSet.sizeMin)
    const related = spare.find(({ serverSet: { spec } }) => {
      return spec.serverUser === wanted.serverUser || spec.serverDatabase === wanted.serverDatabase
    })
    const server = related ?? spare[0]
    this.#look(() => server?.close('evicted'))
  }

  /** `slot` is the workers' shared count of what is limited. */
  #makesRoom(pool: Pool, limit: number, slot: number | null, servers: () => Server[]): boolean {
    if (limit === 0) return true
    const present = servers()
    const count = present.length + (this.#context().counts?.elsewhere(slot) ?? 0)
    if (count < limit && !this.#isLent(slot)) return true
    // No server makes room for a minimum alone.
    if (pool.waiting.size === 0) return false
    this.#blocked.add(pool)
    const surplus = Math.max(1, count - limit + 1)
    const evicted = idlest(present, pool).slice(0, surplus)
    this.#look(() => {
      for (const server of evicted) server.close('evicted')
    })
    if (evicted.length < surplus) {
      if (slot !== null) this.#postWant(pool, slot)
      return false
    }
    this.#blocked.delete(pool)
    return true
  }

  // Shared between workers

  /** Servers of the pool in all workers. */
  sizeOf(serverSet: ServerSet): number {
    const { counts } = this.#context()
    if (counts === null || serverSet.draining) return serverSet.size
    return serverSet.size + counts.elsewhere(serverSet.pool.slots?.servers ?? null)
  }

  /** Whether the pool may have one more server; if other workers have what it lacks, a want is posted. */
  hasRoom(serverSet: ServerSet, sizeMax: number): boolean {
    const slot = serverSet.pool.slots?.servers ?? null
    if (this.sizeOf(serverSet) < sizeMax) {
      if (!this.#isLent(slot)) return true
      this.#awaitRoom(serverSet.pool)
      return false
    }
    if (slot !== null && serverSet.size < sizeMax && serverSet.pool.waiting.size > 0) {
      if (serverSet.size === 0 || serverSet.pool.maxWaitMs >= borrowAfterMs) this.#postWant(serverSet.pool, slot)
      else this.#awaitRoom(serverSet.pool)
    }
    return false
  }

  /** Counts a server that is to be opened; false if another worker was faster. */
  open(serverSet: ServerSet, target: Target, sizeMax: number): boolean {
    const { counts } = this.#context()
    if (counts === null || counts.open(serverSet, target, sizeMax)) return true
    this.#awaitRoom(serverSet.pool)
    return false
  }

  #postWant(pool: Pool, slot: number): void {
    const { counts, io } = this.#context()
    if (counts === null) return
    this.#awaitRoom(pool)
    counts.postWant(slot, io.nowMs() - pool.maxWaitMs)
  }

  /** It grows when another worker announces that something became free. */
  #awaitRoom(pool: Pool): void {
    const { counts } = this.#context()
    if (counts === null) return
    this.#awaiting.add(pool)
    counts.awaitsRoom = true
  }

  /** Another worker wants something, or has released something. */
  lookAround(): void {
    const { counts } = this.#context()
    if (counts === null) return
    this.#lookAtWants()
    const wanting = [...this.#awaiting]
    this.#awaiting.clear()
    this.freed()
    for (const pool of wanting) pool.grow()
    counts.awaitsRoom = this.#awaiting.size + this.#blocked.size > 0
  }

  /** Closes a spare server for each want of another worker; the rest is considered as servers become free. */
  #lookAtWants(): void {
    const { counts } = this.#context()
    if (counts === null || this.#busy) return
    this.#look(() => {
      this.#wants = counts.wants().filter((want) => {
        const [server] = this.#heldOf(want)
          .filter((held) => held.list === held.serverSet.idle && this.#isSpare(held, want))
          .sort((a, b) => a.idleSinceMs - b.idleSinceMs)
        if (server === undefined) return true
        if (this.#lend(want)) server.close('evicted')
        return false
      })
    })
  }

  /**
   * Idle for a while, or the other worker has fewer: a server needed here again at once would come back at the price of
   * a login.
   */
  #isSpare({ idleSinceMs, serverSet }: Server, want: Want): boolean {
    const { counts, io } = this.#context()
    if (serverSet.pool.slots?.servers === want.slot && (counts?.lead(want) ?? 0) > 1) return true
    return io.nowMs() - idleSinceMs >= lendAfterMs
  }

  #lend(want: Want): boolean {
    const { counts, io } = this.#context()
    if (counts === null || !counts.takeWant(want)) return false
    this.#lent.set(want.slot, io.nowMs() + lentForMs)
    return true
  }

  #isLent(slot: number | null): boolean {
    if (slot === null || this.#lent.size === 0) return false
    const untilMs = this.#lent.get(slot)
    if (untilMs === undefined) return false
    if (untilMs > this.#context().io.nowMs()) return true
    this.#lent.delete(slot)
    return false
  }

  #heldOf({ slot }: Want): Server[] {
    const { counts } = this.#context()
    return serversOf(this.#pools().all()).filter(({ serverSet, target }) => {
      const { slots } = serverSet.pool
      if (slots?.servers === slot) return !serverSet.draining
      return slots?.database === slot || slots?.user === slot || counts?.addressSlot(target) === slot
    })
  }

  /**
   * A server of `pool` is free, and another worker should have one in its place: it has fewer, or has waited for long.
   */
  #lends(pool: Pool): boolean {
    const { counts, io } = this.#context()
    const { slots } = pool
    const nowMs = io.nowMs()
    if (counts === null || slots === null || nowMs < this.#lookedMs + lendEveryMs) return false
    this.#lookedMs = nowMs
    this.#wants = this.#wants.filter((want) => counts.isPosted(want))
    for (const want of this.#wants) {
      const { slot } = want
      const waitedMs = counts.waitedMs(want, nowMs)
      const starves = waitedMs >= giveWayAfterMs && waitedMs > pool.maxWaitMs
      const owed =
        slot === slots.servers
          ? counts.lead(want) > 1 || (starves && counts.lead(want) > 0)
          : starves &&
            (slot === slots.database || slot === slots.user || (pool.settings?.maxAddressConnections ?? 0) > 0)
      if (owed && this.#lend(want)) return true
    }
    return false
  }

  /** A client waits for the room that a server of `pool` would take: none is opened for a minimum then. */
  isContested(pool: Pool): boolean {
    for (const blocked of this.#blocked) {
      if (sharesRoom(blocked, pool)) return true
    }
    return false
  }

  /** The pool waits for room. */
  isBlocked(pool: Pool): boolean {
    return this.#blocked.has(pool)
  }

  /** HOT: a server became idle. */
  serverIdle(): void {
    if (this.#blocked.size > 0) this.freed()
    if (this.#wants.length > 0) this.#lookAtWants()
  }

  /**
   * HOT: a server of `pool` is free. True if it should make room although its own clients wait: others, which need the
   * room, have waited for longer.
   */
  givesWay(pool: Pool): boolean {
    if (this.#wants.length > 0 && this.#lends(pool)) return true
    if (this.#blocked.size === 0) return false
    for (const blocked of this.#blocked) {
      const { maxWaitMs } = blocked
      if (blocked === pool || maxWaitMs < giveWayAfterMs || maxWaitMs <= pool.maxWaitMs) continue
      if (sharesRoom(blocked, pool)) return true
    }
    return false
  }

  /**
   * There may be room: for the client that has waited for longest, and for `former`, whose server has closed, in its
   * turn.
   */
  freed(former: Pool | null = null): void {
    if (this.#blocked.size === 0 || this.#busy) {
      former?.grow()
      return
    }
    this.#look(() => {
      const pools = new Set(this.#blocked)
      if (former !== null) pools.add(former)
      this.#blocked.clear()
      for (const pool of [...pools].sort((a, b) => b.maxWaitMs - a.maxWaitMs)) pool.grow()
    })
  }

  #look(run: () => void): void {
    const outer = this.#busy
    this.#busy = true
    run()
    this.#busy = outer
  }
}

/** Minimum wait before a pool that has servers borrows from another worker. */
const borrowAfterMs = 100

/** A server idle for this long can be lent to another worker. */
const lendAfterMs = 100

/** Time for another worker to open a server in the room lent to it. */
const lentForMs = 50

/** Minimum interval between comparisons of wants with free servers. */
const lendEveryMs = 1

/** PgBouncer's texts, which log filters know. */
export const clientLimits = {
  process: 'no more connections allowed (max_client_conn)',
  database: 'client connections exceeded (max_db_client_connections)',
  user: 'client connections exceeded (max_user_client_connections)',
} as const

/** A server of `pool` may take the room that `blocked` needs. */
function sharesRoom(blocked: Pool, pool: Pool): boolean {
  if (blocked.settings === null) return false
  const { maxDbConnections, maxUserConnections, maxAddressConnections } = blocked.settings
  if (maxAddressConnections > 0) return true
  return (
    (maxDbConnections > 0 && blocked.database === pool.database) ||
    (maxUserConnections > 0 && blocked.user === pool.user)
  )
}

function clientsOf(pools: Iterable<Pool>): number {
  let clients = 0
  for (const pool of pools) clients += pool.clientCount
  return clients
}

function serversOf(pools: Iterable<Pool>): Server[] {
  return [...pools].flatMap((pool) => [...pool.servers()])
}

/** Idle servers of other pools, idle for longest first. */
function idlest(servers: readonly Server[], pool: Pool): Server[] {
  return servers
    .filter((server) => server.list === server.serverSet.idle && server.serverSet.pool !== pool)
    .sort((a, b) => a.idleSinceMs - b.idleSinceMs)
}
