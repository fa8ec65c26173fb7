import type { PreflightRule } from '../../port.ts'
import type { FleetSpec, PoolVerdict, PreflightOutcome } from '../../spec.ts'
import type { Context } from '../pool/context.ts'
import type { Pools } from '../pool/pools.ts'
import { AuthTrial } from './auth-trial.ts'
import { identityOf, planOf } from './plan.ts'
import type { Item, Subject } from './plan.ts'
import { Reach } from './reach.ts'
import { TrialLogin } from './trial-login.ts'
import { Addresses } from './verdict.ts'
import type { Attempt, Verdict } from './verdict.ts'

export interface PreflightOptions {
  readonly spec: FleetSpec
  readonly rule: PreflightRule
  /** Maximum number of attempts at a time. */
  readonly atOnce: number
  readonly done: (outcome: PreflightOutcome) => void
}

type Findings = Record<'refused' | 'failing' | 'unknown', PoolVerdict[]>

/** An attempt that waits for its turn, or is made, and the items that want its verdict. */
interface Tried {
  readonly subject: Subject
  /** Whether the running settings are tried. */
  readonly isRunning: boolean
  /** Its server is needed after the swap; those of pools without clients would fill a host with many of them. */
  readonly keeps: boolean
  readonly awaiting: ((verdict: Verdict) => void)[]
  verdict: Verdict | null
}

/**
 * Shows whether a version would serve, before anything that runs has changed. Where a pool would not, its running settings
 * are tried too: what does not serve now has nothing to lose, and the version may be the repair.
 *
 *   new settings   running settings      guard     require
 *   serve                                applied   applied
 *   unknown                              applied   applied
 *   fail           serve, or unknown     refused   refused
 *   fail           fail, or starting     applied   refused
 *   fail           there are none        applied   refused
 */
export class Preflight {
  readonly #context: Context
  readonly #pools: Pools
  readonly #options: PreflightOptions
  /** What is known of addresses, apart for either: a login may take long by its own settings. */
  readonly #addresses = { next: new Addresses(), running: new Addresses() }
  readonly #tried = new Map<string, Tried>()
  readonly #line: Tried[] = []
  readonly #attempts = new Set<Attempt>()
  readonly #findings: Findings = { refused: [], failing: [], unknown: [] }
  #attemptCount = 0
  /** Attempts in progress. */
  #active = 0
  /** Items without a verdict. */
  #open = 0
  #isDone = false

  constructor(context: Context, pools: Pools, options: PreflightOptions) {
    this.#context = context
    this.#pools = pools
    this.#options = options
    for (const item of planOf({ pools, self: context.workers?.self ?? 0 }, options.spec)) this.#begin(item)
    this.#continue()
  }

  #begin(item: Item): void {
    this.#open++
    this.#try(item.subject, { isRunning: false, keeps: item.needsServer }, (verdict) => {
      if (verdict.kind !== 'fails') this.#settle(item, verdict)
      else if (this.#options.rule === 'require') this.#note('refused', item, verdict.text)
      else this.#tryRunning(item, verdict.text, 0)
    })
  }

  /** The version would end what the running settings serve, if they do. */
  #tryRunning(item: Item, text: string, at: number): void {
    const subject = item.running[at]
    if (subject === undefined) {
      this.#note('failing', item, text)
      return
    }
    this.#try(subject, { isRunning: true, keeps: false }, (verdict) => {
      const serves = verdict.kind === 'serves' || (verdict.kind === 'unknown' && !verdict.isStarting)
      if (serves) this.#note('refused', item, text)
      else this.#tryRunning(item, text, at + 1)
    })
  }

  #settle(item: Item, verdict: Exclude<Verdict, { kind: 'fails' }>): void {
    if (verdict.kind === 'unknown') this.#note('unknown', item, verdict.text)
    else this.#open--
  }

  #note(kind: keyof Findings, { pools }: Item, message: string): void {
    this.#open--
    this.#findings[kind].push(...pools.map((pool) => ({ ...pool, message })))
  }

  /** Each identity is tried once. */
  #try(subject: Subject, how: Pick<Tried, 'isRunning' | 'keeps'>, report: (verdict: Verdict) => void): void {
    const identity = identityOf(subject)
    const known = this.#tried.get(identity)
    if (known !== undefined && known.verdict !== null) {
      report(known.verdict)
      return
    }
    if (known !== undefined) {
      known.awaiting.push(report)
      return
    }
    const tried: Tried = { subject, ...how, awaiting: [report], verdict: null }
    this.#tried.set(identity, tried)
    // First, so that the answer is about the same moment.
    if (how.isRunning) this.#line.unshift(tried)
    else this.#line.push(tried)
  }

  #continue(): void {
    if (this.#isDone) return
    // One pool decides for the version: the rest would be logins for nothing.
    const isDecided = this.#findings.refused.length > 0
    const free = isDecided ? 0 : this.#options.atOnce - this.#active
    for (const tried of this.#line.splice(0, free)) this.#attempt(tried)
    if (this.#active > 0) return
    if (!isDecided && this.#open > 0) return
    this.#conclude()
  }

  #conclude(): void {
    if (this.#isDone) return
    this.#isDone = true
    this.#options.done({ ...this.#findings, attempts: this.#attemptCount })
  }

  #attempt(tried: Tried): void {
    this.#active++
    this.#attemptCount++
    const attempt = this.#attemptOf(tried, (verdict) => {
      this.#active--
      tried.verdict = verdict
      if (!tried.keeps) {
        attempt.end()
        this.#attempts.delete(attempt)
      }
      for (const report of tried.awaiting.splice(0)) report(verdict)
      this.#continue()
    })
    this.#attempts.add(attempt)
  }

  #attemptOf({ subject, isRunning }: Tried, report: (verdict: Verdict) => void): Attempt {
    const { spec } = subject
    const addresses = isRunning ? this.#addresses.running : this.#addresses.next
    switch (subject.kind) {
      case 'login':
        return new TrialLogin(this.#pools.sourceOf(subject.source), spec, addresses, report)
      case 'reach':
        return new Reach(this.#context, spec, addresses, report)
      case 'auth_query':
        return new AuthTrial(this.#context, spec, addresses, report)
      default:
        return subject satisfies never
    }
  }

  /** Closes what no source has taken over. Attempts in progress are given up. */
  end(): void {
    this.#conclude()
    for (const attempt of this.#attempts) attempt.end()
    this.#attempts.clear()
  }
}
