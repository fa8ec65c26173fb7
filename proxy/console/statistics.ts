import type { PoolTotals } from '../snapshot.ts'
import type { Pool } from '../engine/pool/pool.ts'
import { noTotals } from '../engine/pool/totals.ts'
import { consoleName } from './console-name.ts'

/** Window of the averages: PgBouncer's `stats_period`. */
const statsPeriodMs = 60_000

/** Interval between samples; the window moves in these steps. */
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

/** What statistics need of a pool. */
type Measured = Pick<Pool, 'database' | 'totals' | 'abandoned'>

export interface DatabaseStatistics {
  readonly database: string
  readonly totals: PoolTotals
  readonly averages: PoolTotals
}

/**
 * Totals per database, over all users, and averages over the last minute (or since the database was first seen). Totals
 * of a removed user stay in the sums as long as its database is known, because readers take a decrease for a restart.
 */
export class Statistics {
  /** Requests on the console itself. */
  readonly console: PoolTotals = noTotals()
  /** Per database, oldest first; the first is at most one period old. */
  readonly #samples = new Map<string, Sample[]>()
  /** Totals of removed pools, per database. */
  readonly #departed = new Map<string, PoolTotals>()
  #observedMs: number

  constructor(nowMs: number) {
    this.#observedMs = nowMs
    this.#samples.set(consoleName, [{ atMs: nowMs, totals: noTotals() }])
  }

  /** Called about once a second, before abandoned pools are removed. */
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
      // Everything counted so far was counted since the last call.
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

  /** Sorted by database; the console is last. */
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

/** PgBouncer's definitions: counts, bytes and waits per second; times per transaction or query. */
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
