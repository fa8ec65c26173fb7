/**
 * How often the schema of each database has changed, as far as this process has seen, in memory that its threads share.
 * The number of counters is fixed, and a database's name chooses one of them: where two databases have the same, a
 * change of one counts for both, and statements of the other are prepared once more than needed.
 */
import { createHash } from 'node:crypto'

const counters = 4096

export class SchemaChanges {
  readonly #counts: Int32Array

  static memory(): SharedArrayBuffer {
    return new SharedArrayBuffer(counters * Int32Array.BYTES_PER_ELEMENT)
  }

  constructor(memory: SharedArrayBuffer) {
    this.#counts = new Int32Array(memory)
  }

  of(database: string): Schema {
    return new Schema(this.#counts, createHash('sha256').update(database).digest().readUInt32LE(0) % counters)
  }
}

/** The schema of one database. */
export class Schema {
  readonly #counts: Int32Array
  readonly #at: number

  constructor(counts: Int32Array, at: number) {
    this.#counts = counts
    this.#at = at
  }

  /** Differs after each change, and from that of other databases. */
  get version(): number {
    return Atomics.load(this.#counts, this.#at) * counters + this.#at
  }

  changed(): void {
    Atomics.add(this.#counts, this.#at, 1)
  }
}
