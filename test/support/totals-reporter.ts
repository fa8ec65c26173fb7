import { writeSync } from 'node:fs'
import type { Reporter, TestModule } from 'vitest/node'

/** Ends the output with one plain line that programs read: `12 passed, 0 failed, 1 skipped`. */
export class TotalsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const counts = { passed: 0, failed: unhandled.length, skipped: 0, pending: 0 }
    for (const module of modules) {
      if (module.errors().length > 0) counts.failed++
      for (const test of module.children.allTests()) counts[test.result().state]++
    }
    const failed = counts.failed + counts.pending
    const line = `${counts.passed} passed, ${failed} failed, ${counts.skipped} skipped\n`
    // After what the other reporters still have to say.
    process.once('exit', () => writeSync(1, line))
  }
}
