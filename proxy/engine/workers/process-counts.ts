import type { Board, Need } from '../../memory/shared-counters.ts'
import type { PoolName } from '../pool/pool.ts'
import type { Crew } from './workers.ts'
import type { Pool, Target } from '../pool/server-set.ts'

/** Where on the board the counts of a name stand; null where there was no room for one. */
export interface Slots {
  /** Servers of its current configuration. */
  readonly pool: number | null
  /** Clients, with those that are logging in: who has the fewest gets the next one. */
  readonly placed: number | null
  /** Servers of its database, and of its user. */
  readonly database: number | null
  readonly user: number | null
  readonly databaseClients: number | null
  readonly userClients: number | null
}

/** What this worker and the others hold together. Where a process has one worker, there is none of this. */
export class Shared {
  readonly #crew: Crew
  readonly #board: Board
  readonly #self: number
  /** Slots in use here, by key. */
  readonly #held = new Map<string, { readonly slot: number | null; uses: number }>()
  readonly #clients: number | null

  constructor(crew: Crew) {
    this.#crew = crew
    this.#board = crew.board
    this.#self = crew.worker
    this.#clients = this.#acquire('clients')
  }

  /** From now on others may hand clients to this worker. */
  begin(): void {
    this.#board.setAlive(this.#self)
  }

  get clockOffsetMs(): number {
    return this.#crew.clockOffsetMs
  }

  #acquire(key: string): number | null {
    let held = this.#held.get(key)
    if (held === undefined) {
      held = { slot: this.#board.acquire(this.#self, key), uses: 0 }
      this.#held.set(key, held)
    }
    held.uses++
    return held.slot
  }

  #release(key: string): void {
    const held = this.#held.get(key)
    if (held === undefined || --held.uses > 0) return
    this.#held.delete(key)
    if (held.slot === null) return
    this.#board.release(this.#self, held.slot)
    // Another worker has taken a seat here: it adds first and holds then.
    if (this.#board.count(held.slot, this.#self) > 0) this.#board.hold(held.slot, this.#self)
  }

  slotsOf(database: string, user: string): Slots {
    const [pool, placed, ...rest] = keysOf(database, user).map((key) => this.#acquire(key))
    const [databaseSlot, userSlot, databaseClients, userClients] = rest
    return {
      pool: pool ?? null,
      placed: placed ?? null,
      database: databaseSlot ?? null,
      user: userSlot ?? null,
      databaseClients: databaseClients ?? null,
      userClients: userClients ?? null,
    }
  }

  releaseSlots({ database, user }: PoolName): void {
    for (const key of keysOf(database, user)) this.#release(key)
  }

  #add(slot: number | null, by: number): void {
    if (slot !== null) this.#board.add(slot, this.#self, by)
  }

  /** What cannot be counted is never within a limit. */
  #within(slot: number | null, limit: number): boolean {
    return limit === 0 || (slot !== null && this.#board.total(slot) <= limit)
  }

  /** What the other workers hold of it. */
  elsewhere(slot: number | null): number {
    return slot === null ? 0 : this.#board.total(slot) - this.#board.count(slot, this.#self)
  }

  /** Server connections to an address, of all pools. */
  elsewhereAt(target: Target): number {
    const key = addressKey(target)
    const slot = this.#acquire(key)
    const count = this.elsewhere(slot)
    this.#release(key)
    return count
  }

  // Servers

  /** Counts a server that is to be opened. False, and nothing is counted, when that would be one too many. */
  open({ name, settings }: Pool, target: Target, sizeMax: number): boolean {
    const { slots } = name
    if (slots === null) return true
    const address = this.#acquire(addressKey(target))
    for (const slot of [slots.pool, slots.database, slots.user, address]) this.#add(slot, 1)
    const within =
      this.#within(slots.pool, sizeMax) &&
      this.#within(slots.database, settings.maxDbConnections) &&
      this.#within(slots.user, settings.maxUserConnections) &&
      this.#within(address, settings.maxAddressConnections)
    if (within) return true
    for (const slot of [slots.pool, slots.database, slots.user, address]) this.#add(slot, -1)
    this.#release(addressKey(target))
    this.tell()
    return false
  }

