import type { PoolSettings } from '../../../shared/config/settings.ts'
import type { SharedCounters, Want } from '../../memory/shared-counters.ts'
import type { Workers } from './workers.ts'
import type { Target } from '../pool/target.ts'

/** Slots of a pool's shared counters; null where there was no room for one. */
export interface ClientSlots {
  /** Clients, including those that are logging in: the worker with the fewest gets the next one. */
  readonly placed: number | null
  readonly databaseClients: number | null
  readonly userClients: number | null
}

/** Slots of the shared counters of a source of servers. */
export interface ServerSlots {
  /** Servers of its current configuration. */
  readonly servers: number | null
  /** Servers of its database, and of its role. */
  readonly database: number | null
  readonly user: number | null
}

type ClientLimits = Pick<PoolSettings, 'maxDbClientConnections' | 'maxUserClientConnections'>

/** A pool, as it is counted. */
interface CountedPool {
  readonly slots: ClientSlots | null
}

/** The names by which a pool, and a source of servers, are counted: the same in all workers. */
interface PoolName {
  readonly database: string
  readonly user: string
}

interface SourceName {
  readonly database: string
  readonly serverUser: string
  readonly key: string
}

interface CountedServerSet {
  readonly source: { readonly slots: ServerSlots | null }
  readonly settings: Pick<PoolSettings, 'maxDbConnections' | 'maxUserConnections' | 'maxAddressConnections'>
  readonly size: number
  readonly draining: boolean
}

/** Counts of this worker and the others. Absent in a process with one worker. */
export class ProcessCounts {
  readonly #workers: Workers
  readonly #counters: SharedCounters
  readonly #self: number
  /** Slots in use here, by key. */
  readonly #slots = new Map<string, { readonly slot: number | null; uses: number }>()
  readonly #clients: number | null

  constructor(workers: Workers) {
    this.#workers = workers
    this.#counters = workers.counters
    this.#self = workers.self
    this.#clients = this.#acquire('clients')
  }

  /** From now on others may hand clients to this worker. */
  begin(): void {
    this.#counters.setAlive(this.#self)
  }

  get clockOffsetMs(): number {
    return this.#workers.clockOffsetMs
  }

  #acquire(key: string): number | null {
    let held = this.#slots.get(key)
    if (held === undefined) {
      held = { slot: this.#counters.acquire(this.#self, key), uses: 0 }
      this.#slots.set(key, held)
    }
    held.uses++
    return held.slot
  }

  #release(key: string): void {
    const held = this.#slots.get(key)
    if (held === undefined || --held.uses > 0) return
    this.#slots.delete(key)
    if (held.slot === null) return
    this.#counters.release(this.#self, held.slot)
    // Another worker has placed a client here: it adds first and shares the slot then.
    if (this.#counters.count(held.slot, this.#self) > 0) this.#counters.share(held.slot, this.#self)
  }

  clientSlotsOf(name: PoolName): ClientSlots {
    const [placed = null, databaseClients = null, userClients = null] = clientKeys(name).map((key) =>
      this.#acquire(key),
    )
    return { placed, databaseClients, userClients }
  }

  releaseClientSlots(name: PoolName): void {
    for (const key of clientKeys(name)) this.#release(key)
  }

  serverSlotsOf(name: SourceName): ServerSlots {
    const [servers = null, database = null, user = null] = serverKeys(name).map((key) => this.#acquire(key))
    return { servers, database, user }
  }

  releaseServerSlots(name: SourceName): void {
    for (const key of serverKeys(name)) this.#release(key)
  }

  #add(slot: number | null, by: number): void {
    if (slot !== null) this.#counters.add(slot, this.#self, by)
  }

  /** What cannot be counted exceeds every limit. */
  #within(slot: number | null, limit: number): boolean {
    return limit === 0 || (slot !== null && this.#counters.total(slot) <= limit)
  }

