/** Something with a file descriptor that the loop closes at its end. */
export interface Entry {
  readonly fd: number
  /** Given by the loop: tells an event of this descriptor from one of an earlier owner or an earlier watch of it. */
  generation: number
  ready(events: number): void
  /** Is its peer taking what it is sent? Asked every `periodMs`, of what may have sent anything. */
  checkStall?(periodMs: number): void
  /** Closes the descriptor without a word to anybody; at the end of the loop. */
  abandon(): void
}
