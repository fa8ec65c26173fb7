/**
 * Around the whole run: one directory for all temporary files, a reaper that survives even a killed Vitest, and finally
 * a search for leftover processes, which fail the run.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killAll, markedProcesses } from './marked-processes.ts'

/**
 * Most of what a Node process costs that lives for a second is compiling; this keeps what has been compiled, for the
 * next process and the next run. Not while coverage is taken: V8 counts less exactly in what it did not compile.
 */
const compileCache = join(import.meta.dirname, '../../node_modules/.cache/flotilla-tests')

export function setup(): () => Promise<void> {
  if (process.env['NODE_V8_COVERAGE'] === undefined) process.env['NODE_COMPILE_CACHE'] ??= compileCache
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-test-'))
  chmodSync(folder, 0o755) // PostgreSQL's user passes through
  const mark = randomBytes(8).toString('hex')
  process.env['FLOTILLA_TEST_FOLDER'] = folder
  process.env['FLOTILLA_TEST_RUN'] = mark
  const reaper = spawn(process.execPath, [join(import.meta.dirname, 'reaper.ts'), mark, folder], {
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true,
    env: {},
  })
  return async () => {
    const left = markedProcesses(mark)
    killAll(left)
    rmSync(folder, { recursive: true, force: true })
    const ended = new Promise((resolve) => reaper.once('exit', resolve))
    reaper.stdin.end()
    await ended
    if (left.length === 0) return
    process.exitCode = 1
    throw new Error(
      `${left.length} processes were left behind:\n${left.map((one) => `  ${one.pid} ${one.command}`).join('\n')}`,
    )
  }
}
