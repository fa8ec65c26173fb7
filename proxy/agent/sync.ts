import { comparePositions } from '../../shared/position.ts'
import type { Hint, HelloRequest, HelloResponse, Manifest } from '../../shared/wire.ts'
import type { Applier, Candidate } from './applier.ts'
import { Backoff, jittered } from './backoff.ts'
import type { Waits } from './clock.ts'
import { ControlError, type ControlClient, type Polled } from './control-client.ts'
import { reasonOf, type Log } from './log.ts'

export interface SyncOptions {
  readonly control: Pick<ControlClient, 'hello' | 'manifest'>
  readonly applier: Applier
  readonly hello: () => HelloRequest
  readonly onHello: (answer: HelloResponse) => void
  /** Control asked by a parked poll how the proxy stands, and what failed has been tried again. */
  readonly onAsked: () => void
  readonly candidate: (manifest: Manifest, etag: string | null) => Candidate
  /** Control asks hints of this proxy to reach it; where they cannot, it asks control to hold its polls instead. */
  readonly parksPolls: boolean
  readonly waits: Waits
  readonly random: () => number
  readonly log: Log
}

/** Control answers a parked poll after this long at the latest. */
const parkedMaxS = 25
/** A proxy must not look absent while its poll is parked: control gives it three polls and ten seconds. */
const parkedPolls = 3
/** Between two polls, whatever control answers. */
const gapMs = 50

/**
 * Keeps a proxy at the version control offers: says hello, polls, and makes what is offered a candidate. There is one
 * poll at a time. A hint, RELOAD or SIGHUP only makes the next poll come at once.
 */
export class Sync {
  readonly #options: SyncOptions
  readonly #backoff: Backoff
  #pollIntervalMs: number
  /** What was last offered, applied or refused. */
  #etag: string | null = null
  #greeted = false
  /** Those who asked for a poll that begins after they asked. */
  #waiting: ((error: string | null) => void)[] = []
  #endWait: (() => void) | undefined
  #parked: AbortController | undefined
  /** The trouble that was last logged, so that a long one is logged once. */
  #trouble: string | null = null
  #stopped = false

  constructor(options: SyncOptions) {
    this.#options = options
    this.#pollIntervalMs = options.waits.pollIntervalMs
    const { backoffFirstMs, backoffMaxMs } = options.waits
    this.#backoff = new Backoff({ firstMs: backoffFirstMs, maxMs: backoffMaxMs, random: options.random })
  }

  /** What hinders the proxy from reaching control; null when the last poll was answered. */
  get trouble(): string | null {
    return this.#trouble
  }

  /** Before `run`: what was offered in the last run of this proxy needs no second offer. */
  startFrom(etag: string | null): void {
    this.#etag = etag
  }