  /** Counts a server that is one client's alone: it does not count for the size of the pool. */
  dedicated({ name: { slots } }: Pool, target: Target): void {
    if (slots === null) return
    for (const slot of [slots.database, slots.user, this.#acquire(addressKey(target))]) this.#add(slot, 1)
  }

  closed({ name, draining }: Pool, target: Target, isDedicated: boolean): void {
    const { slots } = name
    if (slots === null) return
    const key = addressKey(target)
    const address = this.#acquire(key)
    for (const slot of [slots.database, slots.user, address]) this.#add(slot, -1)
    if (!draining && !isDedicated) this.#add(slots.pool, -1)
    this.#release(key)
    this.#release(key)
    this.tell()
  }

  /** Servers of a former configuration do not count for the size of the next. */
  drained({ name, size }: Pool): void {
    this.#add(name.slots?.pool ?? null, -size)
    this.tell()
  }

  // Clients

  /** Of the whole process, with those on the console. */
  get clients(): number {
    return this.#clients === null ? 0 : this.#board.total(this.#clients)
  }

  /** Counts a client. Null, or the limit in whose way it would be; then it is not counted. */
  admit({ slots, current }: PoolName, clientsMax: number): 'process' | 'database' | 'user' | null {
    if (slots === null) return null
    this.#count(slots, 1)
    const { maxDbClientConnections = 0, maxUserClientConnections = 0 } = current?.settings ?? {}
    if (!this.#within(this.#clients, clientsMax)) return this.#refused(slots, 'process')
    if (!this.#within(slots.databaseClients, maxDbClientConnections)) return this.#refused(slots, 'database')
    if (!this.#within(slots.userClients, maxUserClientConnections)) return this.#refused(slots, 'user')
    return null
  }

  #refused<Limit>(slots: Slots, limit: Limit): Limit {
    this.#count(slots, -1)
    return limit
  }

  /** One that was admitted. */
  clientLeft({ slots }: PoolName): void {
    if (slots !== null) this.#count(slots, -1)
  }

  #count({ databaseClients, userClients }: Slots, by: number): void {
    for (const slot of [this.#clients, databaseClients, userClients]) this.#add(slot, by)
  }

  countConsole(by: 1 | -1): void {
    this.#add(this.#clients, by)
  }

  /** A seat with the worker that serves the fewest of this name's clients; it is counted at once. */
  seat(name: PoolName): number {
    const { board, workers } = this.#crew
    const { slots } = name
    if (slots === null || slots.placed === null) return this.#self
    let best = this.#self
    let fewest = board.count(slots.placed, best)
    for (let worker = 0; worker < workers; worker++) {
      if (!board.isAlive(worker)) continue
      const count = board.count(slots.placed, worker)
      if (count >= fewest) continue
      best = worker
      fewest = count
    }
    this.seatAt(name, best)
    return best
  }

  /** The slot is that worker's too, which may not have the name, or drop it meanwhile. */
  seatAt({ slots }: PoolName, worker: number): void {
    if (slots === null || slots.placed === null) return
    this.#board.add(slots.placed, worker, 1)
    this.#board.hold(slots.placed, worker)
  }

  unseat({ slots }: PoolName): void {
    this.#add(slots?.placed ?? null, -1)
  }

  /** A seat with this worker, of a name that is not here. */
  returnSeat(database: string, user: string): void {
    const key = placedKey(database, user)
    this.#add(this.#acquire(key), -1)
    this.#release(key)
  }

  /** Somebody has a seat with this worker, and may be on the way to it. */
  isSeated({ slots }: PoolName): boolean {
    return slots !== null && slots.placed !== null && this.#board.count(slots.placed, this.#self) > 0
  }

  // Needs

  need(slot: number, sinceMs: number): void {
    // Others look again, also when they have heard of it: meanwhile something may have become spare.
    this.#board.post(this.#self, slot, sinceMs + this.clockOffsetMs)
    for (let worker = 0; worker < this.#board.workers; worker++) {
      if (worker !== this.#self && this.#board.isAlive(worker)) this.#crew.wake(worker)
    }
  }

  withdraw(slot: number | null): void {
    if (slot !== null) this.#board.withdraw(this.#self, slot)
  }

  /** What others need of what this worker may hold. */
  needs(): Need[] {
    return this.#board.needs(this.#self)
  }

  stands(need: Need): boolean {
    return this.#board.stands(need)
  }

  take(need: Need): boolean {
    return this.#board.take(need)
  }

  /** How long that worker's client has waited, on the clock of `nowMs`. */
  waitedMs({ sinceMs }: Need, nowMs: number): number {
    return (nowMs + this.clockOffsetMs - sinceMs) | 0
  }

  /** How many more of it this worker holds than the one that needs it. */
  lead({ slot, worker }: Need): number {
    return this.#board.count(slot, this.#self) - this.#board.count(slot, worker)
  }

  /** The slot of the address, while a server to it is open here. */
  addressSlot(target: Target): number | null {
    return this.#held.get(addressKey(target))?.slot ?? null
  }

  set hungry(hungry: boolean) {
    this.#board.setHungry(this.#self, hungry)
  }

  /** Something has become free. */
  tell(): void {
    for (let worker = 0; worker < this.#board.workers; worker++) {
      if (worker !== this.#self && this.#board.isHungry(worker)) this.#crew.wake(worker)
    }
  }
}

function keysOf(database: string, user: string): string[] {
  const name = JSON.stringify([database, user])
  return [
    `pool ${name}`,
    placedKey(database, user),
    `database ${database}`,
    `user ${user}`,
    `clients of database ${database}`,
    `clients of user ${user}`,
  ]
}

function placedKey(database: string, user: string): string {
  return `placed ${JSON.stringify([database, user])}`
}

function addressKey({ address, host }: Target): string {
  return `address ${address} ${host.port}`
}
