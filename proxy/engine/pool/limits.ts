import type { EngineGeneralSettings, PoolSettings } from '../../../shared/config/settings.ts'
import type { Cause } from '../../../shared/causes.ts'
import type { Io } from '../../io/io.ts'
import type { Want } from '../../memory/shared-counters.ts'
import type { ClientSlots, ProcessCounts, ServerSlots } from '../workers/process-counts.ts'
import type { Target } from './target.ts'

/** Servers change sources, which costs a login, only for clients that have waited for this long. */
const giveWayAfterMs = 1000

/** A pool, whose clients are limited. */
interface LimitedPool {
  readonly database: string
  readonly user: string
  readonly settings: PoolSettings | null
  readonly clientCount: number
  readonly slots: ClientSlots | null
}

/** Where servers come from: what is limited together with others. */
export interface LimitedSource {
  readonly database: string
  readonly serverUser: string
  readonly current: LimitedServerSet | null
  readonly slots: ServerSlots | null
  readonly hasWaiting: boolean
  readonly maxWaitMs: number
  servers(): Iterable<LimitedServer>
  grow(): void
}

interface LimitedServerSet {
  readonly source: LimitedSource
  readonly spec: { readonly serverUser: string; readonly serverDatabase: string }
  readonly settings: PoolSettings
  readonly idle: object
  readonly size: number
  readonly sizeMin: number
  readonly draining: boolean
}

/** A source whose idle servers may make room for a trial. */
interface Replaceable {
  readonly current: (LimitedServerSet & { readonly idle: { readonly tail: LimitedServer | null } }) | null
}

interface LimitedServer {
  readonly list: object | null
  readonly serverSet: LimitedServerSet
  readonly target: Target
  readonly idleSinceMs: number
  close(cause: Cause): void
}

/** Everything that shares limits. */
interface Limited {
  ofDatabase(database: string): Iterable<LimitedPool>
  ofUser(user: string): Iterable<LimitedPool>
  sources(): Iterable<LimitedSource>
}

interface LimitsContext {
  readonly io: Io
  readonly general: Pick<EngineGeneralSettings, 'maxClientConnections'>
  readonly counts: ProcessCounts | null
}

/**
 * Limits that several pools share: clients and servers of a database and of a user, and servers at an address. Counts are computed
 * from the lists when needed; 0 means no limit. If there is no room for a server that a client waits for, the servers
 * idle for longest make room.
 */
export class Limits {
  readonly #pools: () => Limited
  readonly #context: () => LimitsContext
  /** Sources that want servers which other workers have. */
  readonly #awaiting = new Set<LimitedSource>()
  /** Wants of other workers for which nothing could be closed yet. */
  #wants: readonly Want[] = []
  /** Until when room lent to another worker is left to it, by slot. */
  readonly #lent = new Map<number, number>()
  #lookedMs = 0
  /** Sources that wait for room. */
  readonly #blocked = new Set<LimitedSource>()
  /** Servers are being closed to make room: their closing does not start this again. */
  #busy = false

  constructor(pools: () => Limited, context: () => LimitsContext) {
    this.#pools = pools
    this.#context = context
  }

  /** Why this pool cannot admit one more client; null if it can. */
  refusal(pool: LimitedPool): string | null {
    const { database, user, settings } = pool
    const { counts, general } = this.#context()
    if (counts !== null) {
      // Clients that another worker gets were counted by it: see Client.
      const limit = counts.admit(pool, general.maxClientConnections)
      return limit === null ? null : clientLimits[limit]
    }
    if (settings === null) return null
    const { maxDbClientConnections, maxUserClientConnections } = settings
    if (maxDbClientConnections > 0 && clientsOf(this.#pools().ofDatabase(database)) >= maxDbClientConnections) {
      return clientLimits.database
    }
    if (maxUserClientConnections > 0 && clientsOf(this.#pools().ofUser(user)) >= maxUserClientConnections) {
      return clientLimits.user
    }
    return null
  }

  /** Whether there is room for a server of `source`, or room was made; otherwise it is retried when there may be. */
  admit({ source, settings }: LimitedServerSet): boolean {
    const { maxDbConnections, maxUserConnections } = settings
    if (maxDbConnections === 0 && maxUserConnections === 0) return true
    const { database, serverUser, slots } = source
    return (
      this.#makesRoom(source, maxDbConnections, slots?.database ?? null, () =>
        this.#serversOf((other) => other.database === database),
      ) &&
      this.#makesRoom(source, maxUserConnections, slots?.user ?? null, () =>
        this.#serversOf((other) => other.serverUser === serverUser),
      )
    )
  }

  admitTo({ source, settings }: LimitedServerSet, target: Target): boolean {
    const slot = this.#context().counts?.addressSlot(target) ?? null
    return this.#makesRoom(source, settings.maxAddressConnections, slot, () => this.#serversAt(target))
  }

