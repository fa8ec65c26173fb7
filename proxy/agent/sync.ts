import { comparePositions } from '../../shared/position.ts'
import type { Hint, HelloRequest, HelloResponse, Manifest } from '../../shared/wire.ts'
import type { Applier, Candidate } from './applier.ts'
import { Backoff, jittered } from './backoff.ts'
import type { Waits } from './clock.ts'
import { ControlError, type ControlClient, type Polled } from './control-client.ts'
import { reasonOf, type Log } from './log.ts'
import { Pause } from './pause.ts'

export interface SyncOptions {
  readonly control: Pick<ControlClient, 'hello' | 'manifest'>
  readonly applier: Applier
  readonly hello: () => HelloRequest
  readonly onHello: (answer: HelloResponse) => void
  /** Control ended a parked poll to get a report: what failed has been retried, and control wants a report. */
  readonly onAsked: () => void
  /**
   * Called with each offer before it becomes a candidate, and with null when control does not answer or has nothing that
   * is new.
   */
  readonly onHeard: (manifest: Manifest | null) => Promise<void>
  /** Control rejects the token. */
  readonly onForbidden: () => void
  readonly candidate: (manifest: Manifest, etag: string | null) => Candidate
  /** Control reaches this proxy with hints; otherwise polls are parked. */
  readonly parksPolls: boolean
  readonly waits: Waits
  readonly random: () => number
  readonly log: Log
}

/** Maximum time that control parks a poll. */
const parkedMaxS = 25
/** A proxy must not look offline while its poll is parked: control tolerates three poll intervals and ten seconds. */
const parkedPolls = 3
/** Minimum between two polls, whatever control answers. */
const gapMs = 50

/**
 * Keeps a proxy at the version that control offers: says hello, polls, and makes offers candidates. There is one poll
 * at a time. A hint, RELOAD or SIGHUP only makes the next poll immediate.
 */
export class Sync {
  readonly #options: SyncOptions
  readonly #backoff: Backoff
  #pollIntervalMs: number
  /** ETag of the last offer, applied or rejected. */
  #etag: string | null = null
  /** Body format as agreed with the control that answered the last hello. */
  #format = 1
  #greeted = false
  /** Control has answered a poll of this process. */
  #answered = false
  /** Callers waiting for a poll that begins after their call. */
  #waiting: ((error: string | null) => void)[] = []
  readonly #pause = new Pause()
  /** Ends the wait for a version to be applied. */
  #leave: (() => void) | undefined
  #parked: AbortController | undefined
  /** The last error logged, so that a persistent one is logged once. */
  #trouble: string | null = null
  #stopped = false

  constructor(options: SyncOptions) {
    this.#options = options
    this.#pollIntervalMs = options.waits.pollIntervalMs
    const { backoffFirstMs, backoffMaxMs } = options.waits
    this.#backoff = new Backoff({ firstMs: backoffFirstMs, maxMs: backoffMaxMs, random: options.random })
  }

  /** Call before `run`: the offer of the last run is not requested again. */
  startFrom(etag: string | null): void {
    this.#etag = etag
  }

  /** What is on disk cannot be used: the next poll, made now, requests the whole offer. */
  startOver(): void {
    this.#etag = null
    this.#parked?.abort()
    this.#pause.end()
  }

