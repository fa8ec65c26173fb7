import { writeSync } from 'node:fs'
import type { Reporter, TestCase, TestModule } from 'vitest/node'

/**
 * Ends the output with the first failures of tests that passed on a retry, and one line for programs: `12 passed, 0
 * failed, 1 skipped`.
 */
export class TotalsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const counts = { passed: 0, failed: unhandled.length, skipped: 0, pending: 0 }
    const failedBefore: string[] = []
    for (const module of modules) {
      if (module.errors().length > 0) counts.failed++
      for (const test of module.children.allTests()) {
        counts[test.result().state]++
        if (test.diagnostic()?.flaky === true) failedBefore.push(...triesOf(test))
      }
    }
    const failed = counts.failed + counts.pending
    const line = `${counts.passed} passed, ${failed} failed, ${counts.skipped} skipped\n`
    // After the output of other reporters.
    process.once('exit', () => writeSync(1, `${failedBefore.join('')}${line}`))
  }
}

function triesOf(test: TestCase): string[] {
  const errors = test.result().errors ?? []
  return errors.map(({ message, stack }) => {
    return `passed at another try: ${test.module.moduleId} ${test.fullName}\n${message}\n${stack ?? ''}\n`
  })
}
