import type { EngineSnapshot, PoolSnapshot } from '../snapshot.ts'
import type { PoolHash } from '../../shared/config/effective.ts'
import { wildcard } from '../../shared/config/wildcard.ts'
import type { PoolReport, Report, ReportResponse } from '../../shared/wire.ts'
import { Backoff } from './backoff.ts'
import type { Waits } from './clock.ts'
import { ControlError } from './control-client.ts'
import type { ApplyError } from './failure.ts'
import { reasonOf, type Log } from './log.ts'
import type { Outbox } from './outbox.ts'
import { Pause } from './pause.ts'

/** A report without events and sequence number. */
export type ReportState = Omit<Report, 'boot' | 'seq' | 'events' | 'dropped_events'>

export interface ReportsOptions {
  readonly boot: string
  readonly send: (report: Report) => Promise<ReportResponse>
  readonly state: () => Promise<ReportState>
  readonly outbox: Outbox
  readonly waits: Waits
  readonly random: () => number
  readonly log: Log
  readonly onAnswer: (answer: ReportResponse) => void
  /** Control does not know this proxy. */
  readonly onUnknown: () => void
}

/** Maximum number of events that control accepts in one report. */
const eventsPerReport = 500
/** Delay that gathers events which occur together, such as a hundred servers lost with one database. */
const gatherMs = 20

/**
 * Reports to control what the proxy runs and which servers it lost: at once after an event, otherwise periodically. A
 * report keeps its number and content until it is acknowledged, so that one whose response was lost is not counted
 * twice.
 */
export class Reports {
  readonly #options: ReportsOptions
  readonly #backoff: Backoff
  #seq = 0
  /** Sent, or about to be, and not acknowledged. */
  #unacknowledged: Report | undefined
  #eventsMax = eventsPerReport
  #due = true
  readonly #pause = new Pause()
  #draining = false
  #trouble: string | null = null
  #stopped = false
  #done: Promise<void> = Promise.resolve()

  constructor(options: ReportsOptions) {
    this.#options = options
    const { backoffFirstMs, backoffMaxMs } = options.waits
    this.#backoff = new Backoff({ firstMs: backoffFirstMs, maxMs: backoffMaxMs, random: options.random })
  }

  start(): void {
    this.#done = this.#run()
  }

