import type { Board } from '../../memory/shared-counters.ts'
import type { Socket } from '../../io/io.ts'

/** The other workers of this process, as one of them sees them. */
export interface Crew {
  /** Which of them this is, from 0. */
  readonly worker: number
  readonly workers: number
  readonly board: Board
  /** What to add to this worker's clock to have the one that all of them share. */
  readonly clockOffsetMs: number
  /**
   * Gives a connection that has not logged in, and `bytes` that have been read of it, to another worker. False when it
   * cannot be now, because something that was sent is still queued. `seat` is the life of that worker in which a seat was
   * taken there; null where none was.
   */
  hand(socket: Socket, worker: number, bytes: Uint8Array, seat: number | null): boolean
  /** Lets another worker look at the board. */
  wake(worker: number): void
}

let nextServerId = 1

/** An id that no other server connection of the process has. */
export function newServerId(crew: Crew | null): number {
  return crew === null ? nextServerId++ : nextServerId++ * crew.workers + crew.worker
}
