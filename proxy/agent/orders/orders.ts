import type { OperationOutcome, Order, Orders as OrderList, Position } from '../../../shared/wire.ts'
import type { OrderedChange } from '../../operation.ts'
import { reasonOf, type Log } from '../log.ts'
import { changesBetween, noOrders, settled, withAll, withOne } from './known-orders.ts'
import type { KnownOrder, KnownOrders, Moment } from './known-orders.ts'
import type { OrderFile } from './order-file.ts'

export interface OrdersOptions {
  /** Changes the state of databases in all engines, those that are not running included. Never rejects. */
  readonly carryOut: (changes: readonly OrderedChange[]) => Promise<void>
  readonly running: () => Position | null
  /** By control's clock. */
  readonly nowMs: () => number
  /** Where they are kept; null while the state directory belongs to another process. */
  readonly file: () => OrderFile | null
  /** Interval of reads while another process writes the file. */
  readonly followMs: number
  readonly log: Log
  /** Control should be told at once. */
  readonly onEdge: () => void
}

export type Taken = NonNullable<OperationOutcome['order']>

/** Interval of looks at the clock while an order expires, because clocks may be set. */
const lookEveryMs = 1000

/**
 * The fleet's orders at this proxy: takes them from control, changes the engines' state, ends what expires, and keeps them
 * on disk. What a console changes on top of them stays until the next order for the same effect on the same pool.
 */
export class Orders {
  readonly #options: OrdersOptions
  #known: KnownOrders = noOrders
  #timer: NodeJS.Timeout | undefined
  #following: NodeJS.Timeout | undefined
  #saving: Promise<void> = Promise.resolve()
  #saved: KnownOrders = noOrders
  #stopped = false

  constructor(options: OrdersOptions) {
    this.#options = options
  }

  get known(): KnownOrders {
    return this.#known
  }

  /** Orders whose effect the fleet wants here and now. */
  get inForce(): readonly KnownOrder[] {
    return this.#known.orders.filter(({ holds }) => holds)
  }

  /** What this process or another one has kept on disk: all that it knew. */
  async takeKept({ epoch, number, orders }: KnownOrders): Promise<void> {
    if (this.#known.epoch > 0) {
      await this.takeAll(epoch, { number, pools: [...orders] })
      return
    }
    // Before the first version is applied: here is the one place that knows which orders wait.
    await this.#become(settled({ epoch, number, orders }, this.#moment))
  }

  async takeAll(epoch: number, list: OrderList): Promise<void> {
    await this.#become(withAll(this.#known, epoch, list, this.#moment))
  }

  async takeOne(epoch: number, order: Order): Promise<Taken> {
    const next = withOne(this.#known, epoch, order, this.#moment)
    await this.#become(next)
    const mine = this.#known.orders.find(({ number }) => number === order.number)
    if (mine === undefined || epoch !== this.#known.epoch) return 'overtaken'
    return mine.waits ? 'waits' : 'taken'
  }

  /** Another version runs, or time has passed. */
  async look(): Promise<void> {
    await this.#become(settled(this.#known, this.#moment))
  }

  /** Takes what the process keeps that has taken over the state directory, until `unfollow`. */
  follow(file: OrderFile): void {
    this.unfollow()
    const read = async (): Promise<void> => {
      const kept = await file.read()
      if (kept !== undefined) await this.takeKept(kept)
    }
    // The next look begins after this one: a slow disk gets no queue of them.
    const again = (): NodeJS.Timeout =>
      setTimeout(() => {
        void read().finally(() => {
          if (this.#following === timer) this.#following = timer = again()
        })
      }, this.#options.followMs).unref()
    let timer = again()
    this.#following = timer
  }

  unfollow(): void {
    clearTimeout(this.#following)
    this.#following = undefined
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    this.unfollow()
    await this.#saving
  }

  get #moment(): Moment {
    return { running: this.#options.running(), nowMs: this.#options.nowMs() }
  }

  async #become(next: KnownOrders): Promise<void> {
    const before = this.#known
    this.#known = next
    this.#watchClock()
    const changes = changesBetween(before, next)
    for (const change of changes) this.#tell(change, next)
    const carriedOut = changes.length === 0 ? undefined : this.#options.carryOut(changes)
    await Promise.all([carriedOut, this.#save()])
    if (changes.length > 0) this.#options.onEdge()
  }

  #tell({ pool, effect, on }: OrderedChange, { orders }: KnownOrders): void {
    const {
      number = null,
      expires_at = null,
      reason = null,
    } = orders.find((order) => order.pool === pool && order.effect === effect) ?? {}
    const message = `the fleet's orders: a database is ${on ? effect : `no longer ${effect}`}`
    this.#options.log('info', message, { pool, number, expires_at, reason })
  }

  /** One write at a time, of the newest state. */
  async #save(): Promise<void> {
    this.#saving = this.#saving.then(async () => await this.#write())
    await this.#saving
  }

  async #write(): Promise<void> {
    const { file, log } = this.#options
    const known = this.#known
    const to = file()
    if (known === this.#saved || to === null) return
    try {
      await to.write(known)
      this.#saved = known
    } catch (error) {
      log('error', "could not save the fleet's orders; a restart will need control", { reason: reasonOf(error) })
    }
  }

  #watchClock(): void {
    clearTimeout(this.#timer)
    const ends = this.inForce.flatMap(({ expires_at: at }) => (at === null ? [] : [Date.parse(at)]))
    if (ends.length === 0 || this.#stopped) return
    const leftMs = Math.max(Math.min(...ends) - this.#options.nowMs(), 0)
    this.#timer = setTimeout(() => void this.look(), Math.min(Math.ceil(leftMs), lookEveryMs))
    this.#timer.unref()
  }
}