  /** Something happened that control should know at once. */
  edge(): void {
    this.#due = true
    // While control is unreachable, events wait for the next attempt.
    if (this.#trouble === null) this.#pause.end()
  }

  /** Control answered another request, so it may be reachable again. */
  hurry(): void {
    if (this.#trouble !== null) this.#pause.end()
  }

  /** Stops reporting, after one last report if events wait and control accepts it. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#pause.end()
    await this.#done
    if (this.#trouble === null && (this.#due || this.#options.outbox.size > 0)) await this.#turn()
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      await this.#wait(gatherMs)
      if (this.#stopped) return
      const waitMs = await this.#turn()
      if (!this.#due || this.#trouble !== null) await this.#wait(waitMs)
    }
  }

  /** Sends one report. Returns the delay before the next. */
  async #turn(): Promise<number> {
    const report = this.#unacknowledged ?? (await this.#make())
    this.#unacknowledged = report
    try {
      const answer = await this.#options.send(report)
      this.#acknowledged(report, answer)
    } catch (error) {
      return this.#failed(report, error)
    }
    const { reportIntervalMs, drainingReportMs } = this.#options.waits
    return this.#draining ? drainingReportMs : reportIntervalMs
  }

  async #make(): Promise<Report> {
    const { boot, outbox, state } = this.#options
    this.#due = false
    const now = await state()
    this.#draining = now.pools.some((pool) => pool.draining_servers > 0)
    this.#seq += 1
    const events = outbox.oldest(this.#eventsMax)
    return { boot, seq: this.#seq, ...now, events: [...events], dropped_events: outbox.droppedEvents }
  }

  #acknowledged(report: Report, answer: ReportResponse): void {
    const { outbox, log, onAnswer } = this.#options
    this.#unacknowledged = undefined
    this.#eventsMax = eventsPerReport
    this.#backoff.reset()
    if (this.#trouble !== null) log('info', 'reporting to control works again', { waiting_events: outbox.size })
    this.#trouble = null
    outbox.remove(new Set(report.events.map(({ id }) => id)))
    if (outbox.size > 0) this.#due = true
    onAnswer(answer)
  }

  #failed(report: Report, error: unknown): number {
    const { log, onUnknown } = this.#options
    const fault = error instanceof ControlError ? error.fault : null
    const reason = reasonOf(error)
    if (this.#trouble !== reason) log('warn', 'could not report to control; events wait', { fault, reason })
    this.#trouble = reason
    if (fault === 'missing') onUnknown()
    if (fault === 'refused') this.#giveWay(report)
    const retryAfterMs = error instanceof ControlError ? error.retryAfterMs : null
    if (retryAfterMs !== null) return retryAfterMs
    return fault === 'forbidden' ? this.#options.waits.refusedPollMs : this.#backoff.next()
  }

  /**
   * Control will never accept this report. If one event is the cause, smaller reports find it, and it is dropped, so
   * that it does not block the others.
   */
  #giveWay(report: Report): void {
    const { outbox, log } = this.#options
    this.#unacknowledged = undefined
    const [only] = report.events
    if (report.events.length === 1 && only !== undefined) {
      log('error', 'control rejects an event; it is dropped', { id: only.id })
      outbox.drop(only.id)
    }
    this.#eventsMax = Math.max(1, Math.floor(report.events.length / 2))
    this.#due = true
  }

  async #wait(ms: number): Promise<void> {
    if (!this.#stopped) await this.#pause.wait(ms)
  }
}

/** One line for each pool that runs, drains or is desired; pools created for "*" are counted in its line. */
export function poolReports(
  snapshot: EngineSnapshot,
  desired: readonly PoolHash[],
  error: ApplyError | null,
): PoolReport[] {
  const keyOf = ({ pool, user }: { pool: string; user: string }): string => JSON.stringify([pool, user])
  const wanted = new Map(desired.map((pool) => [keyOf(pool), pool.hash]))
  const present = new Set(snapshot.pools.map(keyOf))
  // Without their "*", draining pools have lines of their own.
  const made = Map.groupBy(snapshot.pools, ({ template }) =>
    template !== undefined && present.has(keyOf(template)) ? keyOf(template) : null,
  )
  const own = (made.get(null) ?? []).filter(({ sharedServers }) => sharedServers !== true)
  const running = new Map(own.map((pool) => [keyOf(pool), withMade(pool, made.get(keyOf(pool)) ?? [])]))
  const names = [...running.values(), ...desired.filter((pool) => !running.has(keyOf(pool)))]
  return names.map(({ pool, user }) => {
    const now = running.get(keyOf({ pool, user }))
    const desiredHash = wanted.get(keyOf({ pool, user })) ?? null
    const failure = desiredHash === now?.hash ? null : (error?.about(pool, user) ?? null)
    return {
      pool,
      user,
      hash: now?.hash ?? null,
      desired_hash: desiredHash,
      state: failure === null ? calmState(now) : 'failed',
      draining_servers: now?.serversDraining ?? 0,
      ...(isWildcard(pool, user) ? { dynamic_pools: made.get(keyOf({ pool, user }))?.length ?? 0 } : {}),
      ...told(failure, now?.overridden === true ? snapshot.overrides : []),
    }
  })
}

/** What operators should know about the pool. */
function told(failure: ApplyError | null, overrides: readonly string[]): Pick<PoolReport, 'code' | 'message'> {
  if (failure !== null) return { code: failure.code, message: failure.message }
  if (overrides.length === 0) return { code: null, message: null }
  return { code: 'overridden', message: `SET at the proxy's console: ${overrides.join(', ')}` }
}

/** Draining servers of pools created for "*" count for it. */
function withMade(pool: PoolSnapshot, made: readonly PoolSnapshot[]): PoolSnapshot {
  const serversDraining = made.reduce((sum, one) => sum + one.serversDraining, pool.serversDraining)
  return { ...pool, serversDraining }
}

function isWildcard(pool: string, user: string): boolean {
  return pool === wildcard || user === wildcard
}

function calmState(pool: PoolSnapshot | undefined): 'running' | 'draining' {
  return pool !== undefined && pool.serversDraining > 0 ? 'draining' : 'running'
}