  /** Count of the other workers. */
  elsewhere(slot: number | null): number {
    return slot === null ? 0 : this.#counters.total(slot) - this.#counters.count(slot, this.#self)
  }

  // Servers

  /**
   * Counts a server that is to be opened. False, without counting it, if it would be one too many. With `sizeMax` null it
   * is one to try a server set, which has no size before it serves.
   */
  open({ source, settings }: CountedServerSet, target: Target, sizeMax: number | null): boolean {
    const { slots } = source
    if (slots === null) return true
    const address = this.#acquire(addressKey(target))
    const counted = [slots.database, slots.user, address, ...(sizeMax === null ? [] : [slots.servers])]
    for (const slot of counted) this.#add(slot, 1)
    const within =
      (sizeMax === null || this.#within(slots.servers, sizeMax)) &&
      this.#within(slots.database, settings.maxDbConnections) &&
      this.#within(slots.user, settings.maxUserConnections) &&
      this.#within(address, settings.maxAddressConnections)
    if (within) return true
    for (const slot of counted) this.#add(slot, -1)
    this.#release(addressKey(target))
    this.announceRoom()
    return false
  }

  /** A server set that was tried serves from now on. */
  tried({ source, size }: CountedServerSet): void {
    this.#add(source.slots?.servers ?? null, size)
  }

  /** Counts a server for one client alone: it does not count for the size of the set. */
  dedicated({ source: { slots } }: CountedServerSet, target: Target): void {
    if (slots === null) return
    for (const slot of [slots.database, slots.user, this.#acquire(addressKey(target))]) this.#add(slot, 1)
  }

  closed({ source, draining }: CountedServerSet, target: Target, isOutsideSize: boolean): void {
    const { slots } = source
    if (slots === null) return
    const key = addressKey(target)
    const address = this.#acquire(key)
    for (const slot of [slots.database, slots.user, address]) this.#add(slot, -1)
    if (!draining && !isOutsideSize) this.#add(slots.servers, -1)
    this.#release(key)
    this.#release(key)
    this.announceRoom()
  }

  /** Servers of a former configuration do not count for the size of the next. */
  drained({ source, size }: CountedServerSet): void {
    this.#add(source.slots?.servers ?? null, -size)
    this.announceRoom()
  }

  // Clients

  /** Of the whole process, including consoles. */
  get clients(): number {
    return this.#clients === null ? 0 : this.#counters.total(this.#clients)
  }

  /** Counts a client. Null, or the limit it would exceed; then it is not counted. */
  admit(
    { slots, settings }: CountedPool & { readonly settings: ClientLimits | null },
    clientsMax: number,
  ): 'process' | 'database' | 'user' | null {
    if (slots === null) return null
    this.#count(slots, 1)
    const { maxDbClientConnections = 0, maxUserClientConnections = 0 } = settings ?? {}
    if (!this.#within(this.#clients, clientsMax)) return this.#refused(slots, 'process')
    if (!this.#within(slots.databaseClients, maxDbClientConnections)) return this.#refused(slots, 'database')
    if (!this.#within(slots.userClients, maxUserClientConnections)) return this.#refused(slots, 'user')
    return null
  }

  #refused<Limit>(slots: ClientSlots, limit: Limit): Limit {
    this.#count(slots, -1)
    return limit
  }

  /** A client that was admitted has left. */
  clientLeft({ slots }: CountedPool): void {
    if (slots !== null) this.#count(slots, -1)
  }

  #count({ databaseClients, userClients }: ClientSlots, by: number): void {
    for (const slot of [this.#clients, databaseClients, userClients]) this.#add(slot, by)
  }

  countConsole(by: 1 | -1): void {
    this.#add(this.#clients, by)
  }

  /** The worker that serves the fewest clients of this pool; one more is counted for it at once. */
  place({ slots }: CountedPool): number {
    if (slots === null || slots.placed === null) return this.#self
    for (;;) {
      const [worker, clients] = this.#fewest(slots.placed)
      // Of two workers that choose the same one at the same time, one chooses again.
      if (!this.#counters.addOneTo(slots.placed, worker, clients)) continue
      this.#counters.share(slots.placed, worker)
      return worker
    }
  }

  /** The worker with the lowest count, this one if there are several; and its count. */
  #fewest(slot: number): [worker: number, count: number] {
    let best = this.#self
    let fewest = this.#counters.count(slot, best)
    for (let worker = 0; worker < this.#workers.count; worker++) {
      if (!this.#counters.isAlive(worker)) continue
      const count = this.#counters.count(slot, worker)
      if (count >= fewest) continue
      best = worker
      fewest = count
    }
    return [best, fewest]
  }

  /** The slot is that worker's too, which may not have the pool, or drop it meanwhile. */
  placeAt({ slots }: CountedPool, worker: number): void {
    if (slots === null || slots.placed === null) return
    this.#counters.add(slots.placed, worker, 1)
    this.#counters.share(slots.placed, worker)
  }

  unplace({ slots }: CountedPool): void {
    this.#add(slots?.placed ?? null, -1)
  }

  /** A client that was placed here, of a pool that does not exist here. */
  unplaceUnknown(database: string, user: string): void {
    const key = placedKey(database, user)
    this.#add(this.#acquire(key), -1)
    this.#release(key)
  }

  /** A client was placed here, and may be on its way. */
  hasPlaced({ slots }: CountedPool): boolean {
    return slots !== null && slots.placed !== null && this.#counters.count(slots.placed, this.#self) > 0
  }

  // Wants

  postWant(slot: number, sinceMs: number): void {
    // The others check again, even if they know of it: something may have become spare meanwhile.
    this.#counters.postWant(this.#self, slot, sinceMs + this.clockOffsetMs)
    for (let worker = 0; worker < this.#counters.workers; worker++) {
      if (worker !== this.#self && this.#counters.isAlive(worker)) this.#workers.wake(worker)
    }
  }

  withdrawWant(slot: number | null): void {
    if (slot !== null) this.#counters.withdrawWant(this.#self, slot)
  }

  /** Wants of other workers for what this one may hold. */
  wants(): Want[] {
    return this.#counters.wants(this.#self)
  }

  isPosted(want: Want): boolean {
    return this.#counters.isPosted(want)
  }

  takeWant(want: Want): boolean {
    return this.#counters.takeWant(want)
  }

  /** How long that worker's client has waited, by the clock of `nowMs`. */
  waitedMs({ sinceMs }: Want, nowMs: number): number {
    return (nowMs + this.clockOffsetMs - sinceMs) | 0
  }

  /** By how many this worker has more than the one that wants it. */
  lead({ slot, worker }: Want): number {
    return this.#counters.count(slot, this.#self) - this.#counters.count(slot, worker)
  }

  /** The slot of the address, while a server to it is open here. */
  addressSlot(target: Target): number | null {
    return this.#slots.get(addressKey(target))?.slot ?? null
  }

  set awaitsRoom(awaits: boolean) {
    this.#counters.setAwaitsRoom(this.#self, awaits)
  }

  /** Something became free. */
  announceRoom(): void {
    for (let worker = 0; worker < this.#counters.workers; worker++) {
      if (worker !== this.#self && this.#counters.awaitsRoom(worker)) this.#workers.wake(worker)
    }
  }
}

function clientKeys({ database, user }: PoolName): string[] {
  return [placedKey(database, user), `clients of database ${database}`, `clients of user ${user}`]
}

function serverKeys({ database, serverUser, key }: SourceName): string[] {
  return [`servers ${JSON.stringify([database, key])}`, `database ${database}`, `user ${serverUser}`]
}

function placedKey(database: string, user: string): string {
  return `placed ${JSON.stringify([database, user])}`
}

function addressKey({ address, host }: Target): string {
  return `address ${address} ${host.port}`
}