  /** Polls until `stop`, at once at first. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      const answered = this.#waiting
      this.#waiting = []
      const waitMs = await this.#turn(answered)
      if (this.#waiting.length === 0) await this.#wait(waitMs)
    }
    for (const answer of this.#waiting) answer('the proxy is shutting down')
  }

  /**
   * Polls now, and retries what failed. Resolves with null if the proxy runs the desired version, otherwise with the
   * reason for an operator.
   */
  async pollNow(): Promise<string | null> {
    if (this.#stopped) return 'the proxy is shutting down'
    const { promise, resolve } = Promise.withResolvers<string | null>()
    this.#waiting.push(resolve)
    this.#parked?.abort()
    this.#pause.end()
    return await promise
  }

  /** A repeated or late hint has no effect: its version is known already. */
  async hint(hint: Hint): Promise<void> {
    const { applier } = this.#options
    const old = applier.error === null && comparePositions(hint, applier.offered) <= 0
    if (hint.reason === 'version' && old) return
    await this.pollNow()
  }

  /** Control does not know this proxy any more: says hello with the next poll. */
  greetAgain(): void {
    this.#greeted = false
  }

  /** The content of hello has changed: says hello now instead of after a parked poll. */
  greetNow(): void {
    this.#greeted = false
    this.#parked?.abort()
    this.#pause.end()
  }

  /** The version that was offered is being tried: polls go on, because control may offer one that mends it. */
  goOn(): void {
    this.#leave?.()
  }

  setPollInterval(ms: number): void {
    this.#pollIntervalMs = ms
  }

  stop(): void {
    this.#stopped = true
    this.#parked?.abort()
    this.#pause.end()
  }

  /** Polls once, and answers `callers` when what was offered is applied or refused. Resolves with the time to wait. */
  async #turn(callers: readonly ((error: string | null) => void)[]): Promise<number> {
    const startedAtMs = performance.now()
    const asked = callers.length > 0
    const answer = (error: string | null): void => {
      for (const caller of callers) caller(error)
    }
    try {
      if (!this.#greeted) await this.#greet()
      const polled = await this.#poll(asked)
      this.#recovered()
      const taken = this.#take(polled, asked).catch((error: unknown) => this.#failed(error).error)
      void taken.then(answer)
      await this.#heed(taken)
      const tookMs = performance.now() - startedAtMs
      // After control ended a parked poll, or before a hello, the next poll is immediate, so that it is parked again soon.
      const atOnce = !this.#greeted || isAsked(polled)
      const waitMs = atOnce ? gapMs : Math.max(jittered(this.#pollIntervalMs, this.#options.random) - tookMs, gapMs)
      return waitMs
    } catch (error) {
      const isGivenUp = error instanceof ControlError && error.fault === 'given_up'
      if (!isGivenUp) await this.#options.onHeard(null)
      const failed = isGivenUp ? { error: reasonOf(error), waitMs: gapMs } : this.#failed(error)
      answer(failed.error)
      return failed.waitMs
    }
  }

  /** Waits for a version to be applied or refused, or to be tried, which takes as long as logins to servers. */
  async #heed(taken: Promise<unknown>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#leave = resolve
    await Promise.race([taken, promise])
    this.#leave = undefined
  }

  async #greet(): Promise<void> {
    const { control, hello, onHello, log } = this.#options
    // Set before the request: if the content of hello changes during the request, hello is sent again.
    this.#greeted = true
    try {
      const answer = await control.hello(hello())
      this.#pollIntervalMs = answer.poll_interval_ms
      this.#format = answer.body_format ?? 1
      onHello(answer)
    } catch (error) {
      if (!(error instanceof ControlError) || error.fault !== 'refused') throw error
      // Something in hello is invalid, such as the hint URL; this must not block new versions.
      log('error', 'control rejected hello; continuing without hints', { reason: error.message })
    }
  }

  async #poll(asked: boolean): Promise<Polled> {
    const { control, parksPolls } = this.#options
    // Not parked: the first poll, and polls that a caller waits for.
    const isHurried = asked || this.#waiting.length > 0 || !this.#greeted || !this.#answered || this.#stopped
    const parks = parksPolls && this.#etag !== null && !isHurried
    if (!parks) return await control.manifest(this.#etag, this.#format)
    const waitS = Math.min(Math.ceil((parkedPolls * this.#pollIntervalMs) / 1000), parkedMaxS)
    this.#parked = new AbortController()
    try {
      return await control.manifest(this.#etag, this.#format, { waitS, signal: this.#parked.signal })
    } finally {
      this.#parked = undefined
    }
  }

  /** Why the proxy does not run the desired version; null if it does. */
  async #take(polled: Polled, asked: boolean): Promise<string | null> {
    const { applier, candidate, onAsked, onHeard } = this.#options
    this.#answered = true
    await onHeard(polled.kind === 'offered' ? polled.manifest : null)
    switch (polled.kind) {
      case 'offered': {
        this.#etag = polled.etag
        const refused = await applier.apply(candidate(polled.manifest, polled.etag))
        return refused?.sentence ?? null
      }
      case 'unchanged': {
        const refused = asked || polled.isAsked ? await applier.retry() : applier.error
        if (polled.isAsked) onAsked()
        return refused?.sentence ?? null
      }
      case 'none':
        return 'the fleet has no configuration yet'
      default:
        return polled satisfies never
    }
  }

  #failed(error: unknown): { error: string; waitMs: number } {
    const reason = reasonOf(error)
    const fault = error instanceof ControlError ? error.fault : null
    if (this.#trouble !== reason) this.#options.log('warn', troubleText[fault ?? 'none'], { fault, reason })
    this.#trouble = reason
    if (fault === 'forbidden') this.#options.onForbidden()
    // Control may have been restored and lost this proxy.
    this.#greeted = false
    return { error: reason, waitMs: this.#waitAfter(error) }
  }

  #waitAfter(error: unknown): number {
    const { waits, random } = this.#options
    if (!(error instanceof ControlError)) return this.#backoff.next()
    if (error.retryAfterMs !== null) return error.retryAfterMs
    if (error.fault === 'forbidden') return jittered(waits.refusedPollMs, random)
    // The fleet or its first version may be created at any moment.
    if (error.fault === 'missing') return jittered(this.#pollIntervalMs, random)
    return this.#backoff.next()
  }

  #recovered(): void {
    this.#backoff.reset()
    if (this.#trouble !== null) this.#options.log('info', 'control is reachable again')
    this.#trouble = null
  }

  async #wait(ms: number): Promise<void> {
    if (!this.#stopped) await this.#pause.wait(ms)
  }
}

function isAsked(polled: Polled): boolean {
  return polled.kind === 'unchanged' && polled.isAsked
}

const troubleText = {
  unreachable: 'control is unreachable; the running version stays',
  forbidden: 'control rejected the token; the running version stays',
  missing: 'control does not know the fleet; the running version stays',
  refused: 'control rejected the poll; the running version stays',
  failing: 'control returned an error; the running version stays',
  garbled: 'control sent an invalid response; the running version stays',
  given_up: 'a poll was aborted',
  none: 'internal error while polling; the running version stays',
} as const
