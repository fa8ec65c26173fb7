/** Runs one suite in one mode, on a cluster of its own, and reads which files passed. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chown, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Failure } from '../../cli/failure.ts'
import { postgresUser } from '../../cli/start/embedded-postgres.ts'
import { startPostgres } from '../support/postgres.ts'
import type { Mode, Suite } from './options.ts'
import { routes } from './routes.ts'
import { scheduleOf } from './schedule.ts'
import type { Sources } from './sources.ts'

export interface FileResult {
  readonly passed: boolean
  /** Between the expected output and this; empty if it passed. */
  readonly diff: string
}

/** By name of the file, in the order of the schedule. */
export type SuiteResult = ReadonlyMap<string, FileResult>

/** What pg_regress sets in a database that it creates itself. */
const databaseSettings = {
  lc_messages: 'C',
  lc_monetary: 'C',
  lc_numeric: 'C',
  lc_time: 'C',
  bytea_output: 'hex',
  timezone_abbreviations: 'Default',
}

/** The names that pg_regress gives them, which some tests contain. */
const databases: Readonly<Record<Suite, string>> = { regress: 'regression', isolation: 'isolation_regression' }

/**
 * Time after which isolationtester cancels a step that waits. Where servers change with every transaction it cannot see
 * that a session is blocked, so that each such step lasts this long.
 */
const stepTimeoutSeconds: Readonly<Record<Mode, number>> = { direct: 60, session: 60, transaction: 5, pgbouncer: 5 }

/** `folder` takes the output of the run and a diff per file that failed. */
export async function runSuite(
  { suite, mode, only }: { suite: Suite; mode: Mode; only: readonly string[] },
  sources: Sources,
  folder: string,
): Promise<SuiteResult> {
  await mkdir(folder, { recursive: true })
  const { uid, gid } = postgresUser()
  if (uid !== undefined && gid !== undefined) await chown(folder, uid, gid)
  const schedule = join(folder, 'schedule')
  await writeFile(schedule, await scheduleOf(suite, sources, only))
  const database = databases[suite]
  const postgres = await startPostgres({
    native: sources.native,
    settings: { shared_buffers: '128MB', max_wal_size: '1GB', max_prepared_transactions: 2 },
    sql: [
      `CREATE DATABASE ${database} TEMPLATE template0`,
      ...Object.entries(databaseSettings).map(
        ([name, value]) => `ALTER DATABASE ${database} SET ${name} TO '${value}'`,
      ),
    ],
  })
  const route = await routes[mode](postgres, database)
  const output = await runProgram(sources.programs[suite], stepTimeoutSeconds[mode], [
    '--use-existing',
    `--bindir=${join(sources.native, 'bin')}`,
    '--host=127.0.0.1',
    `--port=${route.port}`,
    '--user=postgres',
    `--dbname=${database}`,
    '--max-connections=1',
    `--dlpath=${sources.libraries}`,
    `--inputdir=${join(sources.tests, suite)}`,
    `--outputdir=${folder}`,
    `--schedule=${schedule}`,
  ])
  await route.stop()
  await postgres.remove()
  await writeFile(join(folder, 'output'), `${output.join('\n')}\n`)
  const results = await readResults(output, folder)
  await rm(join(folder, 'results'), { recursive: true, force: true })
  return results
}

/** The lines it wrote. @throws Failure if it could not run the tests. */
async function runProgram(program: string, timeoutSeconds: number, args: readonly string[]): Promise<string[]> {
  const child = spawn(program, args, {
    ...postgresUser(),
    cwd: '/',
    // Settings of libpq, locale and time zone are left out: they change what the tests print.
    env: { PATH: '/usr/bin:/bin', PGISOLATIONTIMEOUT: String(timeoutSeconds) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      if (process.stdout.isTTY) process.stdout.write(`${line}\n`)
    })
  }
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0 && code !== 1) throw new Failure(`${program} could not run the tests:\n${lines.join('\n')}`)
  return lines
}

async function readResults(output: readonly string[], folder: string): Promise<SuiteResult> {
  const path = join(folder, 'regression.diffs')
  const diffs = diffsOf(existsSync(path) ? await readFile(path, 'utf8') : '')
  const results = new Map<string, FileResult>()
  for (const line of output) {
    const [, file, verdict] = /^(?:test)?\s+(\S+)\s+\.\.\. (ok|FAILED|failed)\b/.exec(line) ?? []
    if (file === undefined) continue
    const diff = diffs.get(file) ?? ''
    results.set(file, { passed: verdict === 'ok', diff })
    if (diff !== '') await writeFile(join(folder, `${file}.diff`), diff)
  }
  return results
}

/** The parts of regression.diffs, each of which begins with a line "diff … expected/FILE.out results/FILE.out". */
function diffsOf(text: string): Map<string, string> {
  const parts = text.split(/^(?=diff .*\/results\/\S+\.out$)/m)
  return new Map(parts.map((part) => [/^diff .*\/results\/(\S+)\.out$/m.exec(part)?.[1] ?? '', part]))
}