  /**
   * Counts a server that is opened to try other settings; false if that has to wait for room under limits that sources
   * share, for which `place` stands in line. In a full pool it takes the place of an idle server. Clients do not wait for
   * it: busy servers may be as many as `pool_size`, as in a rebuild, where they drain beside the new ones.
   */
  admitTrial(
    serverSet: LimitedServerSet & { readonly source: Replaceable },
    target: Target,
    place: LimitedSource,
  ): boolean {
    const { current } = serverSet.source
    const claim = { ...claimOf(serverSet), source: place }
    if (!this.admit(claim) || !this.admitTo(claim, target)) return false
    if (current !== null && this.sizeOf(current) >= current.settings.poolSize) {
      this.#look(() => current.idle.tail?.close('evicted'))
    }
    return this.open(claim, target, null)
  }

  /** It no longer waits for room. */
  withdraw(place: LimitedSource): void {
    this.#blocked.delete(place)
    this.#awaiting.delete(place)
  }

  #serversOf(isCounted: (source: LimitedSource) => boolean): LimitedServer[] {
    return [...this.#pools().sources()].filter(isCounted).flatMap((source) => [...source.servers()])
  }

  #serversAt({ address, host }: Target): LimitedServer[] {
    return this.#serversOf(() => true).filter(
      ({ target }) => target.address === address && target.host.port === host.port,
    )
  }

  /**
   * PostgreSQL at `target` accepts no further connection (53300): if clients of `source` wait for one, the server of
   * another source there that has been idle for longest makes room. The limit may be that of a role or a database, so one
   * of the same role or database goes first. Those of a minimum stay, because they would be opened again.
   */
  makeRoomAt(source: LimitedSource, target: Target): void {
    const wanted = source.current?.spec
    if (!source.hasWaiting || wanted === undefined) return
    const spare = idlest(this.#serversAt(target), source).filter(({ serverSet }) => serverSet.size > serverSet.sizeMin)
    const related = spare.find(({ serverSet: { spec } }) => {
      return spec.serverUser === wanted.serverUser || spec.serverDatabase === wanted.serverDatabase
    })
    const server = related ?? spare[0]
    this.#look(() => server?.close('evicted'))
  }

  /** `slot` is the workers' shared count of what is limited. */
  #makesRoom(source: LimitedSource, limit: number, slot: number | null, servers: () => LimitedServer[]): boolean {
    if (limit === 0) return true
    const present = servers()
    const count = present.length + (this.#context().counts?.elsewhere(slot) ?? 0)
    if (count < limit && !this.#isLent(slot)) return true
    // No server makes room for a minimum alone.
    if (!source.hasWaiting) return false
    this.#blocked.add(source)
    const surplus = Math.max(1, count - limit + 1)
    const evicted = idlest(present, source).slice(0, surplus)
    this.#look(() => {
      for (const server of evicted) server.close('evicted')
    })
    if (evicted.length < surplus) {
      if (slot !== null) this.#postWant(source, slot)
      return false
    }
    this.#blocked.delete(source)
    return true
  }

  // Shared between workers

  /** Servers of the set in all workers. */
  sizeOf(serverSet: LimitedServerSet): number {
    const { counts } = this.#context()
    if (counts === null || serverSet.draining) return serverSet.size
    return serverSet.size + counts.elsewhere(serverSet.source.slots?.servers ?? null)
  }

  /** Whether the set may have one more server; if other workers have what it lacks, a want is posted. */
  hasRoom(serverSet: LimitedServerSet, sizeMax: number): boolean {
    const slot = serverSet.source.slots?.servers ?? null
    if (this.sizeOf(serverSet) < sizeMax) {
      if (!this.#isLent(slot)) return true
      this.#awaitRoom(serverSet.source)
      return false
    }
    if (slot !== null && serverSet.size < sizeMax && serverSet.source.hasWaiting) {
      if (serverSet.size === 0 || serverSet.source.maxWaitMs >= borrowAfterMs) this.#postWant(serverSet.source, slot)
      else this.#awaitRoom(serverSet.source)
    }
    return false
  }

  /** Counts a server that is to be opened; false if another worker was faster. */
  open(serverSet: LimitedServerSet, target: Target, sizeMax: number | null): boolean {
    const { counts } = this.#context()
    if (counts === null || counts.open(serverSet, target, sizeMax)) return true
    this.#awaitRoom(serverSet.source)
    return false
  }

  #postWant(source: LimitedSource, slot: number): void {
    const { counts, io } = this.#context()
    if (counts === null) return
    this.#awaitRoom(source)
    counts.postWant(slot, io.nowMs() - source.maxWaitMs)
  }

  /** It grows when another worker announces that something became free. */
  #awaitRoom(source: LimitedSource): void {
    const { counts } = this.#context()
    if (counts === null) return
    this.#awaiting.add(source)
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
    for (const source of wanting) source.grow()
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
  #isSpare({ idleSinceMs, serverSet }: LimitedServer, want: Want): boolean {
    const { counts, io } = this.#context()
    if (serverSet.source.slots?.servers === want.slot && (counts?.lead(want) ?? 0) > 1) return true
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

  #heldOf({ slot }: Want): LimitedServer[] {
    const { counts } = this.#context()
    return this.#serversOf(() => true).filter(({ serverSet, target }) => {
      const { slots } = serverSet.source
      if (slots?.servers === slot) return !serverSet.draining
      return slots?.database === slot || slots?.user === slot || counts?.addressSlot(target) === slot
    })
  }

  /**
   * A server of `source` is free, and another worker should have one in its place: it has fewer, or has waited for long.
   */
  #lends(source: LimitedSource): boolean {
    const { counts, io } = this.#context()
    const { slots } = source
    const nowMs = io.nowMs()
    if (counts === null || slots === null || nowMs < this.#lookedMs + lendEveryMs) return false
    this.#lookedMs = nowMs
    this.#wants = this.#wants.filter((want) => counts.isPosted(want))
    for (const want of this.#wants) {
      const { slot } = want
      const waitedMs = counts.waitedMs(want, nowMs)
      const starves = waitedMs >= giveWayAfterMs && waitedMs > source.maxWaitMs
      const owed =
        slot === slots.servers
          ? counts.lead(want) > 1 || (starves && counts.lead(want) > 0)
          : starves &&
            (slot === slots.database ||
              slot === slots.user ||
              (source.current?.settings.maxAddressConnections ?? 0) > 0)
      if (owed && this.#lend(want)) return true
    }
    return false
  }

  /** A client waits for the room that a server of `source` would take: none is opened for a minimum then. */
  isContested(source: LimitedSource): boolean {
    for (const blocked of this.#blocked) {
      if (sharesRoom(blocked, source)) return true
    }
    return false
  }

  /** The source waits for room. */
  isBlocked(source: LimitedSource): boolean {
    return this.#blocked.has(source)
  }

  /** HOT: a server became idle. */
  serverIdle(): void {
    if (this.#blocked.size > 0) this.freed()
    if (this.#wants.length > 0) this.#lookAtWants()
  }

  /**
   * HOT: a server of `source` is free. True if it should make room although its own clients wait: others, which need the
   * room, have waited for longer.
   */
  givesWay(source: LimitedSource): boolean {
    if (this.#wants.length > 0 && this.#lends(source)) return true
    if (this.#blocked.size === 0) return false
    for (const blocked of this.#blocked) {
      const { maxWaitMs } = blocked
      if (blocked === source || maxWaitMs < giveWayAfterMs || maxWaitMs <= source.maxWaitMs) continue
      if (sharesRoom(blocked, source)) return true
    }
    return false
  }

  /**
   * There may be room: for the client that has waited for longest, and for `former`, whose server has closed, in its
   * turn.
   */
  freed(former: LimitedSource | null = null): void {
    if (this.#blocked.size === 0 || this.#busy) {
      former?.grow()
      return
    }
    this.#look(() => {
      const sources = new Set(this.#blocked)
      if (former !== null) sources.add(former)
      this.#blocked.clear()
      for (const source of [...sources].sort((a, b) => b.maxWaitMs - a.maxWaitMs)) source.grow()
    })
  }

  #look(run: () => void): void {
    const outer = this.#busy
    this.#busy = true
    run()
    this.#busy = outer
  }
}

/** Minimum wait before a source that has servers borrows from another worker. */
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

/** A server of `source` may take the room that `blocked` needs. */
function sharesRoom(blocked: LimitedSource, source: LimitedSource): boolean {
  if (blocked.current === null) return false
  const { maxDbConnections, maxUserConnections, maxAddressConnections } = blocked.current.settings
  if (maxAddressConnections > 0) return true
  return (
    (maxDbConnections > 0 && blocked.database === source.database) ||
    (maxUserConnections > 0 && blocked.serverUser === source.serverUser)
  )
}

/** What is limited of a server set that is tried. */
function claimOf({
  spec,
  settings,
  idle,
  size,
  sizeMin,
  draining,
}: LimitedServerSet): Omit<LimitedServerSet, 'source'> {
  return { spec, settings, idle, size, sizeMin, draining }
}

function clientsOf(pools: Iterable<LimitedPool>): number {
  let clients = 0
  for (const pool of pools) clients += pool.clientCount
  return clients
}

/** Idle servers of other sources, idle for longest first. */
function idlest(servers: readonly LimitedServer[], source: LimitedSource): LimitedServer[] {
  return servers
    .filter((server) => server.list === server.serverSet.idle && server.serverSet.source !== source)
    .sort((a, b) => a.idleSinceMs - b.idleSinceMs)
}
