const cleanups: (() => Promise<void> | void)[] = []

/** Runs at the end of the test file, in reverse order of registration. Must be harmless if there is nothing to do. */
export function atEndOfFile(run: () => Promise<void> | void): void {
  cleanups.push(run)
}

/** Runs all cleanups even if some fail, and returns the failures. */
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
