/** The tool people type console commands with. */
import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { EngineInProcess, poolSpec } from './engine-in-process.ts'

const running = new EngineInProcess()
running.apply(1, [poolSpec({ port: 1 })])

/** Of the machine: the project brings none along. */
const program = 'psql'

const missing = psqlIsMissing()
if (missing) process.stdout.write('skipped: psql is not installed here\n')

function psqlIsMissing(): boolean {
  try {
    execFileSync(program, ['--version'])
    return false
  } catch {
    return true
  }
}

/** Unaligned and without a psqlrc; gives what it prints on both outputs and its exit code. */
async function psql(
  commands: readonly string[],
  user = 'admin',
): Promise<{ stdout: string; stderr: string; code: number }> {
  const conninfo = `host=127.0.0.1 port=${running.port} user=${user} dbname=pgbouncer sslmode=prefer`
  const args = ['-X', '-A', '-v', 'ON_ERROR_STOP=1', ...commands.flatMap((command) => ['-c', command]), conninfo]
  try {
    return { ...(await promisify(execFile)(program, args)), code: 0 }
  } catch (error) {
    return error as { stdout: string; stderr: string; code: number } // what execFile rejects with
  }
}

test.skipIf(missing)('psql prints the tables of several commands on one connection', async () => {
  const { stdout, code } = await psql(['show version; show pools;', 'SHOW LISTS;'])

  expect(code).toBe(0)
  expect(stdout).toMatch(/^version\nPgBouncer 1\.25\.2 \(Flotilla [\d.]+\)\n\(1 row\)\n/)
  expect(stdout).toContain('\napp|web|0|0|0|0|0|0|0|0|0|0|0|0|0|transaction|\n')
  expect(stdout).toContain('\ndns_pending|0\n(14 rows)\n')
})

test.skipIf(missing)('psql shows the error of a mistyped command with its hint, and fails', async () => {
  const { stderr, code } = await psql(['SHOW CLIENT'])

  expect(code).toBe(1)
  expect(stderr).toBe(
    "ERROR:  invalid command 'SHOW CLIENT', use SHOW HELP;\nHINT:  Did you mean SHOW CLIENTS? Use SHOW HELP to list the commands.\n",
  )
})

test.skipIf(missing)('psql prints SHOW HELP one command a line', async () => {
  const { stderr, code } = await psql(['SHOW HELP'])

  expect(code).toBe(0)
  expect(stderr).toMatch(/^NOTICE: {2}Console usage\nDETAIL: {2}\n\tSHOW HELP +this list\n\tSHOW VERSION /)
})

test.skipIf(missing)('psql of a user who may only look cannot RELOAD', async () => {
  const { stderr, code } = await psql(['RELOAD'], 'monitor')

  expect(code).toBe(1)
  expect(stderr).toBe('ERROR:  admin access needed\n')
})
