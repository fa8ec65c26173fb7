import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { connect } from 'node:net'
import { chown, copyFile, mkdir, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { Failure } from '../cli/failure.ts'
import { postgresUser } from '../cli/start/embedded-postgres.ts'
import { atEndOfFile } from '../test/support/cleanup.ts'
import { freePort } from '../test/support/free-port.ts'
import type { Certificate } from '../test/support/certificates.ts'
import { benchUser } from './pgbench.ts'

/** The two pools that every pooler offers, by the database name clients ask for. */
export const pools = {
  transaction: { database: 'bench_transaction', size: 16 },
  // Session mode serves a client per server, so that the 64 clients of a run need 64.
  session: { database: 'bench_session', size: 64 },
} as const

export interface RunningPooler {
  readonly pids: readonly number[]
  readonly port: number
  stop(): Promise<void>
}

export interface Pooler {
  readonly name: string
  /** Threads or processes that forward. */
  readonly workers: number
  /** Ours are compared with the others. */
  readonly ours: boolean
  /** With strict isolation, which is compared with the same without. */
  readonly strict: boolean
  /** Undefined when it is not installed. */
  version(): Promise<string | undefined>
  /** Whether prepared statements follow their client from server to server in transaction mode. */
  followsStatements(version: string): boolean
  /** All users are trusted, by it and by PostgreSQL; TLS is offered. `folder` is its own. */
  start(postgresPort: number, folder: string, certificate: Certificate): Promise<RunningPooler>
}

interface Ours {
  readonly workers: number
  /** Another checkout of this project; null for this one. */
  readonly checkout?: string | null
  readonly strict?: boolean
}

export function flotilla(nodeArgs: readonly string[], { workers, checkout = null, strict = false }: Ours): Pooler {
  const own = ['flotilla', workers === 1 ? '' : `${workers} workers`, strict ? 'strict' : ''].filter(Boolean).join(', ')
  const entry = resolve(checkout ?? join(import.meta.dirname, '..'), 'proxy/main.ts')
  return {
    name: checkout === null ? own : `${own} of ${basename(resolve(checkout))}`,
    workers,
    ours: true,
    strict,
    version: () => Promise.resolve(`on Node ${process.versions.node}`),
    followsStatements: () => true,
    async start(postgresPort, folder, certificate) {
      const port = await freePort()
      const file = join(folder, 'flotilla.toml')
      await writeFile(file, flotillaConfig({ port, postgresPort, certificate, workers, strict }))
      const args = [...nodeArgs, entry, '--config', file, '--http-port', '0']
      return await startAndWait(process.execPath, args, { port, cwd: folder })
    },
  }
}

function flotillaConfig({
  port,
  postgresPort,
  certificate: { certFile, keyFile },
  workers,
  strict,
}: {
  port: number
  postgresPort: number
  certificate: Certificate
  workers: number
  strict: boolean
}): string {
  const sections = Object.entries(pools).map(
    ([mode, { database, size }]) => `
[pools.${database}]
database = "${benchUser}"
pool_mode = "${mode}"
pool_size = ${size}
auth_type = "trust"
${strict ? 'isolation = "strict"' : ''}
servers = [{ host = "127.0.0.1", port = ${postgresPort} }]
[pools.${database}.users.${benchUser}]
`,
  )
  return `[general]
listen_host = "127.0.0.1"
listen_port = ${port}
workers = ${workers}
client_tls_sslmode = "allow"
client_tls_cert_file = "${certFile}"
client_tls_key_file = "${keyFile}"
${sections.join('')}`
}

/**
 * Several processes share the port (so_reuseport); each has its part of the servers. In session mode each has all: the
 * kernel deals clients out unevenly, and who comes to a process whose servers are all kept would wait in vain.
 */
export function pgbouncer(program: string, processes: number): Pooler {
  return {
    name: processes === 1 ? 'pgbouncer' : `pgbouncer, ${processes} processes`,
    workers: processes,
    ours: false,
    strict: false,
    async version() {
      try {
        const { stdout } = await promisify(execFile)(program, ['--version'])
        return stdout.split('\n')[0]
      } catch {
        return undefined
      }
    },
    followsStatements: (version) => versionNumber(version) >= 1.21,
    async start(postgresPort, folder, certificate) {
      const port = await freePort()
      const { uid, gid } = postgresUser()
      const [users, keyFile, file] = ['users.txt', 'key.pem', 'pgbouncer.ini'].map((name) => join(folder, name)) as [
        string,
        string,
        string,
      ]
      await writeFile(users, `"${benchUser}" ""\n`)
      await copyFile(certificate.keyFile, keyFile)
      const follows = this.followsStatements((await this.version()) ?? '')
      await writeFile(
        file,
        pgbouncerConfig({ port, postgresPort, users, certificate: { ...certificate, keyFile }, follows, processes }),
      )
      if (uid !== undefined && gid !== undefined) {
        for (const path of [folder, keyFile]) await chown(path, uid, gid)
      }
      // It takes no more descriptors than the soft limit allows, and refuses to run as root.
      const command = `ulimit -S -n "$(ulimit -H -n)" && exec "$0" -q "$1"`
      const running: RunningPooler[] = []
      for (let process = 0; process < processes; process++) {
        const options = { port, cwd: folder, ...postgresUser() }
        running.push(await startAndWait('sh', ['-c', command, program, file], options))
      }
      return {
        pids: running.flatMap(({ pids }) => pids),
        port,
        stop: async () => void (await Promise.all(running.map(async (one) => await one.stop()))),
      }
    },
  }
}

/** "PgBouncer 1.25.2" → 1.25; every minor version so far has two digits. */
function versionNumber(version: string): number {
  return Number(/\d+\.\d+/.exec(version)?.[0] ?? 0)
}

function pgbouncerConfig({
  port,
  postgresPort,
  users,
  certificate: { certFile, keyFile },
  follows,
  processes,
}: {
  port: number
  postgresPort: number
  users: string
  certificate: Certificate
  /** Statements follow their clients. */
  follows: boolean
  processes: number
}): string {
  const lines = Object.entries(pools).map(([mode, { database, size }]) => {
    const own = mode === 'session' ? size : Math.ceil(size / processes)
    return `${database} = host=127.0.0.1 port=${postgresPort} dbname=${benchUser} pool_mode=${mode} pool_size=${own}`
  })
  return `[databases]
${lines.join('\n')}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
max_client_conn = 10000
log_connections = 0
log_disconnections = 0
client_tls_sslmode = allow
client_tls_cert_file = ${certFile}
client_tls_key_file = ${keyFile}
so_reuseport = ${processes > 1 ? 1 : 0}
${follows ? 'max_prepared_statements = 200' : ''}
`
}

/** What a pooler writes, in its own folder. */
export const outputFile = 'output.log'

async function startAndWait(
  command: string,
  args: readonly string[],
  options: { port: number; cwd: string; uid?: number; gid?: number },
): Promise<RunningPooler> {
  const { port, ...spawned } = options
  const output = openSync(join(options.cwd, outputFile), 'w')
  const child = spawn(command, args, { ...spawned, stdio: ['ignore', output, output] })
  closeSync(output)
  const { pid } = child
  if (pid === undefined) throw new Failure(`${command} could not be started`)
  const stop = async (): Promise<void> => await end(child)
  atEndOfFile(stop)
  await listens(child, port)
  return { pids: [pid], port, stop }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await ended
}

const startTimeoutMs = 15_000
const retryMs = 50

async function listens(child: ChildProcess, port: number): Promise<void> {
  const deadline = Date.now() + startTimeoutMs
  while (!(await accepts(port))) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Failure(`nothing listens on port ${port}`)
    await new Promise((resolve) => setTimeout(resolve, retryMs))
  }
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** A folder for one pooler below `folder`, open to the user it runs as. */
export async function poolerFolder(folder: string, pooler: Pooler): Promise<string> {
  const own = join(folder, pooler.name)
  await mkdir(own, { recursive: true, mode: 0o755 })
  return own
}
