import { setFlagsFromString } from 'node:v8'

/** Flags of V8, which apply to everything that the threads of the process compile and collect from now on. */
export const v8Flags = [
  // V8 inlines calls into an optimized function up to 920 bytes of bytecode, less than a message passes through. With
  // more, the code of a transaction takes a third less time and is contiguous in memory, which matters after each
  // sleep.
  '--max-inlined-bytecode-size-cumulative=6000',
  // Beyond this total, by default 4600, not even getters are inlined; the way of an answer has more.
  '--max-inlined-bytecode-size-absolute=9000',
  // Clients that come and go outlive V8's young generation, so their remains wait for a collection of the old one. V8
  // infers from measured speeds how far that may grow; a fixed half of its size keeps memory steady.
  '--heap-growing-percent=50',
]

export function setV8Flags(): void {
  for (const flag of v8Flags) setFlagsFromString(flag)
}
