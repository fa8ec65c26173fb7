import type { ProxyState, Reload } from '../../shared/api.ts'
import { comparePositions } from '../../shared/position.ts'
import type { Position, Report } from '../../shared/wire.ts'

/** A report without its events, as stored for each proxy. */
export type KeptReport = Omit<Report, 'events'>

export interface Seen {
  /** By control's clock; undefined if it was never seen. */
  readonly lastSeenMs: number | undefined
  readonly nowMs: number
  readonly pollIntervalMs: number
}

/** A proxy counts as offline after this many missed polls plus this delay. */
const missedPollsMax = 3
const lateMaxMs = 10_000

function isOffline({ lastSeenMs, nowMs, pollIntervalMs }: Seen): boolean {
  return lastSeenMs === undefined || nowMs - lastSeenMs > missedPollsMax * pollIntervalMs + lateMaxMs
}

/**
 * State of a proxy relative to the fleet's current version:
 *   offline   not seen for more than three polls
 *   failed    received the current version and could not apply it
 *   in_sync   runs the current version
 *   applying  received the current version and has not reported the result
 *   behind    has not received the current version
 */
export function proxyState(current: Position, report: KeptReport | null, seen: Seen): ProxyState {
  if (isOffline(seen)) return 'offline'
  // A fleet without a version.
  if (current.version === 0) return 'in_sync'
  if (report === null) return 'behind'
  const offered = comparePositions(report.offered, current) === 0
  if (offered && report.error !== null) return 'failed'
  if (comparePositions(report.applied, current) === 0) return 'in_sync'
  return offered ? 'applying' : 'behind'
}

type Outcome = Reload['proxies'][number]['outcome']

/**
 * Outcome of a reload at one proxy; undefined until it is known. A report counts if control received it after the
 * request.
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
