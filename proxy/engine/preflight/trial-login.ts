import { causes } from '../../../shared/causes.ts'
import type { Timer } from '../../io/io.ts'
import type { PoolSpec } from '../../spec.ts'
import type { LimitedSource } from '../pool/limits.ts'
import type { LoginFailure, ServerSet, Trial } from '../pool/server-set.ts'
import type { ServerSource } from '../pool/server-source.ts'
import type { Target } from '../pool/target.ts'
import { Round } from './verdict.ts'
import type { Addresses, Attempt, Verdict } from './verdict.ts'

/**
 * One login with the settings of a server set. It counts under the limits that sources share, where it stands in line like
 * a client that waits. The server that logged in stays in its server set, which may become the source's current one.
 */
export class TrialLogin implements Attempt, Trial, LimitedSource {
  readonly database: string
  readonly serverUser: string
  readonly slots: LimitedSource['slots']
  readonly hasWaiting = true
  readonly #source: ServerSource
  readonly #serverSet: ServerSet
  readonly #round: Round
  readonly #report: (verdict: Verdict) => void
  readonly #beganMs: number
  readonly #roomTimer: Timer
  #target: Target | null = null
  #waits = false
  #over = false

  constructor(source: ServerSource, spec: PoolSpec, addresses: Addresses, report: (verdict: Verdict) => void) {
    const { io } = source.context
    this.database = source.database
    this.serverUser = source.serverUser
    this.slots = source.slots
    this.#source = source
    this.#serverSet = source.tryOut(spec, this)
    this.#round = new Round(this.#serverSet.targets, addresses)
    this.#report = report
    this.#beganMs = io.nowMs()
    this.#roomTimer = io.after(spec.settings.connectTimeoutMs, () => {
      if (this.#waits) this.#giveUp('there was no room for a server under the limits that pools share')
    })
    // An attempt reports in another turn of the loop.
    io.after(0, () => this.#begin())
  }

  #begin(): void {
    const { paused, context } = this.#source
    if (paused || context.suspended || context.stopping) this.#giveUp('no server is opened while paused')
    else this.#next()
  }

  #next(): void {
    if (this.#over) return
    this.#target = this.#round.next()
    if (this.#target === null) {
      const { serverUser, serverDatabase } = this.#serverSet.spec
      this.#conclude(this.#round.verdict(`a login as ${serverUser} to database ${serverDatabase}`))
    } else this.#waits = !this.#serverSet.tryTarget(this.#target, this)
  }

  // As one that waits for room

  get current(): ServerSet {
    return this.#serverSet
  }

  get maxWaitMs(): number {
    return Math.max(0, this.#source.context.io.nowMs() - this.#beganMs)
  }

  *servers(): Generator<never> {
    // They are among those of the real source.
  }

  grow(): void {
    if (this.#waits) this.#next()
  }

  // What becomes of the login

  passed(): void {
    if (this.#over || this.#target === null) return
    this.#stop()
    this.#report(this.#round.serves(this.#target))
  }

  failed(failure: LoginFailure): void {
    if (this.#over || this.#target === null) return
    if (causes[failure.cause].planned) {
      this.#giveUp(causes[failure.cause].help)
      return
    }
    this.#round.failed(this.#target, failure)
    this.#next()
  }

  #giveUp(text: string): void {
    this.#conclude({ kind: 'unknown', text, isStarting: false })
  }

  #conclude(verdict: Verdict): void {
    if (this.#over) return
    this.end()
    this.#report(verdict)
  }

  #stop(): void {
    this.#over = true
    this.#waits = false
    this.#roomTimer.cancel()
    this.#source.context.limits.withdraw(this)
  }

  end(): void {
    this.#stop()
    this.#source.endTrial(this.#serverSet)
  }
}
