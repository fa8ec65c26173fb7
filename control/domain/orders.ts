import { operations } from '../../shared/operations.ts'
import type { PoolOperation } from '../../shared/operations.ts'
import type { Order, Orders } from '../../shared/wire.ts'
import type { OrderRow } from '../store/orders.ts'

/** What stands: it begins an effect and has not expired. */
export function standing(orders: readonly OrderRow[], nowMs: number): OrderRow[] {
  return orders.filter((order) => stands(order, nowMs))
}

export function stands({ operation, expires_at }: OrderRow, nowMs: number): boolean {
  const isOver = expires_at !== null && Date.parse(expires_at) <= nowMs
  return !isOver && operations[operation].order?.begins === true
}

/** As the manifest tells proxies. */
export function ordersForProxies(number: number, orders: readonly OrderRow[]): Orders {
  return { number, pools: orders.map(orderForProxies) }
}

/** A pause remains of a kill, which is an operation of the moment too. */
function orderForProxies({ pool, operation, number, version, expires_at, reason }: OrderRow): Order {
  const wire: PoolOperation = operation === 'kill' ? 'pause' : operation
  return { pool, operation: wire, number, version, expires_at, reason }
}
