import { defineConfig } from 'vitest/config'
import { TotalsReporter } from './test/support/totals-reporter.ts'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Tests run the sources as production does: by Node itself, without a bundler in between.
    experimental: { viteModuleRunner: false },
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    // Real processes on a shared machine: what fails once is run once more, and shown as retried.
    retry: 1,
    hookTimeout: 60_000,
    globalSetup: ['test/support/test-run.ts'],
    setupFiles: ['test/support/test-file.ts'],
    reporters: ['default', new TotalsReporter()],
  },
})
