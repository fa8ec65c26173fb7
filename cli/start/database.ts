/** The PostgreSQL that `npm start` puts behind the proxies: an embedded one, or the operator's own. */
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

/** Where the pool `app` finds its server, and as whom. */
export interface Database {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  readonly password: string
}

/** Below the ports that the kernel hands out by itself, so that the embedded server finds its own again. */
const firstPort = 15432

/** How long an embedded server left over by a killed start has to shut down. */
const shutdownMs = 10_000

/**
 * Reads the operator's URL and logs in once, so that a wrong one is told now and not by the first client.
 * @throws Failure in one line, without the password.
 */
export async function checkDatabase(text: string): Promise<Database> {
  const url = URL.parse(text)
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol) || url.hostname === '') {
    throw new Failure('--postgres takes a URL like postgresql://user:password@host:5432/database')
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
    throw new Failure(`--postgres cannot be used: ${where}: ${message || code}`, { cause })
  } finally {
    await client.end().catch(() => undefined)
  }
  return database
}

/**
 * Makes (at the first time) and describes the embedded server in `folder`: role and database `app`. It is started by
 * `run`, again and again if need be.
 * `onLine` sees its log.
 * @throws Failure in one line when the folder is damaged or its port is taken.
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
      throw new Failure(`the embedded PostgreSQL in ${cluster} does not start: ${(cause as Error).message}`, { cause })
    }
  }
  return { database: { host: '127.0.0.1', port, database: 'app', user: 'app', password: 'app' }, run }
}

/** Made beside its place and moved there when it is whole, so that a start that was stopped in between does no harm. */
async function makeCluster(cluster: string): Promise<void> {
  const isOpen = isOpenToPostgres(cluster)
  // Root's home is closed to PostgreSQL's user, so there the cluster lies elsewhere and DIR has a link to it.
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
  await rm(cluster, { force: true }) // a link to where nothing is any more
  await symlink(place, cluster)
}

async function checkCluster(cluster: string): Promise<void> {
  const names = await readdir(cluster).catch((cause: Error) => {
    throw new Failure(`${cluster} cannot be read: ${cause.message}`, { cause })
  })
  if (['PG_VERSION', 'base', 'global', 'postgresql.conf'].every((name) => names.includes(name))) return
  throw new Failure(`${cluster} is not a whole PostgreSQL data folder: move it away to have a new one made`)
}

/** The port is part of the stored configuration, so it stays. */
async function keptPort(file: string): Promise<number> {
  const kept = await textOf(file)
  if (kept === undefined) {
    const port = await firstFree(firstPort)
    await writeFile(file, `${port}\n`)
    return port
  }
  const port = Number(kept)
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new Failure(`${file} holds no port: write the one that the configuration names for its server`)
  }
  await checkFree(port, `a new --data folder, or write another into ${file} and the configuration`)
  return port
}

/** A start that was killed leaves its server running: it is asked to shut down, as Ctrl-C would have done. */
async function stopLeftOver(cluster: string): Promise<void> {
  const pidFile = join(cluster, 'postmaster.pid')
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0])
  if (!Number.isInteger(pid) || pid <= 0 || !(await isServerOf(pid, cluster))) return
  process.kill(pid, 'SIGINT')
  for (const deadline = Date.now() + shutdownMs; existsSync(pidFile); await sleep(50)) {
    if (Date.now() > deadline) throw new Failure(`a PostgreSQL (process ${pid}) still runs in ${cluster}: stop it`)
  }
}

/** Whether the process is this cluster's: a process id may have gone to somebody else since. */
async function isServerOf(pid: number, cluster: string): Promise<boolean> {
  // PostgreSQL works in its data folder.
  const folder = await readlink(`/proc/${pid}/cwd`).catch(() => undefined)
  return folder === (await realpath(cluster))
}
