import { defineConfig } from 'vitest/config'
import type { TestProjectInlineConfiguration } from 'vitest/config'
import { TotalsReporter } from './test/support/totals-reporter.ts'

interface Group {
  readonly name: string
  readonly files: readonly string[]
  readonly without?: readonly string[]
  /** Files run one after the other, after the groups that share the machine. */
  readonly alone?: true
  /** Files share a process: they start none themselves, and loading the sources takes longer than their tests. */
  readonly together?: true
  readonly setupFiles?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

/** They compare times with a limit, count turns of a loop, or watch memory while something goes on. */
export const measured = [
  'test/bench/engine.test.ts',
  'test/bench/usage-of-process.test.ts',
  'test/e2e/fleet/a-b-a.test.ts',
  'test/e2e/fleet/restart-under-load.test.ts',
  'test/e2e/wire/limits.test.ts',
  'test/e2e/wire/memory.test.ts',
  'test/e2e/wire/shared-limits.test.ts',
  'test/e2e/wire/workers.test.ts',
  'test/proxy/io/epoll.test.ts',
]

/** Beside the sources that they test, but with PostgreSQL, another process, or sources that they change. */
export const withProcesses = [
  'test/control/credentials.test.ts',
  'test/proxy/agent/restart/handover.test.ts',
  'test/proxy/agent/tls-files.test.ts',
  'test/proxy/console/console.test.ts',
  'test/proxy/console/exporter.test.ts',
  'test/proxy/console/monitoring.test.ts',
  'test/proxy/console/operate.test.ts',
  'test/proxy/console/overrides.test.ts',
  'test/proxy/console/pgbouncer.test.ts',
  'test/proxy/console/pool-versions.test.ts',
  'test/proxy/console/psql.test.ts',
  'test/proxy/console/suspend.test.ts',
  'test/proxy/engine/auth/server-login.test.ts',
  'test/proxy/io/dead-peer.test.ts',
  'test/proxy/io/tls.test.ts',
  'test/proxy/main.test.ts',
]

/**
 * Every test file is in exactly one group, but for those of `postgres-14`, which run once more. `npm test -- --project
 * NAME` runs one group; `npm run check` and `.ci/run` run all of them.
 */
const groups: readonly Group[] = [
  {
    name: 'unit',
    files: ['test/{bench,control,fuzz,proxy,shared}/**'],
    without: [...measured, ...withProcesses],
    together: true,
    setupFiles: ['test/support/no-processes.ts'],
  },
  { name: 'sim', files: ['test/sim/**'] },
  { name: 'e2e', files: ['test/{cli,e2e,project,support}/**', ...withProcesses], without: measured },
  { name: 'drivers', files: ['test/drivers/**'] },
  {
    name: 'postgres-14',
    files: ['test/e2e/wire/**'],
    without: ['test/e2e/wire/{crowd,limits,memory,shared-limits}.test.ts'],
    env: { FLOTILLA_TEST_POSTGRES: '14' },
  },
  { name: 'measured', files: measured, alone: true },
  { name: 'soak', files: ['test/soak/**'], alone: true },
]

/** What holds for every group. */
export const common = {
  // Tests run the sources as production does: by Node itself, without a bundler in between.
  experimental: { viteModuleRunner: false },
  pool: 'forks',
  testTimeout: 30_000,
  hookTimeout: 60_000,
  setupFiles: ['test/support/test-file.ts'],
} as const

/** More than cores: files that start processes wait for most of their time. */
const workers = 4

function projectOf({
  name,
  files,
  without = [],
  alone,
  together,
  setupFiles = [],
  env = {},
}: Group): TestProjectInlineConfiguration {
  return {
    test: {
      ...common,
      name,
      include: files.map((pattern) => (pattern.endsWith('/**') ? `${pattern}/*.test.ts` : pattern)),
      exclude: [...without],
      setupFiles: [...common.setupFiles, ...setupFiles],
      env,
      isolate: together !== true,
      maxWorkers: alone === true ? 1 : workers,
      sequence: { groupOrder: alone === true ? 1 : 0 },
    },
  }
}

export default defineConfig({
  test: {
    projects: groups.map(projectOf),
    globalSetup: ['test/support/test-run.ts'],
    reporters: ['default', new TotalsReporter()],
  },
})
