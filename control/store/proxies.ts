import { and, asc, eq, isNotNull, isNull, lt, sql } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import { agreedFormat } from '../../shared/config/formats.ts'
import { proxyNumberMax } from '../../shared/wire.ts'
import type { HelloRequest, Peer } from '../../shared/wire.ts'
import { proxies, tokens } from './schema.ts'
import type { Store, Writable } from './store.ts'

export type ProxyRow = typeof proxies.$inferSelect

export interface HintTarget {
  readonly fleet: string
  readonly proxy: string
  readonly boot: string
  readonly hint_url: string
}

/** A proxy not seen for this long is deleted when another one says hello; its own next hello restores it. */
const forgottenAfterMs = 7 * 24 * 3_600_000

/** A new boot starts without a report; a repeated hello of the same boot keeps its report. */
export async function sayHello(
  store: Store,
  fleet: string,
  id: string,
  hello: HelloRequest & { readonly token_id: string },
  nowMs: number,
): Promise<void> {
  const now = new Date(nowMs).toISOString()
  const longAgo = new Date(nowMs - forgottenAfterMs).toISOString()
  const facts = {
    boot: hello.boot,
    hello_at: now,
    agent_version: hello.agent_version,
    hint_url: hello.hint_url ?? null,
    listen: hello.listen,
    region: hello.region ?? null,
    last_seen_at: now,
    peer_host: hello.peer?.host ?? null,
    peer_port: hello.peer?.port ?? null,
    body_format: hello.body_formats === undefined ? null : agreedFormat(hello.body_formats),
    known_keys: hello.known_keys === undefined ? null : JSON.stringify(hello.known_keys),
    token_id: hello.token_id,
  }
  const sameBoot = sql`${proxies.boot} = excluded.boot`
  await store.write([
    store.db.delete(proxies).where(and(eq(proxies.fleet, fleet), lt(proxies.last_seen_at, longAgo))),
    store.db
      .insert(proxies)
      .values({ fleet, id, ...facts, number: freeNumber(fleet) })
      .onConflictDoUpdate({
        target: [proxies.fleet, proxies.id],
        set: {
          ...facts,
          number: sql`COALESCE(${proxies.number}, excluded.number)`,
          seq: sql`CASE WHEN ${sameBoot} THEN ${proxies.seq} ELSE 0 END`,
          reported_at: sql`CASE WHEN ${sameBoot} THEN ${proxies.reported_at} END`,
          report: sql`CASE WHEN ${sameBoot} THEN ${proxies.report} END`,
        },
      }),
  ])
}

/** The lowest free number of the fleet; null if all are in use. */
function freeNumber(fleet: string): SQL<number | null> {
  return sql`(
    SELECT MIN(candidate)
    FROM (SELECT 1 AS candidate UNION ALL SELECT number + 1 FROM proxies WHERE fleet = ${fleet} AND number IS NOT NULL)
    WHERE candidate <= ${proxyNumberMax}
      AND candidate NOT IN (SELECT number FROM proxies WHERE fleet = ${fleet} AND number IS NOT NULL))`
}

/** All proxies that have a number. */
export async function listPeers(store: Store, fleet: string): Promise<Peer[]> {
  const rows = await store.db
    .select({
      proxy: proxies.id,
      // Not null by the condition below.
      number: sql<number>`${proxies.number}`,
      host: proxies.peer_host,
      port: proxies.peer_port,
    })
    .from(proxies)
    .where(and(eq(proxies.fleet, fleet), isNotNull(proxies.number)))
    .orderBy(asc(proxies.number))
  return rows.map(({ proxy, number, host, port }) => ({
    proxy,
    number,
    address: host === null || port === null ? null : { host, port },
  }))
}

/**
 * Stores a report as the proxy's newest, unless a later one of the same boot was stored, or the proxy has said hello
 * with another boot, so that this report is late.
 */
export function keepReport(
  store: Store,
  fleet: string,
  id: string,
  report: { boot: string; seq: number; json: string },
  now: string,
): Writable {
  const facts = { boot: report.boot, seq: report.seq, report: report.json, reported_at: now, last_seen_at: now }
  return store.db
    .insert(proxies)
    .values({ fleet, id, ...facts })
    .onConflictDoUpdate({
      target: [proxies.fleet, proxies.id],
      set: facts,
      setWhere: sql`(${proxies.boot} = excluded.boot AND ${proxies.seq} < excluded.seq)
        OR (${proxies.boot} <> excluded.boot AND ${proxies.hello_at} IS NULL)`,
    })
}

export async function listProxies(store: Store, fleet: string): Promise<ProxyRow[]> {
  return await store.db.select().from(proxies).where(eq(proxies.fleet, fleet)).orderBy(asc(proxies.id))
}

/** What each proxy said of its release. */
export async function listKnowledge(
  store: Store,
  fleet: string,
): Promise<Pick<ProxyRow, 'id' | 'agent_version' | 'known_keys'>[]> {
  const { id, agent_version, known_keys } = proxies
  return await store.db
    .select({ id, agent_version, known_keys })
    .from(proxies)
    .where(eq(proxies.fleet, fleet))
    .orderBy(asc(id))
}

export async function findProxy(store: Store, fleet: string, id: string): Promise<ProxyRow | undefined> {
  const [row] = await store.db
    .select()
    .from(proxies)
    .where(and(eq(proxies.fleet, fleet), eq(proxies.id, id)))
  return row
}

/** Proxies that control can reach and may: not those that said hello with a token that is revoked now. */
export async function listHintTargets(store: Store, fleet: string): Promise<HintTarget[]> {
  return await store.db
    .select({
      fleet: proxies.fleet,
      proxy: proxies.id,
      boot: proxies.boot,
      // Not null by the condition below.
      hint_url: sql<string>`${proxies.hint_url}`,
    })
    .from(proxies)
    .leftJoin(tokens, eq(tokens.id, proxies.token_id))
    .where(and(eq(proxies.fleet, fleet), isNotNull(proxies.hint_url), isNull(tokens.revoked_at)))
}

/** Proxies that said hello with a token that is revoked now. */
export async function listRevoked(store: Store, fleet: string): Promise<string[]> {
  const rows = await store.db
    .select({ id: proxies.id })
    .from(proxies)
    .innerJoin(tokens, eq(tokens.id, proxies.token_id))
    .where(and(eq(proxies.fleet, fleet), isNotNull(tokens.revoked_at)))
  return rows.map(({ id }) => id)
}

/** Stores when proxies were last seen, in one write; times never go back. */
export async function keepLastSeen(
  store: Store,
  seen: readonly { fleet: string; proxy: string; at: string }[],
): Promise<void> {
  if (seen.length === 0) return
  const list = seen.map(({ fleet, proxy, at }) =>
    store.db
      .update(proxies)
      .set({ last_seen_at: at })
      .where(
        and(
          eq(proxies.fleet, fleet),
          eq(proxies.id, proxy),
          sql`(${proxies.last_seen_at} IS NULL OR ${proxies.last_seen_at} < ${at})`,
        ),
      ),
  )
  await store.write(list)
}
