/**
 * One bit per open file descriptor of the engine's thread, in memory shared with the agent: when the thread dies, the
 * agent closes what it left open. The agent adds what it hands to the thread, and reads after the thread has exited.
 */
export class OpenFds {
  readonly #bits: Uint8Array

  constructor(memory: SharedArrayBuffer) {
    this.#bits = new Uint8Array(memory)
  }

  /** Descriptors below this have a bit; the engine uses no others. */
  get fdMax(): number {
    return this.#bits.length * 8
  }

  add(fd: number): void {
    Atomics.or(this.#bits, fd >> 3, 1 << (fd & 7))
  }

  remove(fd: number): void {
    Atomics.and(this.#bits, fd >> 3, ~(1 << (fd & 7)))
  }
}
