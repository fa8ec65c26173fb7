/** A difference up to this is taken for the time that the answer took: HTTP dates are in whole seconds. */
const toleranceMs = 2000
const halfSecondMs = 500

/**
 * Control's clock as last seen in its answers, which goes on by the monotonic clock: a wrong or stepped clock of this
 * machine does not matter until the process ends. Before the first answer, the clock of the machine.
 */
export class ControlClock {
  readonly #wallMs: () => number
  readonly #monotonicMs: () => number
  #seen: { readonly controlMs: number; readonly atMs: number } | undefined

  constructor(wallMs: () => number, monotonicMs: () => number = () => performance.now()) {
    this.#wallMs = wallMs
    this.#monotonicMs = monotonicMs
  }

  /** `dateMs` is the Date of an answer that was just received. */
  saw(dateMs: number): void {
    const wallMs = this.#wallMs()
    const controlMs = dateMs + halfSecondMs
    const isSame = Math.abs(controlMs - wallMs) <= toleranceMs
    this.#seen = { controlMs: isSame ? wallMs : controlMs, atMs: this.#monotonicMs() }
  }

  /** Milliseconds since 1970. */
  get nowMs(): number {
    if (this.#seen === undefined) return this.#wallMs()
    return this.#seen.controlMs + this.#monotonicMs() - this.#seen.atMs
  }
}
