import type { Proxy, ProxyDetail } from '../../shared/api.ts'
import type { PoolHash } from '../../shared/config/effective.ts'
import { reportSchema } from '../../shared/wire.ts'
import type { PoolReport, Position } from '../../shared/wire.ts'
import type { ProxyRow } from '../store/proxies.ts'
import { differences, poolFactsOf } from './pool-facts.ts'
import type { PoolFacts } from './pool-facts.ts'
import { highestOf, isOffline, proxyState } from './proxy-state.ts'
import type { Desired, KeptReport, Seen } from './proxy-state.ts'

/** What one proxy should run, and the pools of it. */
export interface DesiredPools extends Desired {
  readonly pools: readonly Pick<PoolHash, 'pool' | 'user' | 'hash'>[]
}

/** What is known of processes beyond their rows. */
export interface Contacts {
  readonly nowMs: number
  readonly pollIntervalMs: number
  /** Later than what is stored; undefined if there was none. Of those with its name, `row` may be the newest. */
  readonly lastSeenMs: (row: ProxyRow, isNewest: boolean) => number | undefined
  /** Position of the ETag of the last poll. */
  readonly polled: (row: ProxyRow) => Position | null
  /** Since when the token is refused. */
  readonly refusedSince: (row: ProxyRow) => string | null
}

/** A process that is shown: the newest with its name, or one that was seen beside that. */
export interface Process {
  readonly row: ProxyRow
  readonly lastSeenMs: number | undefined
  readonly twin: string | null
}

/**
 * The processes of a fleet, by id. One that was not heard of since a newer one with the same name appeared has ended, and is
 * left out.
 */
export function processesOf(rows: readonly ProxyRow[], contacts: Contacts): Process[] {
  const named = Map.groupBy(rows, ({ id }) => id)
  return [...named.values()].flatMap((same) => {
    const [newest, ...older] = same
      .toSorted((one, other) => knownMs(other) - knownMs(one))
      .map((row, index) => ({ row, lastSeenMs: latest(row.last_seen_at, contacts.lastSeenMs(row, index === 0)) }))
    // A group is never empty.
    const { row } = newest!
    const twins = older.filter(
      ({ lastSeenMs }) => !isOffline({ ...contacts, lastSeenMs }) && (lastSeenMs ?? 0) > knownMs(row),
    )
    const [twin] = twins
    const isAlone = twin === undefined || isOffline({ ...contacts, lastSeenMs: newest!.lastSeenMs })
    return [
      { ...newest!, twin: isAlone ? null : twin.row.boot },
      ...twins.map((one) => ({ ...one, twin: isAlone ? null : row.boot })),
    ]
  })
}

function knownMs({ known_at, hello_at, reported_at }: ProxyRow): number {
  return Date.parse(known_at ?? hello_at ?? reported_at ?? '1970-01-01T00:00:00Z')
}

/** A process as shown to operators. */
export function describeProxy(process: Process, desired: DesiredPools, contacts: Contacts): Proxy {
  const { row, lastSeenMs } = process
  const report = reportOf(row)
  const facts = factsOf(row)
  const { state, reasons } = judge(process, desired, contacts)
  return {
    id: row.id,
    state,
    reasons: [...reasons],
    boot: row.boot,
    agent_version: row.agent_version,
    listen: row.listen,
    region: row.region,
    hint_url: row.hint_url,
    last_seen_at: lastSeenMs === undefined ? null : new Date(lastSeenMs).toISOString(),
    reported_at: row.reported_at,
    offered: report?.offered ?? null,
    applied: report?.applied ?? null,
    error: report?.error ?? null,
    not_serving: facts?.notServing.count ?? 0,
    operated: operatedOf(facts),
    overridden: report?.overridden ?? [],
    draining_servers: facts?.drainingServers ?? 0,
    needs_restart: report?.needs_restart ?? [],
    problems: report?.problems ?? [],
    dropped_events: report?.dropped_events ?? 0,
    engine_restarts: report?.engine_restarts ?? [],
    stats: report?.stats ?? null,
    window: report?.window ?? null,
    process: report?.process ?? null,
  }
}

export function describeDetail(shown: Process, desired: DesiredPools, contacts: Contacts): ProxyDetail {
  const other = Object.entries(reportOf(shown.row) ?? {}).filter(([field]) => !Object.hasOwn(reportSchema.shape, field))
  const proxy = describeProxy(shown, desired, contacts)
  return { ...proxy, pools: poolsOf(shown.row), other: Object.fromEntries<unknown>(other) }
}

/** State and reasons alone. */
export function judge({ row, lastSeenMs, twin }: Process, desired: DesiredPools, contacts: Contacts) {
  const { nowMs, pollIntervalMs } = contacts
  const seen: Seen = { lastSeenMs, nowMs, pollIntervalMs, twin, refusedSince: contacts.refusedSince(row) }
  const told = {
    report: reportOf(row),
    facts: factsOf(row),
    claimed: claimOf(row, contacts.polled(row)),
    differences: () => differences(desired.pools, poolsOf(row)),
  }
  return proxyState(desired, told, seen)
}

/** The highest position that it said it runs, or was offered. */
export function claimOf(row: ProxyRow, polled: Position | null): Position | null {
  const report = reportOf(row)
  return highestOf([report?.applied ?? null, report?.offered ?? null, helloPosition(row), polled])
}

/** What it said at hello that it runs. */
function helloPosition({ hello_epoch: epoch, hello_version: version }: ProxyRow): Position | null {
  return epoch === null || version === null ? null : { epoch, version }
}

function operatedOf(facts: PoolFacts | null): Proxy['operated'] {
  const { paused = [], disabled = [] } = facts?.operated ?? {}
  return { paused: [...paused], disabled: [...disabled], suspended: facts?.suspended ?? false }
}

/** Written by the release before, a report contains the pools. */
type StoredReport = KeptReport & { readonly pools?: PoolReport[] }

/** The row contains a report validated by `reportSchema`. */
export function reportOf(row: Pick<ProxyRow, 'report'>): StoredReport | null {
  return row.report === null ? null : (JSON.parse(row.report) as StoredReport)
}

/** Of the newest report, those that it did not repeat too. */
export function poolsOf(row: Pick<ProxyRow, 'report' | 'pools'>): PoolReport[] {
  return row.pools === null ? (reportOf(row)?.pools ?? []) : (JSON.parse(row.pools) as PoolReport[])
}

/** Null if it has not reported. */
function factsOf(row: ProxyRow): PoolFacts | null {
  if (row.report === null) return null
  return row.pool_facts === null ? poolFactsOf(poolsOf(row)) : (JSON.parse(row.pool_facts) as PoolFacts)
}

/** Of a time that is stored and one that is not. */
export function latest(stored: string | null, presenceMs: number | undefined): number | undefined {
  const storedMs = stored === null ? undefined : Date.parse(stored)
  if (storedMs === undefined || presenceMs === undefined) return storedMs ?? presenceMs
  return Math.max(storedMs, presenceMs)
}
