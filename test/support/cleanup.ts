const cleanups: (() => Promise<void> | void)[] = []

/** Runs at the end of the test file, after what was registered later. Must be harmless when there is nothing to do. */
export function atEndOfFile(run: () => Promise<void> | void): void {
  cleanups.push(run)
}

/** Runs all of them even when one fails, and gives what failed. */
export async function runCleanups(): Promise<unknown[]> {
  const failures: unknown[] = []
  for (let run = cleanups.pop(); run !== undefined; run = cleanups.pop()) {
    try {
      await run()
    } catch (failure) {
      failures.push(failure)
    }
  }
  return failures
}
