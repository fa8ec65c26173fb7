/** Has a file descriptor that the loop closes at its end. */
export interface Entry {
  readonly fd: number
  /** Set by the loop: tells an event of this descriptor from one of a former owner or watch. */
  generation: number
  ready(events: number): void
  /** Checks whether the peer takes what it is sent. Called every `periodMs` for entries that may have sent anything. */
  checkStall?(periodMs: number): void
  /** Closes the descriptor without events, at the end of the loop. */
  abandon(): void
}
