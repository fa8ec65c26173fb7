/**
 * Around each test file: what was started in it is stopped in reverse order, also after a failure; a process that
 * remains is printed and fails the file.
 */
import { takeCoverage } from 'node:v8'
import { afterAll } from 'vitest'
import { runCleanups } from './cleanup.ts'
import { killAll, markedProcesses, markVariable } from './marked-processes.ts'

/** Time for stopped processes to disappear. */
const graceMs = 3_000

const mark = `${process.env['FLOTILLA_TEST_RUN']}.${process.pid}`
process.env[markVariable] = mark

// The last resort when the worker ends without its hooks: whatever it started goes with it.
const endAll = (): void => killAll(markedProcesses(mark))
process.on('exit', endAll)

afterAll(async () => {
  const failures = await runCleanups()
  takeCoverage() // a worker is ended before it could write it
  let left = markedProcesses(mark)
  for (const deadline = Date.now() + graceMs; left.length > 0 && Date.now() < deadline; left = markedProcesses(mark)) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  killAll(left)
  if (left.length > 0) {
    failures.push(
      new Error(`left behind by this file:\n${left.map((one) => `  ${one.pid} ${one.command}`).join('\n')}`),
    )
  }
  process.off('exit', endAll)
  if (failures.length === 1) throw failures[0]
  if (failures.length > 1) throw new AggregateError(failures, failures.map(String).join('\n'))
})
