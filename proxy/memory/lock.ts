/** A lock in memory shared by threads, for short work outside of the hot path: one word, 0 while free. */

const spinsMax = 1000

/** Runs `run` while holding the lock at `words[at]`. `owner` is the number of this thread, from 0. */
export function locked<Result>(words: Int32Array, at: number, owner: number, run: () => Result): Result {
  for (let spins = 0; Atomics.compareExchange(words, at, 0, owner + 1) !== 0; spins++) {
    // The holder may need this core.
    if (spins > spinsMax) Atomics.wait(words, at, Atomics.load(words, at), 1)
  }
  try {
    return run()
  } finally {
    Atomics.store(words, at, 0)
  }
}

/** The thread `owner` has exited, possibly while holding the lock. */
export function unlock(words: Int32Array, at: number, owner: number): void {
  Atomics.compareExchange(words, at, owner + 1, 0)
}