  /** Polls until `stop`. The first poll begins at once. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      const answered = this.#waiting
      this.#waiting = []
      const { error, waitMs } = await this.#turn(answered.length > 0)
      for (const answer of answered) answer(error)
      if (this.#waiting.length === 0) await this.#wait(waitMs)
    }
    for (const answer of this.#waiting) answer('the proxy is shutting down')
  }

  /**
   * Polls now, and tries again what failed. Resolves with null when the proxy runs what control wants, else with the
   * reason as a person reads it.
   */
  async pollNow(): Promise<string | null> {
    if (this.#stopped) return 'the proxy is shutting down'
    const { promise, resolve } = Promise.withResolvers<string | null>()
    this.#waiting.push(resolve)
    this.#parked?.abort()
    this.#endWait?.()
    return await promise
  }

  /** A repeated or late hint costs nothing: what it announces is known already, and is not in trouble. */
  async hint(hint: Hint): Promise<void> {
    const { applier } = this.#options
    const old = applier.error === null && comparePositions(hint, applier.offered) <= 0
    if (hint.reason === 'version' && old) return
    await this.pollNow()
  }

  /** Control no longer knows this proxy: introduces it with the next poll. */
  greetAgain(): void {
    this.#greeted = false
  }

  /** What the introduction says has changed: says it anew now, not after a poll that may be parked for long. */
  greetNow(): void {
    this.#greeted = false
    this.#parked?.abort()
    this.#endWait?.()
  }

  setPollInterval(ms: number): void {
    this.#pollIntervalMs = ms
  }

  stop(): void {
    this.#stopped = true
    this.#parked?.abort()
    this.#endWait?.()
  }

  async #turn(asked: boolean): Promise<{ error: string | null; waitMs: number }> {
    const startedAtMs = performance.now()
    try {
      if (!this.#greeted) await this.#greet()
      const polled = await this.#poll(asked)
      this.#recovered()
      const refused = await this.#take(polled, asked)
      const tookMs = performance.now() - startedAtMs
      // Asked by control, or with an introduction to make: polls again at once, so that it is soon parked again.
      const atOnce = !this.#greeted || isAsked(polled)
      const waitMs = atOnce ? gapMs : Math.max(jittered(this.#pollIntervalMs, this.#options.random) - tookMs, gapMs)
      return { error: refused, waitMs }
    } catch (error) {
      if (error instanceof ControlError && error.fault === 'given_up') return { error: reasonOf(error), waitMs: gapMs }
      return this.#failed(error)
    }
  }

  async #greet(): Promise<void> {
    const { control, hello, onHello, log } = this.#options
    // Before the request: an introduction that changes while this one is on its way is made again.
    this.#greeted = true
    try {
      const answer = await control.hello(hello())
      this.#pollIntervalMs = answer.poll_interval_ms
      onHello(answer)
    } catch (error) {
      if (!(error instanceof ControlError) || error.fault !== 'refused') throw error
      // Something in the introduction is wrong, the hint URL perhaps; that must not keep new versions away.
      log('error', 'control refuses the introduction; going on without hints', { reason: error.message })
    }
  }

  async #poll(asked: boolean): Promise<Polled> {
    const { control, parksPolls } = this.#options
    // Not parked: the first poll, and one whose answer somebody waits for or has asked for since this turn began.
    const isHurried = asked || this.#waiting.length > 0 || !this.#greeted || this.#stopped
    const parks = parksPolls && this.#etag !== null && !isHurried
    if (!parks) return await control.manifest(this.#etag)
    const waitS = Math.min(Math.ceil((parkedPolls * this.#pollIntervalMs) / 1000), parkedMaxS)
    this.#parked = new AbortController()
    try {
      return await control.manifest(this.#etag, { waitS, signal: this.#parked.signal })
    } finally {
      this.#parked = undefined
    }
  }

  /** Why the proxy does not run what control wants; null when it does. */
  async #take(polled: Polled, asked: boolean): Promise<string | null> {
    const { applier, candidate, onAsked } = this.#options
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
    // A control that was away may have lost what it knew of this proxy.
    this.#greeted = false
    return { error: reason, waitMs: this.#waitAfter(error) }
  }

  #waitAfter(error: unknown): number {
    const { waits, random } = this.#options
    if (!(error instanceof ControlError)) return this.#backoff.next()
    if (error.retryAfterMs !== null) return error.retryAfterMs
    if (error.fault === 'forbidden') return jittered(waits.refusedPollMs, random)
    // The fleet may be made, or get its first version, at any moment.
    if (error.fault === 'missing') return jittered(this.#pollIntervalMs, random)
    return this.#backoff.next()
  }

  #recovered(): void {
    this.#backoff.reset()
    if (this.#trouble !== null) this.#options.log('info', 'control answers again')
    this.#trouble = null
  }

  async #wait(ms: number): Promise<void> {
    if (this.#stopped) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#endWait = resolve
    const timer = setTimeout(resolve, ms)
    await promise
    clearTimeout(timer)
    this.#endWait = undefined
  }
}

function isAsked(polled: Polled): boolean {
  return polled.kind === 'unchanged' && polled.isAsked
}

const troubleText = {
  unreachable: 'control cannot be reached; what runs goes on',
  forbidden: 'control refuses the token; what runs goes on',
  missing: 'control does not know the fleet; what runs goes on',
  refused: 'control refuses to answer; what runs goes on',
  failing: 'control cannot answer now; what runs goes on',
  garbled: 'control answers what cannot be understood; what runs goes on',
  given_up: 'a poll was given up',
  none: 'a poll failed by a fault of the proxy; what runs goes on',
} as const
