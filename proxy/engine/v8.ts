import { setFlagsFromString } from 'node:v8'

/** Flags of V8, which hold for what all threads of the process compile and collect from now on. */
export const v8Flags = [
  // V8 inlines calls into a function that it optimizes until it has taken in 920 bytes of bytecode, which is less than what
  // a message runs through. With more, the code of a transaction takes a third less time, and lies together in memory, which
  // counts after each sleep.
  '--max-inlined-bytecode-size-cumulative=6000',
  // Clients that come and go live for longer than V8's young generation, so their remains wait for a collection of the old
  // one. How far that may grow until then V8 infers anew each time from speeds it has measured; half of its size, always, is
  // a memory that stays what it is.
  '--heap-growing-percent=50',
]

export function setV8Flags(): void {
  for (const flag of v8Flags) setFlagsFromString(flag)
}
