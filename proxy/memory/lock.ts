/** A lock in memory that threads share, for work that is short and not on the way of a query: a word, 0 while it is free. */

const spinsMax = 1000

/** Runs `run` while nobody else has the lock at `words[at]`. `owner` is the number of this thread, from 0. */
export function locked<Result>(words: Int32Array, at: number, owner: number, run: () => Result): Result {
  for (let spins = 0; Atomics.compareExchange(words, at, 0, owner + 1) !== 0; spins++) {
    // Its holder may have to wait for this very core.
    if (spins > spinsMax) Atomics.wait(words, at, Atomics.load(words, at), 1)
  }
  try {
    return run()
  } finally {
    Atomics.store(words, at, 0)
  }
}

/** The thread `owner` has ended, perhaps while it had the lock. */
export function unlock(words: Int32Array, at: number, owner: number): void {
  Atomics.compareExchange(words, at, owner + 1, 0)
}
