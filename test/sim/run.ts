import { SimulationFailure } from './checker.ts'
import type { Checker } from './checker.ts'
import type { Schedule } from './schedule.ts'

/** A world that needs more events than these turns in circles. */
const eventsMax = 2_000_000

/** The course of a world's time: one event after the other, and a look at everything after each. */
export class Run {
  /** So far. */
  events = 0
  readonly #schedule: Schedule
  readonly #checker: Checker
  readonly #look: () => void

  constructor(schedule: Schedule, checker: Checker, look: () => void) {
    this.#schedule = schedule
    this.#checker = checker
    this.#look = look
  }

  /** @throws SimulationFailure, whatever went wrong in `steps`. */
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

  /** Lets events happen until `done`, or until the time is over; false then. */
  until(done: () => boolean, limitMs: number): boolean {
    const untilMs = this.#schedule.nowMs + limitMs
    while (!done()) {
      if (!this.#schedule.step(untilMs)) return done()
      this.#look()
      if (++this.events > eventsMax) this.#checker.fail('it turns in circles')
    }
    return true
  }

  pass(durationMs: number): void {
    this.until(() => false, durationMs)
  }
}
