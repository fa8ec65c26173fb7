import type { Proxy, ProxyDetail } from '../../shared/api.ts'
import { reportSchema } from '../../shared/wire.ts'
import type { Position } from '../../shared/wire.ts'
import type { ProxyRow } from '../store/proxies.ts'
import { proxyState } from './proxy-state.ts'
import type { KeptReport, Seen } from './proxy-state.ts'

/** A row of the store as shown to operators. `presenceMs` is a later time of contact that is not stored yet. */
export function describeProxy(
  row: ProxyRow,
  current: Position,
  clock: { nowMs: number; pollIntervalMs: number; presenceMs: number | undefined },
): ProxyDetail {
  const report = reportOf(row)
  const lastSeenMs = latest(row.last_seen_at, clock.presenceMs)
  const seen: Seen = { lastSeenMs, nowMs: clock.nowMs, pollIntervalMs: clock.pollIntervalMs }
  const proxy: Proxy = {
    id: row.id,
    state: proxyState(current, report, seen),
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
    needs_restart: report?.needs_restart ?? [],
    dropped_events: report?.dropped_events ?? 0,
    engine_restarts: report?.engine_restarts ?? [],
    stats: report?.stats ?? null,
  }
  const other = Object.entries(report ?? {}).filter(([field]) => !Object.hasOwn(reportSchema.shape, field))
  return { ...proxy, pools: report?.pools ?? [], other: Object.fromEntries<unknown>(other) }
}

/** The row contains a report validated by `reportSchema`, without its events. */
export function reportOf(row: ProxyRow): KeptReport | null {
  return row.report === null ? null : (JSON.parse(row.report) as KeptReport)
}

function latest(stored: string | null, presenceMs: number | undefined): number | undefined {
  const storedMs = stored === null ? undefined : Date.parse(stored)
  if (storedMs === undefined || presenceMs === undefined) return storedMs ?? presenceMs
  return Math.max(storedMs, presenceMs)
}
