import type { ProxyState, Reload } from '../../shared/api.ts'
import { comparePositions } from '../../shared/position.ts'
import type { Position, Report } from '../../shared/wire.ts'

/** A report without its events: what control keeps of each proxy. */
export type KeptReport = Omit<Report, 'events'>

export interface Seen {
  /** By control's clock; undefined when it was never seen. */
  readonly lastSeenMs: number | undefined
  readonly nowMs: number
  readonly pollIntervalMs: number
}

/** A proxy may miss so many polls, and be late by so much, before it counts as offline. */
const missedPollsMax = 3
const lateMaxMs = 10_000

function isOffline({ lastSeenMs, nowMs, pollIntervalMs }: Seen): boolean {
  return lastSeenMs === undefined || nowMs - lastSeenMs > missedPollsMax * pollIntervalMs + lateMaxMs
}

/**
 * How a proxy stands to the fleet's current version:
 *   offline   not seen for more than three polls
 *   failed    it looked at the current version and could not take it
 *   in_sync   it runs the current version
 *   applying  it looked at the current version and has not said yet how that went
 *   behind    it has not looked at the current version
 */
export function proxyState(current: Position, report: KeptReport | null, seen: Seen): ProxyState {
  if (isOffline(seen)) return 'offline'
  // Before a fleet's first version there is nothing to be behind of.
  if (current.version === 0) return 'in_sync'
  if (report === null) return 'behind'
  const offered = comparePositions(report.offered, current) === 0
  if (offered && report.error !== null) return 'failed'
  if (comparePositions(report.applied, current) === 0) return 'in_sync'
  return offered ? 'applying' : 'behind'
}

type Outcome = Reload['proxies'][number]['outcome']

/**
 * What a proxy has said since it was asked to reload; undefined while there is nothing to say yet. A report counts when
 * control received it after asking.
 */
export function reloadOutcome(
  current: Position,
  report: KeptReport | null,
  reportedMs: number | undefined,
  askedMs: number,
): Outcome | undefined {
  if (report === null || reportedMs === undefined || reportedMs < askedMs) return undefined
  const { applied, offered, error } = report
  const looked = comparePositions(offered, current) >= 0
  if (looked && error !== null) return 'failed'
  return comparePositions(applied, current) >= 0 ? 'applied' : undefined
}
