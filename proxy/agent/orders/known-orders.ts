/**
 * What a proxy knows of the fleet's orders: of two orders for the same effect on a pool, the one with the higher number
 * holds, in whatever order and however often they arrive.
 */
import { operations } from '../../../shared/operations.ts'
import type { OperationName, OrderEffect } from '../../../shared/operations.ts'
import { comparePositions } from '../../../shared/position.ts'
import type { Order, Orders, Position } from '../../../shared/wire.ts'
import type { OrderedChange } from '../../operation.ts'

export interface KnownOrder extends Order {
  readonly effect: OrderEffect
  /** Whether it begins the effect, or ends it. */
  readonly begins: boolean
  /** The fleet wants the effect here and now. Once an order has expired this stays false, whatever the clock says later. */
  readonly holds: boolean
  /** It ends an effect, and a version has to run first. */
  readonly waits: boolean
}

export interface KnownOrders {
  readonly epoch: number
  /** All orders up to this number are taken into account. */
  readonly number: number
  /** One for each effect on a pool. */
  readonly orders: readonly KnownOrder[]
}

/** What decides whether an order has effect. */
export interface Moment {
  /** What the engine runs; null before the first version. */
  readonly running: Position | null
  /** Milliseconds since 1970. */
  readonly nowMs: number
}

export const noOrders: KnownOrders = { epoch: 0, number: 0, orders: [] }

/** With the orders of a manifest, which are all that stand. An older list changes nothing. */
export function withAll(known: KnownOrders, epoch: number, { number, pools }: Orders, moment: Moment): KnownOrders {
  if (epoch < known.epoch || (epoch === known.epoch && number < known.number)) return known
  const former = byKey(known.orders)
  // A store restored from a backup numbers its orders anew.
  const isComparable = epoch === known.epoch
  const orders = pools.flatMap((order) => {
    const effect = effectOf(order.operation)
    if (effect === undefined) return []
    const was = former.get(keyOf({ pool: order.pool, effect: effect.effect }))
    if (isComparable && was !== undefined && was.number >= order.number) return [was]
    return [received({ ...order, ...effect }, was, { epoch, moment })]
  })
  const listed = byKey(orders)
  const newer = known.orders.filter((order) => isComparable && order.number > number && !listed.has(keyOf(order)))
  return settled({ epoch, number, orders: [...orders, ...newer] }, moment)
}

/** With one order that arrived before the manifest that lists it. One that is not newer changes nothing. */
export function withOne(former: KnownOrders, epoch: number, order: Order, moment: Moment): KnownOrders {
  const effect = effectOf(order.operation)
  const known = epoch > former.epoch ? renumbered(former, epoch) : former
  if (effect === undefined || epoch < known.epoch || order.number <= known.number) return former
  const key = keyOf({ pool: order.pool, effect: effect.effect })
  const was = known.orders.find((one) => keyOf(one) === key)
  if (was !== undefined && was.number >= order.number) return former
  const others = known.orders.filter((one) => one !== was)
  return settled({ ...known, orders: [...others, received({ ...order, ...effect }, was, { epoch, moment })] }, moment)
}

/** What stood before the first order of an epoch stands until the list of that epoch arrives. */
function renumbered({ orders }: KnownOrders, epoch: number): KnownOrders {
  return { epoch, number: 0, orders: orders.map((order) => ({ ...order, number: 0 })) }
}

/** The same orders later: some have expired, or the version runs for which they waited. */
export function settled(known: KnownOrders, { running, nowMs }: Moment): KnownOrders {
  const orders = known.orders.map((order) => {
    const waits = order.waits && !runs(running, known.epoch, order.version)
    const isOver = order.begins ? false : !waits
    const holds = order.holds && !isOver && !(order.expires_at !== null && Date.parse(order.expires_at) <= nowMs)
    return waits === order.waits && holds === order.holds ? order : { ...order, waits, holds }
  })
  return orders.every((order, index) => order === known.orders[index]) ? known : { ...known, orders }
}

/** What the engine has to change. An order that is new has effect also where a console has changed the state since. */
export function changesBetween(before: KnownOrders, after: KnownOrders): OrderedChange[] {
  const former = byKey(before.orders)
  const changes = after.orders.flatMap((order) => {
    const was = former.get(keyOf(order))
    const isNew = was?.number !== order.number || before.epoch !== after.epoch
    const on = order.holds && order.begins && (isNew || !was.holds)
    const hasEnded = !order.holds && !order.waits
    const off = hasEnded && (was?.holds === true || was?.waits === true || (isNew && !order.begins))
    return on || off ? [changeOf(order, on)] : []
  })
  const listed = byKey(after.orders)
  const gone = before.orders.filter((order) => order.holds && !listed.has(keyOf(order)))
  return [...changes, ...gone.map((order) => changeOf(order, false))]
}

function changeOf({ pool, effect }: KnownOrder, on: boolean): OrderedChange {
  return { pool, effect, on }
}

function received(
  order: Order & { readonly effect: OrderEffect; readonly begins: boolean },
  former: KnownOrder | undefined,
  { epoch, moment }: { epoch: number; moment: Moment },
): KnownOrder {
  if (order.begins) return { ...order, holds: true, waits: false }
  const waits = !runs(moment.running, epoch, order.version)
  const holds = waits && former?.holds === true
  // What it ends still expires while this waits.
  return { ...order, expires_at: holds ? former.expires_at : null, waits, holds }
}

/** At least this version. */
function runs(running: Position | null, epoch: number, version: number): boolean {
  return version === 0 || comparePositions(running, { epoch, version }) >= 0
}

function effectOf(operation: string) {
  if (!Object.hasOwn(operations, operation)) return undefined
  return operations[operation as OperationName].order ?? undefined
}

function byKey(orders: readonly KnownOrder[]): Map<string, KnownOrder> {
  return new Map(orders.map((order) => [keyOf(order), order]))
}

function keyOf({ pool, effect }: Pick<KnownOrder, 'pool' | 'effect'>): string {
  return JSON.stringify([effect, pool])
}
