import type { ProxyState, Reload } from '../../shared/api.ts'
import { comparePositions } from '../../shared/position.ts'
import type { Position, Report } from '../../shared/wire.ts'
import { listed, nameOf } from './pool-facts.ts'
import type { PoolFacts } from './pool-facts.ts'

/** A report without its events, as stored for each proxy. */
export type KeptReport = Omit<Report, 'events' | 'pools' | 'pools_removed' | 'base'>

/** What one proxy should run: control's own words, never a proxy's. */
export interface Desired {
  readonly position: Position
  /** Digest of the pools of that version, see `digestOf`. */
  readonly running: string
  /** What operators have done to databases of the fleet. */
  readonly operated: PoolFacts['operated']
}

/** What one process has said. */
export interface Told {
  readonly report: KeptReport | null
  readonly facts: PoolFacts | null
  /** The highest position that it said it runs or was offered: in a report, at hello, or by the ETag of a poll. */
  readonly claimed: Position | null
  /** How its pools differ from the desired ones, in words; asked for only if they do. */
  readonly differences: () => readonly string[]
}

export interface Seen {
  /** By control's clock; undefined if it was never seen. */
  readonly lastSeenMs: number | undefined
  readonly nowMs: number
  readonly pollIntervalMs: number
  /** Another process that has the same name, and was seen beside this one: its boot. */
  readonly twin: string | null
  /** Since when its token is refused. */
  readonly refusedSince: string | null
}

export interface Judgement {
  readonly state: ProxyState
  /** Why it is not `in_sync`; empty if it is. */
  readonly reasons: readonly string[]
}

/** A proxy counts as offline after this many missed polls plus this delay. */
export const missedPollsMax = 3
const lateMaxMs = 10_000

export function isOffline({
  lastSeenMs,
  nowMs,
  pollIntervalMs,
}: Pick<Seen, 'lastSeenMs' | 'nowMs' | 'pollIntervalMs'>): boolean {
  return lastSeenMs === undefined || nowMs - lastSeenMs > missedPollsMax * pollIntervalMs + lateMaxMs
}

/**
 * State of a proxy relative to the fleet's current version, the first that holds:
 *   offline    not seen for more than three polls
 *   duplicate  another process that has the same name is there too
 *   regressed  it is above control's position: control's store was restored from a backup
 *   failed     received the current version and could not apply it
 *   applying   received the current version and has not reported the result
 *   behind     has not received the current version
 *   drifted    applied the current version, and runs something else, or an operator has changed it
 *   degraded   runs the current version, and a pool does not serve
 *   in_sync    runs the current version, and no pool is known not to serve
 */
export function proxyState(desired: Desired, told: Told, seen: Seen): Judgement {
  if (isOffline(seen)) return { state: 'offline', reasons: [offlineReason(seen)] }
  if (seen.twin !== null) {
    return { state: 'duplicate', reasons: [`another process has the same name (boot ${seen.twin})`] }
  }
  const { report } = told
  const current = desired.position
  const highest = told.claimed
  if (highest !== null && comparePositions(highest, current) > 0) {
    const reason =
      `it is at ${textOf(highest)}, above control's ${textOf(current)}: ` +
      "if control's store was restored, `flotilla epoch raise`"
    return { state: 'regressed', reasons: [reason] }
  }
  // A fleet without a version.
  if (current.version === 0) return { state: 'in_sync', reasons: [] }
  if (report === null) return { state: 'behind', reasons: ['it has not reported yet'] }
  const isOffered = comparePositions(report.offered, current) === 0
  if (isOffered && report.error !== null) {
    const { code, message, pool, user } = report.error
    const where = pool === null ? '' : ` in ${user === null ? pool : nameOf({ pool, user })}`
    return { state: 'failed', reasons: [`${code}${where}: ${message}`] }
  }
  if (comparePositions(report.applied, current) !== 0) {
    const runs = report.applied === null ? 'it runs nothing yet' : `it runs ${textOf(report.applied)}`
    return { state: isOffered ? 'applying' : 'behind', reasons: [runs] }
  }
  return effectiveState(desired, told)
}

/** Of a proxy that has applied the current version. */
function effectiveState(desired: Desired, { report, facts, differences }: Told): Judgement {
  const drift = [
    ...(facts === null || facts.running !== desired.running ? differencesOr(differences) : []),
    ...(facts === null ? [] : operatedReasons(facts, desired.operated)),
    ...overriddenReasons(report?.overridden ?? []),
  ]
  const silent = facts === null ? [] : notServingReasons(facts)
  if (drift.length > 0) return { state: 'drifted', reasons: [...drift, ...silent] }
  return { state: silent.length > 0 ? 'degraded' : 'in_sync', reasons: silent }
}

function differencesOr(differences: () => readonly string[]): readonly string[] {
  const words = differences()
  return words.length === 0 ? ['what it runs differs'] : words
}

/** What was done at the proxy alone, or was not done there. */
function operatedReasons({ operated, suspended, tellsOperated }: PoolFacts, desired: PoolFacts['operated']): string[] {
  if (!tellsOperated) return []
  const states = ['paused', 'disabled'] as const
  const reasons = states.flatMap((state) => {
    const wanted = new Set(desired[state])
    const there = new Set(operated[state])
    const alone = operated[state].filter((pool) => !wanted.has(pool))
    const missing = desired[state].filter((pool) => !there.has(pool))
    return [
      ...(alone.length === 0 ? [] : [`${listed(alone)} is ${state} at this proxy`]),
      ...(missing.length === 0 ? [] : [`${listed(missing)} is not ${state}`]),
    ]
  })
  return suspended ? [...reasons, 'it is suspended'] : reasons
}

function overriddenReasons(keys: readonly string[]): string[] {
  return keys.length === 0 ? [] : [`${listed(keys)} was SET at its console`]
}

function notServingReasons({ notServing: { count, first } }: PoolFacts): string[] {
  const reasons = first.map((one) => {
    const since = one.since === null ? '' : ` since ${one.since}`
    return `${nameOf(one)} does not serve${since}${one.cause === null ? '' : `: ${one.cause}`}`
  })
  return count > first.length ? [...reasons, `${count - first.length} more pools do not serve`] : reasons
}

function offlineReason({ lastSeenMs, refusedSince }: Seen): string {
  const seen = lastSeenMs === undefined ? 'never seen' : `not seen since ${new Date(lastSeenMs).toISOString()}`
  return refusedSince === null ? seen : `${seen}; its token was revoked, and is refused since ${refusedSince}`
}

export function highestOf(positions: readonly (Position | null)[]): Position | null {
  return positions.reduce((one, other) => (comparePositions(one, other) >= 0 ? one : other), null)
}

/** "v3", and the epoch if there has been a restore. */
function textOf({ epoch, version }: Position): string {
  return epoch === 1 ? `v${version}` : `v${version} of epoch ${epoch}`
}

type Outcome = Reload['proxies'][number]['outcome']

/**
 * Outcome of a reload at one proxy; undefined until it is known. A report counts if control received it after the
 * request.
 */
export function reloadOutcome(
  current: Position,
  { report, reportedMs, askedMs }: { report: KeptReport | null; reportedMs: number | undefined; askedMs: number },
): Outcome | undefined {
  if (report === null || reportedMs === undefined || reportedMs < askedMs) return undefined
  const { applied, offered, error } = report
  const looked = comparePositions(offered, current) >= 0
  if (looked && error !== null) return 'failed'
  return comparePositions(applied, current) === 0 ? 'applied' : undefined
}
