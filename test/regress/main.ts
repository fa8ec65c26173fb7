/**
 * `npm run test:regress`: the tests of PostgreSQL 15 itself, through a proxy in session and in transaction mode and
 * without one. The exit code is 0 if no file fails that is not listed in known.ts.
 */
import { chmod, mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, WrongUsage } from '../../cli/failure.ts'
import { openFolder } from '../../cli/start/embedded-postgres.ts'
import { runCleanups } from '../support/cleanup.ts'
import { readOptions, usage } from './options.ts'
import type { Mode, Options } from './options.ts'
import { report } from './report.ts'
import { fetchSources } from './sources.ts'
import { runSuite } from './suite.ts'
import type { SuiteResult } from './suite.ts'

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void runCleanups().then(() => process.exit(130)))
}

try {
  const failures = await runAll(readOptions(process.argv.slice(2)))
  process.exitCode = failures > 0 ? 1 : 0
} catch (error) {
  if (!(error instanceof WrongUsage) && !(error instanceof Failure)) throw error
  console.error(error instanceof WrongUsage ? `${error.message}\n${usage}` : error.message)
  process.exitCode = error instanceof WrongUsage ? 2 : 1
} finally {
  for (const failure of await runCleanups()) console.error(failure)
}

/** Returns the number of files that fail and are not known to. */
async function runAll({ suites, modes, only }: Options): Promise<number> {
  const folder = await openFolder('flotilla-regress')
  const sources = await fetchSources(folder)
  const output = await mkdtemp(join(folder, 'run-'))
  await chmod(output, 0o711) // PostgreSQL's user passes through
  console.log(`the tests of PostgreSQL ${sources.version}; output and diffs are kept in ${output}`)
  let failures = 0
  for (const suite of suites) {
    const results = new Map<Mode, SuiteResult>()
    for (const mode of modes) {
      console.log(`${suite}, ${mode}: runs`)
      results.set(mode, await runSuite({ suite, mode, only }, sources, join(output, suite, mode)))
    }
    failures += report(suite, results)
  }
  return failures
}
