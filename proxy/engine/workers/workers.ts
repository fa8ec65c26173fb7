import type { SharedCounters } from '../../memory/shared-counters.ts'
import type { Socket } from '../../io/io.ts'

/** The other workers of this process, as one of them sees them. */
export interface Workers {
  /** Which of them this is, from 0. */
  readonly self: number
  readonly count: number
  readonly counters: SharedCounters
  /** What to add to this worker's clock to have the one that all of them share. */
  readonly clockOffsetMs: number
  /**
   * Gives a connection that has not logged in, and `bytes` that have been read of it, to another worker. False when it
   * cannot be now, because something that was sent is still queued. `placedLife` is the life of that worker in
   * which the client was counted for it; null where it was not.
   */
  handOver(socket: Socket, worker: number, bytes: Uint8Array, placedLife: number | null): boolean
  /** Lets another worker look at the shared counters. */
  wake(worker: number): void
}

let nextServerId = 1

/** An id that no other server connection of the process has. */
export function newServerId(workers: Workers | null): number {
  return workers === null ? nextServerId++ : nextServerId++ * workers.count + workers.self
}
