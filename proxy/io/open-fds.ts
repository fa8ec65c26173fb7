/**
 * One bit per file descriptor that the engine's thread holds open, in memory it shares with the agent: when the thread
 * dies, the agent closes what it left. One thread writes; the other reads after that one has ended.
 */
export class OpenFds {
  readonly #bits: Uint8Array

  constructor(memory: SharedArrayBuffer) {
    this.#bits = new Uint8Array(memory)
  }

  /** Descriptors below this have a bit; the engine does not use others. */
  get fdMax(): number {
    return this.#bits.length * 8
  }

  add(fd: number): void {
    this.#bits[fd >> 3] = (this.#bits[fd >> 3] as number) | (1 << (fd & 7))
  }

  remove(fd: number): void {
    this.#bits[fd >> 3] = (this.#bits[fd >> 3] as number) & ~(1 << (fd & 7))
  }
}
