import type { PoolTotals } from '../snapshot.ts'
import type { Pool } from '../engine/pool/pool.ts'
import { noTotals } from '../engine/pool/totals.ts'
import { consoleName } from './console-name.ts'

/** The window of the averages: PgBouncer's `stats_period`. */
const statsPeriodMs = 60_000

/** Between two samples; the window moves in such steps. */
const sampleEveryMs = 5000

interface Sample {
  readonly atMs: number
  readonly totals: PoolTotals
}

export const totalNames = [
  'server_assignment_count',
  'xact_count',
  'query_count',
  'bytes_received',
  'bytes_sent',
  'xact_time',
  'query_time',
  'wait_time',
  'client_parse_count',
  'server_parse_count',
  'bind_count',
  'client_login_count',
] as const satisfies readonly (keyof PoolTotals)[]

/** What statistics need to know of a name. */
type Measured = Pick<Pool, 'database' | 'totals' | 'abandoned'>

export interface DatabaseStatistics {
  readonly database: string
  readonly totals: PoolTotals
  readonly averages: PoolTotals
}

/**
 * Totals per database, summed over its users, and averages over the last minute (over the time since the database was
 * first seen, while that is shorter). A user that left the configuration stays in the sums as long as its database is
 * known, because readers take a total that falls for a restart.
 */
export class Statistics {
  /** Requests on the console itself. */
  readonly console: PoolTotals = noTotals()
  /** Oldest first, the first at most one period old; per database. */
  readonly #samples = new Map<string, Sample[]>()
  /** Totals of users whose name was forgotten, per database. */
  readonly #departed = new Map<string, PoolTotals>()
  #observedMs: number

  constructor(nowMs: number) {
    this.#observedMs = nowMs
    this.#samples.set(consoleName, [{ atMs: nowMs, totals: noTotals() }])
  }

  /** Called about once a second, before names that nothing is left of are forgotten. */
  observe(pools: Iterable<Measured>, nowMs: number): void {
    const known = [...pools]
    const now = this.#totals(known)
    for (const database of this.#samples.keys()) {
      if (now.has(database)) continue
      this.#samples.delete(database)
      this.#departed.delete(database)
    }
    for (const [database, totals] of now) this.#sample(database, totals, nowMs)
    this.#observedMs = nowMs
    for (const pool of known) if (pool.abandoned) this.#depart(pool)
  }

  #sample(database: string, totals: PoolTotals, nowMs: number): void {
    const samples = this.#samples.get(database)
    if (samples === undefined) {
      // What it has done by now, it has done since the last call.
      this.#samples.set(database, [{ atMs: this.#observedMs, totals: noTotals() }])
      return
    }
    if (nowMs - (samples.at(-1) as Sample).atMs >= sampleEveryMs) samples.push({ atMs: nowMs, totals: { ...totals } })
    while (samples.length > 1 && nowMs - (samples[0] as Sample).atMs > statsPeriodMs) samples.shift()
  }

  #depart(pool: Measured): void {
    const departed = this.#departed.get(pool.database) ?? noTotals()
    add(departed, pool.totals)
    this.#departed.set(pool.database, departed)
  }

  /** In the order of the databases' names; the console's own last. */
  databases(pools: Iterable<Measured>, nowMs: number): DatabaseStatistics[] {
    return [...this.#totals(pools)].map(([database, totals]) => {
      const since = this.#samples.get(database)?.[0] ?? { atMs: nowMs, totals: noTotals() }
      return { database, totals, averages: averages(since, { atMs: nowMs, totals }) }
    })
  }

  #totals(pools: Iterable<Measured>): Map<string, PoolTotals> {
    const sums = new Map<string, PoolTotals>()
    for (const pool of pools) {
      let sum = sums.get(pool.database)
      if (sum === undefined) {
        sum = noTotals()
        add(sum, this.#departed.get(pool.database) ?? noTotals())
        sums.set(pool.database, sum)
      }
      add(sum, pool.totals)
    }
    const sorted = new Map([...sums].sort(([a], [b]) => (a < b ? -1 : 1)))
    return sorted.set(consoleName, this.console)
  }
}

/**
 * As PgBouncer defines them: counts, bytes and waiting per second; the time of a transaction or query per transaction
 * or query.
 */
function averages(from: Sample, to: Sample): PoolTotals {
  const seconds = (to.atMs - from.atMs) / 1000
  const result = noTotals()
  for (const name of totalNames) {
    const change = to.totals[name] - from.totals[name]
    const per = perItem[name]
    const divisor = per === undefined ? seconds : to.totals[per] - from.totals[per]
    result[name] = divisor > 0 ? change / divisor : 0
  }
  return result
}

const perItem: Partial<Record<keyof PoolTotals, keyof PoolTotals>> = {
  xact_time: 'xact_count',
  query_time: 'query_count',
}

function add(sum: PoolTotals, more: PoolTotals): void {
  for (const name of totalNames) sum[name] += more[name]
}
