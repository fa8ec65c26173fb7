import { SimulationFailure } from './checker.ts'
import type { Checker } from './checker.ts'
import type { Schedule } from './schedule.ts'

/** A world with more events than this is in an endless loop. */
const eventsMax = 2_000_000

/** Runs a world, event by event, and checks it after each. */
export class Run {
  /** Number of events so far. */
  events = 0
  readonly #schedule: Schedule
  readonly #checker: Checker
  readonly #check: () => void

  constructor(schedule: Schedule, checker: Checker, check: () => void) {
    this.#schedule = schedule
    this.#checker = checker
    this.#check = check
  }

  /** @throws SimulationFailure for every error in `steps`. */
  play(steps: () => void): void {
    try {
      steps()
    } catch (error) {
      if (error instanceof SimulationFailure) throw error
      const text = error instanceof Error ? error.message : String(error)
      const at = this.#schedule.nowMs.toFixed(3)
      throw new SimulationFailure(this.#checker.seed, `at ${at} ms: ${text}`, { cause: error })
    }
  }

  /** Runs events until `done`; false when the time ran out before. */
  until(done: () => boolean, limitMs: number): boolean {
    const untilMs = this.#schedule.nowMs + limitMs
    while (!done()) {
      if (!this.#schedule.step(untilMs)) return done()
      this.#check()
      if (++this.events > eventsMax) this.#checker.fail('an endless loop')
    }
    return true
  }

  pass(durationMs: number): void {
    this.until(() => false, durationMs)
  }
}
