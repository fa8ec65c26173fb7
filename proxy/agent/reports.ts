import { isDeepStrictEqual } from 'node:util'
import type { Report, ReportResponse } from '../../shared/wire.ts'
import { Backoff } from './backoff.ts'
import type { Waits } from './clock.ts'
import { ControlError } from './control-client.ts'
import { reasonOf, type Log } from './log.ts'
import type { Outbox } from './outbox.ts'
import { Pause } from './pause.ts'
import { poolChanges, toldPools } from './pool-reports.ts'
import type { PoolChanges, ToldPools } from './pool-reports.ts'

/** A report without events and sequence number, of all pools. */
export type ReportState = Omit<Report, 'boot' | 'seq' | 'base' | 'pools_removed' | 'events' | 'dropped_events'>

export interface ReportsOptions {
  readonly boot: string
  readonly send: (report: Report) => Promise<ReportResponse>
  readonly state: () => Promise<ReportState>
  readonly outbox: Outbox
  readonly waits: Waits
  readonly random: () => number
  readonly log: Log
  /** Control has stored a report. */
  readonly onAnswer: (answer: ReportResponse) => void
  /** Control does not know this proxy. */
  readonly onUnknown: () => void
}

/** Maximum number of events that control accepts in one report. */
const eventsPerReport = 500
/** What control holds of the pools, and the number of the report that told it. */
interface Told {
  readonly seq: number
  readonly pools: ToldPools
}

/** Delay that gathers events which occur together, such as a hundred servers lost with one database. */
const gatherMs = 20

/**
 * Reports to control what the proxy runs and which servers it lost: at once after an event, otherwise periodically. A
 * report keeps its number and content until it is acknowledged, so that one whose response was lost is not counted
 * twice. Pools that have not changed since the last acknowledged report are left out, where control has said that it
 * remembers them. While servers drain or a pool does not serve, it looks for changes more often.
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
  #intervalMs: number
  #sentAtMs = -Infinity
  /** What the unacknowledged report says of all pools. */
  #telling: ToldPools = new Map()
  /** Undefined if control needs all of them. */
  #told: Told | undefined
  /** Part of the pools will change by itself: servers drain, logins fail. */
  #unsettled = false
  #trouble: string | null = null
  #stopped = false
  #done: Promise<void> = Promise.resolve()

  constructor(options: ReportsOptions) {
    this.#options = options
    const { backoffFirstMs, backoffMaxMs, reportIntervalMs } = options.waits
    this.#intervalMs = reportIntervalMs
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

  /** Control has answered a hello: it may have lost what it knew, and says how often it wants reports. */
  greeted(intervalMs: number | undefined): void {
    this.#told = undefined
    this.#intervalMs = intervalMs ?? this.#intervalMs
    this.edge()
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

  /** Sends one report, unless there is nothing to say yet. Returns the delay before the next. */
  async #turn(): Promise<number> {
    const report = this.#unacknowledged ?? (await this.#make())
    if (report === null) return this.#waitMs()
    this.#unacknowledged = report
    this.#sentAtMs = performance.now()
    try {
      const answer = await this.#options.send(report)
      this.#acknowledged(report, answer)
    } catch (error) {
      return this.#failed(report, error)
    }
    return this.#waitMs()
  }

  #waitMs(): number {
    const leftMs = Math.max(0, this.#sentAtMs + this.#intervalMs - performance.now())
    return this.#unsettled ? Math.min(leftMs, this.#options.waits.drainingReportMs) : leftMs
  }

  /** Null before the next one is due, if no pool has changed. */
  async #make(): Promise<Report | null> {
    const { boot, outbox, state } = this.#options
    const isDue = this.#due || this.#stopped || performance.now() >= this.#sentAtMs + this.#intervalMs
    this.#due = false
    const now = await state()
    this.#unsettled = now.pools.some((pool) => pool.draining_servers > 0 || pool.serving?.state === 'no')
    const told = this.#told
    const changes = told === undefined ? null : poolChanges(told.pools, now.pools)
    if (!isDue && changes !== null && isDeepStrictEqual(changes, noChanges)) return null
    this.#seq += 1
    this.#telling = toldPools(now.pools)
    const events = outbox.oldest(this.#eventsMax)
    return {
      boot,
      seq: this.#seq,
      ...now,
      ...(told === undefined || changes === null
        ? {}
        : { base: told.seq, pools: [...changes.changed], pools_removed: [...changes.removed] }),
      events: [...events],
      dropped_events: outbox.droppedEvents,
    }
  }

  #acknowledged(report: Report, answer: ReportResponse): void {
    const { outbox, log, onAnswer } = this.#options
    this.#unacknowledged = undefined
    this.#eventsMax = eventsPerReport
    this.#backoff.reset()
    if (this.#trouble !== null) log('info', 'reporting to control works again', { waiting_events: outbox.size })
    this.#trouble = null
    outbox.remove(new Set(report.events.map(({ id }) => id)))
    this.#told = answer.pools === 'changed' ? { seq: report.seq, pools: this.#telling } : undefined
    this.#intervalMs = answer.report_interval_ms ?? this.#intervalMs
    // Control does not know the report that this one was about.
    const isMissing = report.base !== undefined && answer.pools !== 'changed'
    if (outbox.size > 0 || isMissing) this.#due = true
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
    this.#told = undefined
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

const noChanges: PoolChanges = { changed: [], removed: [] }
