import type { SharedCounters } from '../../memory/shared-counters.ts'
import type { Socket } from '../../io/io.ts'

/** The other workers of this process, seen from one of them. */
export interface Workers {
  /** Number of this worker, from 0. */
  readonly self: number
  readonly count: number
  readonly counters: SharedCounters
  /** Converts this worker's clock to the shared one. */
  readonly clockOffsetMs: number
  /**
   * Hands a connection that has not logged in, and the `bytes` read from it, to another worker. False if that is not
   * possible now, because sent bytes are still queued. `placedLife` is the life of that worker in which the client was
   * counted for it; null if it was not.
   */
  handOver(socket: Socket, worker: number, bytes: Uint8Array, placedLife: number | null): boolean
  /** Makes another worker check the shared counters. */
  wake(worker: number): void
}

let nextServerId = 1

/** An id that no other server connection of the process has. */
export function newServerId(workers: Workers | null): number {
  return workers === null ? nextServerId++ : nextServerId++ * workers.count + workers.self
}
