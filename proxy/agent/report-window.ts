import type { ReportWindow } from '../../shared/wire.ts'
import type { EngineSnapshot } from '../snapshot.ts'

type Counts = Readonly<Record<string, number>>

/** Totals since the process, or its engine, started. */
interface Totals {
  readonly atMs: number
  readonly transactions: number
  readonly errors: Counts
  readonly refused: Counts
  readonly clientsHurt: number
  readonly waits: readonly number[]
}

/** Counters of what happened since the last acknowledged report. */
export class Window {
  #last: Totals
  #sent: Totals | undefined
  #clientsHurt = 0

  constructor(nowMs: number) {
    this.#last = { atMs: nowMs, transactions: 0, errors: {}, refused: {}, clientsHurt: 0, waits: [] }
  }

  /** A client lost its server. */
  clientHurt(): void {
    this.#clientsHurt += 1
  }

  /** `nowMs` is of a clock that never goes back. */
  of(snapshot: EngineSnapshot, nowMs: number): ReportWindow {
    const now = totalsOf(snapshot, this.#clientsHurt, nowMs)
    const before = this.#last
    this.#sent = now
    return {
      seconds: Math.max(0, Math.round(now.atMs - before.atMs) / 1000),
      transactions: risen(now.transactions, before.transactions),
      errors: allRisen(now.errors, before.errors),
      refused: allRisen(now.refused, before.refused),
      clients_hurt: risen(now.clientsHurt, before.clientsHurt),
      waits: now.waits.map((total, at) => risen(total, before.waits[at] ?? 0)),
    }
  }

  /** The last one given is with control: the next one begins there. */
  acknowledged(): void {
    this.#last = this.#sent ?? this.#last
  }
}

function totalsOf({ pools, refused }: EngineSnapshot, clientsHurt: number, atMs: number): Totals {
  const waits: number[] = []
  for (const pool of pools) for (const [at, total] of pool.waits.entries()) waits[at] = (waits[at] ?? 0) + total
  return {
    atMs,
    transactions: pools.reduce((sum, pool) => sum + pool.totals.xact_count, 0),
    errors: summed(pools.map(({ serverErrors }) => serverErrors)),
    refused: summed([refused, ...pools.map((pool) => pool.refused)]),
    clientsHurt,
    waits,
  }
}

function summed(all: readonly Counts[]): Counts {
  const sums: Record<string, number> = {}
  for (const counts of all) for (const [key, value] of Object.entries(counts)) sums[key] = (sums[key] ?? 0) + value
  return sums
}

/** A total that fell began anew: its engine was restarted, or a pool was removed. */
function risen(now: number, before: number): number {
  return now < before ? now : now - before
}

function allRisen(now: Counts, before: Counts): Record<string, number> {
  const entries = Object.entries(now).map(([key, total]) => [key, risen(total, before[key] ?? 0)] as const)
  return Object.fromEntries(entries.filter(([, count]) => count > 0))
}
