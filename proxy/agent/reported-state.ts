import type { PoolReport } from '../../shared/wire.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { Applier } from './applier.ts'
import { serversOf } from './metrics.ts'
import { keyOf, PoolReports } from './pool-reports.ts'
import type { Problems } from './problems.ts'
import { Window } from './report-window.ts'
import type { ReportState } from './reports.ts'
import type { Workers } from './workers.ts'

interface Ordered {
  readonly pool: string
  readonly effect: string
}

export interface ReportedStateOptions {
  readonly applier: Pick<Applier, 'offered' | 'applied' | 'error' | 'desiredPools' | 'runningFormat'>
  readonly engine: Pick<Workers, 'restarts' | 'operated'>
  /** Empty without an engine. */
  readonly snapshot: () => Promise<EngineSnapshot>
  /** Process settings that differ from the running version. */
  readonly needsRestart: () => string[]
  readonly problems: Problems
  /** What the fleet has ordered. */
  readonly orders: () => readonly Ordered[]
  /** The wall clock. */
  readonly now: () => Date
}

/** What a proxy says of itself, to control and on /readyz. */
export class ReportedState {
  readonly #options: ReportedStateOptions
  readonly #pools = new PoolReports()
  readonly #window = new Window(performance.now())

  constructor(options: ReportedStateOptions) {
    this.#options = options
  }

  clientHurt(): void {
    this.#window.clientHurt()
  }

  /** Control has stored the last report that was made. */
  acknowledged(): void {
    this.#window.acknowledged()
  }

  async report(): Promise<ReportState> {
    const { applier, engine, needsRestart, problems } = this.#options
    const askedAtMs = performance.now()
    const snapshot = await this.#options.snapshot()
    const nowMs = performance.now()
    const sum = (count: (pool: EngineSnapshot['pools'][number]) => number): number =>
      snapshot.pools.reduce((total, pool) => total + count(pool), 0)
    return {
      offered: applier.offered,
      applied: applier.applied,
      error: applier.error?.outline ?? null,
      needs_restart: needsRestart(),
      body_format: applier.runningFormat ?? 1,
      pools: this.#poolsOf(snapshot),
      engine_restarts: [...engine.restarts],
      stats: { clients: snapshot.clients, waiting: sum((pool) => pool.clientsWaiting), servers: sum(serversOf) },
      overridden: snapshot.overrides.map(keyOf),
      problems: problems.list,
      window: this.#window.of(snapshot, nowMs),
      process: { loop_delay_ms: Math.round(nowMs - askedAtMs), memory_bytes: process.memoryUsage.rss() },
    }
  }

  /** What is not as it should be, a line each, although the proxy takes clients. */
  async notes(): Promise<string[]> {
    const { applier, problems, snapshot, needsRestart } = this.#options
    const now = await snapshot()
    const restart = needsRestart()
    const orders = this.#options.orders()
    return [
      ...orders.map(({ pool, effect }) => `${effect} by the fleet: ${pool}`),
      ...(applier.error === null ? [] : [`version rejected: ${applier.error.sentence}`]),
      ...this.#poolsOf(now).flatMap((pool) => notesOf(pool, orders)),
      ...(now.overrides.length === 0 ? [] : [`SET at the console: ${now.overrides.join(', ')}`]),
      ...problems.list.map(({ code, message }) => `${code}: ${message}`),
      ...(restart.length === 0 ? [] : [`needs a restart: ${restart.join(', ')}`]),
    ]
  }

  #poolsOf(snapshot: EngineSnapshot): PoolReport[] {
    const { applier, engine, now } = this.#options
    const { desiredPools: desired, error } = applier
    return this.#pools.of(snapshot, { desired, error, operated: engine.operated, nowMs: now().getTime() })
  }
}

/** What the fleet has ordered is told once, not for each pool. */
function notesOf({ pool, user, serving, operated = [] }: PoolReport, orders: readonly Ordered[]): string[] {
  const name = `${pool}/${user}`
  const alone = operated.filter((state) => !orders.some((order) => order.pool === pool && order.effect === state))
  return [
    ...(serving?.state === 'no' ? [`${name} does not serve since ${serving.since}: ${serving.cause}`] : []),
    ...(alone.length === 0 ? [] : [`${name} is ${alone.join(', ')}`]),
  ]
}
