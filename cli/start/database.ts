/** The PostgreSQL server behind the proxies of `npm start`: an embedded one, or the operator's own. */
import { createHash } from 'node:crypto'
import type { ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, readFile, readlink, realpath, rename, rm, symlink, writeFile, chown } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { Failure } from '../failure.ts'
import {
  initialiseCluster,
  isOpenToPostgres,
  openFolder,
  postgresUser,
  runSingleUser,
  startCluster,
} from './embedded-postgres.ts'
import { checkFree, firstFree } from './ports.ts'
import { textOf } from './keep.ts'

/** Server, database and role of the pool `app`. */
export interface Database {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  readonly password: string
}

/** Below the kernel's ephemeral ports, so that the embedded server's port is not taken between two starts. */
const firstPort = 15432

/** Maximum time for the shutdown of an embedded server that a killed start left running. */
const shutdownMs = 10_000

/**
 * Parses the operator's URL and logs in once, so that an error is reported now and not by the first client.
 * @throws Failure in one line, without the password.
 */
export async function checkDatabase(text: string): Promise<Database> {
  const url = URL.parse(text)
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol) || url.hostname === '') {
    throw new Failure('--postgres requires a URL like postgresql://user:password@host:5432/database')
  }
  const user = decodeURIComponent(url.username) || 'postgres'
  const database: Database = {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 5432 : Number(url.port),
    database: decodeURIComponent(url.pathname.slice(1)) || user,
    user,
    password: decodeURIComponent(url.password),
  }
  const client = new Client({ ...database, connectionTimeoutMillis: 5_000 })
  try {
    await client.connect()
    await client.query('SELECT 1')
  } catch (cause) {
    const { code, message } = cause as { code?: string; message: string }
    const where = `${database.host}:${database.port}/${database.database} as ${user}`
    throw new Failure(`could not connect to the server of --postgres: ${where}: ${message || code}`, { cause })
  } finally {
    await client.end().catch(() => undefined)
  }
  return database
}

/**
 * Creates the embedded server's cluster in `folder` if it does not exist, with role and database `app`. `run` starts
 * it, and can be called again. `onLine` receives its log.
 * @throws Failure in one line if the directory is damaged or the port in use.
 */
export async function embeddedDatabase(
  folder: string,
  onLine: (line: string) => void,
): Promise<{ database: Database; run: () => Promise<ChildProcess> }> {
  const cluster = join(folder, 'postgres')
  await stopLeftOver(cluster)
  if (!existsSync(cluster)) await makeCluster(cluster)
  await checkCluster(cluster)
  const port = await keptPort(join(folder, 'postgres-port'))
  const run = async () => {
    try {
      return await startCluster({ folder: await realpath(cluster), host: '127.0.0.1', port, onLine })
    } catch (cause) {
      throw new Failure(`could not start the embedded PostgreSQL in ${cluster}: ${(cause as Error).message}`, { cause })
    }
  }
  return { database: { host: '127.0.0.1', port, database: 'app', user: 'app', password: 'app' }, run }
}

/** Created under another name and renamed when complete, so that an interrupted start does no harm. */
async function makeCluster(cluster: string): Promise<void> {
  const isOpen = isOpenToPostgres(cluster)
  // PostgreSQL's user has no access to root's home, so the cluster is elsewhere and DIR contains a link to it.
  const name = `flotilla-${createHash('sha256').update(cluster).digest('hex').slice(0, 16)}`
  const place = isOpen ? cluster : join(await openFolder(name), 'postgres')
  const partial = `${place}.new`
  await rm(partial, { recursive: true, force: true })
  await initialiseCluster(partial)
  await runSingleUser(partial, ["CREATE ROLE app LOGIN PASSWORD 'app'", 'CREATE DATABASE app OWNER app'])
  const hba = join(partial, 'pg_hba.conf')
  await writeFile(hba, 'host all all 127.0.0.1/32 scram-sha-256\n', { mode: 0o600 })
  const { uid, gid } = postgresUser()
  if (uid !== undefined && gid !== undefined) await chown(hba, uid, gid)
  if (!isOpen) await rm(place, { recursive: true, force: true })
  await rename(partial, place)
  if (isOpen) return
  await rm(cluster, { force: true }) // a dangling link
  await symlink(place, cluster)
}

async function checkCluster(cluster: string): Promise<void> {
  const names = await readdir(cluster).catch((cause: Error) => {
    throw new Failure(`could not read ${cluster}: ${cause.message}`, { cause })
  })
  if (['PG_VERSION', 'base', 'global', 'postgresql.conf'].every((name) => names.includes(name))) return
  throw new Failure(`${cluster} is not a complete PostgreSQL data directory: move it away, and a new one is created`)
}

/** The port is part of the stored configuration, so it is kept. */
async function keptPort(file: string): Promise<number> {
  const kept = await textOf(file)
  if (kept === undefined) {
    const port = await firstFree(firstPort)
    await writeFile(file, `${port}\n`)
    return port
  }
  const port = Number(kept)
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new Failure(`${file} does not contain a port: write the server port of the configuration into it`)
  }
  await checkFree(port, `a new --data directory, or another port in ${file} and the configuration`)
  return port
}

/** A start that was killed leaves its server running: shut it down, as Ctrl-C would have done. */
async function stopLeftOver(cluster: string): Promise<void> {
  const pidFile = join(cluster, 'postmaster.pid')
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0])
  if (!Number.isInteger(pid) || pid <= 0 || !(await isServerOf(pid, cluster))) return
  process.kill(pid, 'SIGINT')
  for (const deadline = Date.now() + shutdownMs; existsSync(pidFile); await sleep(50)) {
    if (Date.now() > deadline)
      throw new Failure(`another PostgreSQL (process ${pid}) is running in ${cluster}: stop it`)
  }
}

/** Whether the process belongs to this cluster: the process id may have been reused. */
async function isServerOf(pid: number, cluster: string): Promise<boolean> {
  // The working directory of PostgreSQL is its data directory.
  const folder = await readlink(`/proc/${pid}/cwd`).catch(() => undefined)
  return folder === (await realpath(cluster))
}
