import { and, asc, eq, inArray, isNotNull, isNull, lt, sql } from 'drizzle-orm'
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

export interface Greeting {
  readonly fleet: string
  readonly id: string
  readonly hello: HelloRequest & { readonly token_id: string }
  readonly nowMs: number
  /** Processes of this name that have ended, whose number this one gets: the first of them. */
  readonly ended: readonly Pick<ProxyRow, 'boot' | 'number'>[]
}

/** A new process starts without a report; a repeated hello of the same one keeps its report. */
export async function sayHello(store: Store, { fleet, id, hello, nowMs, ended }: Greeting): Promise<void> {
  const now = new Date(nowMs).toISOString()
  const longAgo = new Date(nowMs - forgottenAfterMs).toISOString()
  const facts = {
    hello_at: now,
    agent_version: hello.agent_version,
    hint_url: hello.hint_url ?? null,
    listen: hello.listen,
    region: hello.region ?? null,
    last_seen_at: now,
    peer_host: hello.peer?.host ?? null,
    peer_port: hello.peer?.port ?? null,
    hello_epoch: hello.applied?.epoch ?? null,
    hello_version: hello.applied?.version ?? null,
    body_format: hello.body_formats === undefined ? null : agreedFormat(hello.body_formats),
    known_keys: hello.known_keys === undefined ? null : JSON.stringify(hello.known_keys),
    token_id: hello.token_id,
  }
  const boots = ended.map(({ boot }) => boot)
  const [number = null] = ended.flatMap((row) => row.number ?? [])
  await store.write([
    store.db.delete(proxies).where(and(eq(proxies.fleet, fleet), lt(proxies.last_seen_at, longAgo))),
    store.db.delete(proxies).where(and(eq(proxies.fleet, fleet), eq(proxies.id, id), inArray(proxies.boot, boots))),
    store.db
      .insert(proxies)
      .values({ fleet, id, boot: hello.boot, ...facts, known_at: now, number: numberOf(fleet, number) })
      .onConflictDoUpdate({
        target: [proxies.fleet, proxies.id, proxies.boot],
        set: { ...facts, number: sql`COALESCE(${proxies.number}, excluded.number)` },
      }),
  ])
}

/** The former number if it is free, otherwise the lowest free one of the fleet; null if all are in use. */
function numberOf(fleet: string, former: number | null): SQL<number | null> {
  if (former === null) return freeNumber(fleet)
  const taken = sql`SELECT number FROM proxies WHERE fleet = ${fleet} AND number IS NOT NULL`
  return sql`CASE WHEN ${former} IN (${taken}) THEN ${freeNumber(fleet)} ELSE ${former} END`
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
      boot: proxies.boot,
      // Not null by the condition below.
      number: sql<number>`${proxies.number}`,
      host: proxies.peer_host,
      port: proxies.peer_port,
    })
    .from(proxies)
    .where(and(eq(proxies.fleet, fleet), isNotNull(proxies.number)))
    .orderBy(asc(proxies.number))
  return rows.map(({ proxy, boot, number, host, port }) => ({
    proxy,
    boot,
    number,
    address: host === null || port === null ? null : { host, port },
  }))
}

export interface NewReport {
  readonly fleet: string
  readonly id: string
  readonly boot: string
  readonly seq: number
  /** JSON, as in the row. */
  readonly report: string
  readonly pools: string
  readonly pool_facts: string
  /** The report that its pools are changes of: it must be the newest; null if they are all. */
  readonly base: number | null
}

/** Stores a report as the newest of its process, unless it is not. */
export function keepReport(store: Store, report: NewReport, now: string): Writable {
  const { fleet, id, boot, base, ...rest } = report
  const facts = { ...rest, reported_at: now, last_seen_at: now }
  const isNewer = sql`${proxies.seq} < excluded.seq`
  if (base !== null) {
    const isBase = and(eq(proxies.fleet, fleet), eq(proxies.id, id), eq(proxies.boot, boot), eq(proxies.seq, base))
    return store.db.update(proxies).set(facts).where(isBase)
  }
  return store.db
    .insert(proxies)
    .values({ fleet, id, boot, ...facts, known_at: now })
    .onConflictDoUpdate({ target: [proxies.fleet, proxies.id, proxies.boot], set: facts, setWhere: isNewer })
}

/** Every process that is known, by id. */
export async function listProxies(store: Store, fleet: string): Promise<ProxyRow[]> {
  return await store.db
    .select()
    .from(proxies)
    .where(eq(proxies.fleet, fleet))
    .orderBy(asc(proxies.id), asc(proxies.boot))
}

/** What each proxy said of its release; the process that said hello last, where there are two. */
export async function listKnowledge(
  store: Store,
  fleet: string,
): Promise<Pick<ProxyRow, 'id' | 'agent_version' | 'known_keys'>[]> {
  const { id, agent_version, known_keys, hello_at } = proxies
  const rows = await store.db
    .select({ id, agent_version, known_keys })
    .from(proxies)
    .where(eq(proxies.fleet, fleet))
    .orderBy(asc(id), asc(hello_at))
  return [...new Map(rows.map((row) => [row.id, row])).values()]
}

/** The processes that have this name. */
export async function findProxies(store: Store, fleet: string, id: string): Promise<ProxyRow[]> {
  return await store.db
    .select()
    .from(proxies)
    .where(and(eq(proxies.fleet, fleet), eq(proxies.id, id)))
}

export async function findProcess(
  store: Store,
  { fleet, id, boot }: { fleet: string; id: string; boot: string },
): Promise<ProxyRow | undefined> {
  const [row] = await store.db
    .select()
    .from(proxies)
    .where(and(eq(proxies.fleet, fleet), eq(proxies.id, id), eq(proxies.boot, boot)))
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

/** Processes that said hello with a token that is revoked now. */
export async function listRevoked(store: Store, fleet: string): Promise<Pick<HintTarget, 'proxy' | 'boot'>[]> {
  return await store.db
    .select({ proxy: proxies.id, boot: proxies.boot })
    .from(proxies)
    .innerJoin(tokens, eq(tokens.id, proxies.token_id))
    .where(and(eq(proxies.fleet, fleet), isNotNull(tokens.revoked_at)))
}

export interface LastSeen {
  readonly fleet: string
  readonly proxy: string
  /** Null from a proxy that does not say: then it is the one that said hello last. */
  readonly boot: string | null
  readonly at: string
}

/** Stores when proxies were last seen, in one write; times never go back. */
export async function keepLastSeen(store: Store, seen: readonly LastSeen[]): Promise<void> {
  if (seen.length === 0) return
  const list = seen.map(({ fleet, proxy, boot, at }) =>
    store.db
      .update(proxies)
      .set({ last_seen_at: at })
      .where(
        and(
          eq(proxies.fleet, fleet),
          eq(proxies.id, proxy),
          boot === null
            ? sql`${proxies.boot} = (SELECT boot FROM proxies WHERE fleet = ${fleet} AND id = ${proxy}
                ORDER BY COALESCE(known_at, hello_at) DESC LIMIT 1)`
            : eq(proxies.boot, boot),
          sql`(${proxies.last_seen_at} IS NULL OR ${proxies.last_seen_at} < ${at})`,
        ),
      ),
  )
  await store.write(list)
}
