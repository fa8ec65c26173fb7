import { and, asc, desc, eq, lt, or, sql } from 'drizzle-orm'
import { fleets, operationLog, poolOrders } from './schema.ts'
import { guard } from './store.ts'
import type { Store, Writable } from './store.ts'

export type OrderRow = typeof poolOrders.$inferSelect
export type OperationLogRow = Omit<typeof operationLog.$inferSelect, 'fleet'>

/** Operations of a fleet that are kept. */
const loggedMax = 10_000
/** Ended orders are kept for as long as a proxy is remembered that was not seen. */
const endedKeptMs = 7 * 24 * 3_600_000

/** The newest order for each effect on a pool, by pool. */
export async function listOrders(store: Store, fleet: string): Promise<OrderRow[]> {
  return await store.db
    .select()
    .from(poolOrders)
    .where(eq(poolOrders.fleet, fleet))
    .orderBy(asc(poolOrders.pool), asc(poolOrders.effect))
}

/**
 * Replaces the order for an effect on a pool. Throws GuardFailed if `row.number` is not the next one, or `row.version` not the
 * current one.
 */
export async function putOrder(
  store: Store,
  row: OrderRow,
  logged: Omit<OperationLogRow, 'n'> | undefined,
  nowMs: number,
): Promise<void> {
  const current = sql`SELECT ${fleets.order_number}, ${fleets.version} FROM ${fleets} WHERE ${fleets.name} = ${row.fleet}`
  const { fleet } = row
  await store.write([
    guard(store, sql`(${current}) = (${row.number - 1}, ${row.version})`),
    store.db.update(fleets).set({ order_number: row.number }).where(eq(fleets.name, fleet)),
    forgetEnded(store, fleet, nowMs),
    store.db
      .insert(poolOrders)
      .values(row)
      .onConflictDoUpdate({ target: [poolOrders.fleet, poolOrders.pool, poolOrders.effect], set: row }),
    ...(logged === undefined ? [] : logging(store, fleet, logged)),
  ])
}

/** For an operation that does not stand. */
export async function logOperation(store: Store, fleet: string, logged: Omit<OperationLogRow, 'n'>): Promise<void> {
  await store.write(logging(store, fleet, logged))
}

/** Newest first, only those below `before`. */
export async function listOperationLog(
  store: Store,
  fleet: string,
  page: { before: number | undefined; limit: number },
): Promise<OperationLogRow[]> {
  return await store.db
    .select(logColumns)
    .from(operationLog)
    .where(and(eq(operationLog.fleet, fleet), page.before === undefined ? undefined : lt(operationLog.n, page.before)))
    .orderBy(desc(operationLog.n))
    .limit(page.limit)
}

const logColumns = {
  n: operationLog.n,
  pool: operationLog.pool,
  operation: operationLog.operation,
  actor: operationLog.actor,
  reason: operationLog.reason,
  at: operationLog.at,
  expires_at: operationLog.expires_at,
}

function logging(store: Store, fleet: string, logged: Omit<OperationLogRow, 'n'>): Writable[] {
  const oldest = sql`(SELECT n FROM operation_log WHERE fleet = ${fleet} ORDER BY n DESC LIMIT 1 OFFSET ${loggedMax})`
  return [
    store.db.insert(operationLog).values({ fleet, ...logged }),
    store.db.delete(operationLog).where(and(eq(operationLog.fleet, fleet), sql`${operationLog.n} <= ${oldest}`)),
  ]
}

function forgetEnded(store: Store, fleet: string, nowMs: number): Writable {
  const longAgo = new Date(nowMs - endedKeptMs).toISOString()
  const isEnd = sql`${poolOrders.operation} IN ('resume', 'enable')`
  const ended = or(and(isEnd, lt(poolOrders.created_at, longAgo)), lt(poolOrders.expires_at, longAgo))
  return store.db.delete(poolOrders).where(and(eq(poolOrders.fleet, fleet), ended))
}
