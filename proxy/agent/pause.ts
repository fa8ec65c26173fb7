/** A wait that can be ended early. */
export class Pause {
  #end: (() => void) | undefined

  async wait(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#end = resolve
    const timer = setTimeout(resolve, ms)
    await promise
    clearTimeout(timer)
    this.#end = undefined
  }

  /** Ends the wait that is in progress, if any. */
  end(): void {
    this.#end?.()
  }
}
