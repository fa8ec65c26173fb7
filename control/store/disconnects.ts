import { and, asc, desc, eq, gt, gte, lte, max, sql } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import { otherFields } from '../../shared/disconnect.ts'
import type { Disconnect } from '../../shared/disconnect.ts'
import { disconnects } from './schema.ts'
import type { Store, Writable } from './store.ts'

export type DisconnectRow = typeof disconnects.$inferSelect

export interface DisconnectFilter {
  readonly pool?: string | undefined
  readonly host?: string | undefined
  readonly cause?: string | undefined
  readonly proxy?: string | undefined
  /** RFC 3339 UTC with milliseconds. */
  readonly since?: string | undefined
}

/** Number of newer events of its fleet after which an event is deleted. */
const keptMax = 100_000

/** Stores each event once, by proxy and id, and deletes the fleet's events beyond the limit. */
export function keepDisconnects(
  store: Store,
  fleet: string,
  proxy: string,
  events: readonly Disconnect[],
  now: string,
): Writable[] {
  if (events.length === 0) return []
  const newest = sql`(SELECT coalesce(max(${disconnects.arrival}), 0) FROM ${disconnects} WHERE ${disconnects.fleet} = ${fleet})`
  const inserts = events.map((event) =>
    store.db
      .insert(disconnects)
      // Normalized, whatever precision the proxy used, so that times sort as text.
      .values({
        ...event,
        fleet,
        proxy,
        received_at: now,
        at: new Date(event.at).toISOString(),
        arrival: sql`${newest} + 1`,
        other: otherFields(event),
      })
      .onConflictDoNothing(),
  )
  const prune = store.db
    .delete(disconnects)
    .where(and(eq(disconnects.fleet, fleet), lte(disconnects.arrival, sql`${newest} - ${keptMax}`)))
  return [...inserts, prune]
}

/** Number of the newest event of a fleet; 0 without any. */
export async function newestArrival(store: Store, fleet: string): Promise<number> {
  const [row] = await store.db
    .select({ n: max(disconnects.n) })
    .from(disconnects)
    .where(eq(disconnects.fleet, fleet))
  return row?.n ?? 0
}

/** Newest first by time of the event; only arrivals up to `until`, and in that order after `cursor`. */
export async function pageDisconnects(
  store: Store,
  fleet: string,
  filter: DisconnectFilter,
  page: { until: number; cursor: { at: string; n: number } | undefined; limit: number },
): Promise<DisconnectRow[]> {
  const older =
    page.cursor === undefined
      ? undefined
      : sql`(${disconnects.at}, ${disconnects.n}) < (${page.cursor.at}, ${page.cursor.n})`
  return await store.db
    .select()
    .from(disconnects)
    .where(and(...matching(fleet, filter), lte(disconnects.n, page.until), older))
    .orderBy(desc(disconnects.at), desc(disconnects.n))
    .limit(page.limit)
}

/** Arrivals after number `after`, oldest first. */
export async function arrivals(
  store: Store,
  fleet: string,
  filter: DisconnectFilter,
  after: number,
  limit: number,
): Promise<DisconnectRow[]> {
  return await store.db
    .select()
    .from(disconnects)
    .where(and(...matching(fleet, filter), gt(disconnects.n, after)))
    .orderBy(asc(disconnects.n))
    .limit(limit)
}

export interface DisconnectCount {
  readonly host: string
  readonly port: number
  readonly cause: string
  /** "2026-11-23T19:05" */
  readonly minute: string
  readonly count: number
  readonly clients_hurt: number
}

/** Newest minute first. */
export async function countDisconnects(
  store: Store,
  fleet: string,
  filter: DisconnectFilter,
  limit: number,
): Promise<DisconnectCount[]> {
  const minute = sql<string>`substr(${disconnects.at}, 1, 16)`
  return await store.db
    .select({
      host: disconnects.host,
      port: disconnects.port,
      cause: disconnects.cause,
      minute,
      count: sql<number>`count(*)`,
      clients_hurt: sql<number>`sum(${disconnects.client_hurt})`,
    })
    .from(disconnects)
    .where(and(...matching(fleet, filter)))
    .groupBy(disconnects.host, disconnects.port, disconnects.cause, minute)
    .orderBy(desc(minute), desc(sql`count(*)`), asc(disconnects.host))
    .limit(limit)
}

function matching(fleet: string, filter: DisconnectFilter): (SQL | undefined)[] {
  return [
    eq(disconnects.fleet, fleet),
    filter.pool === undefined ? undefined : eq(disconnects.pool, filter.pool),
    filter.host === undefined ? undefined : eq(disconnects.host, filter.host),
    filter.cause === undefined ? undefined : eq(disconnects.cause, filter.cause),
    filter.proxy === undefined ? undefined : eq(disconnects.proxy, filter.proxy),
    filter.since === undefined ? undefined : gte(disconnects.at, filter.since),
  ]
}
