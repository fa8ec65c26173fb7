/** The ways from the test programs to PostgreSQL, one per mode. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../../cli/failure.ts'
import { postgresUser } from '../../cli/start/embedded-postgres.ts'
import { atEndOfFile } from '../support/cleanup.ts'
import { freePort } from '../support/free-port.ts'
import type { Postgres } from '../support/postgres.ts'
import { startProxyFromFile } from '../support/processes.ts'
import { tempFolder } from '../support/temp-folder.ts'
import type { Mode } from './options.ts'

export interface Route {
  readonly port: number
  stop(): Promise<void>
}

/** As many servers as the largest test has sessions. */
const poolSize = 20

/** Starts what stands between; clients log in to `database` as `postgres`. */
export const routes: Readonly<Record<Mode, (postgres: Postgres, database: string) => Promise<Route>>> = {
  direct: (postgres) => Promise.resolve({ port: postgres.port, stop: () => Promise.resolve() }),
  session: async (postgres, database) => await startOurs(postgres, database, 'session'),
  transaction: async (postgres, database) => await startOurs(postgres, database, 'transaction'),
  pgbouncer: startPgbouncer,
}

async function startOurs(postgres: Postgres, database: string, mode: 'session' | 'transaction'): Promise<Route> {
  const file = join(await tempFolder(), 'flotilla.toml')
  await writeFile(
    file,
    `[pools.${database}]
pool_mode = "${mode}"
pool_size = ${poolSize}
auth_type = "trust"
servers = [{ host = "127.0.0.1", port = ${postgres.port} }]
[pools.${database}.users.postgres]
`,
  )
  const proxy = await startProxyFromFile(file)
  return { port: proxy.port, stop: async () => void (await proxy.stop()) }
}

const pgbouncer = '/usr/sbin/pgbouncer'

async function startPgbouncer(postgres: Postgres, database: string): Promise<Route> {
  if (!existsSync(pgbouncer)) throw new Failure(`install Debian's package pgbouncer: no ${pgbouncer}`)
  // It ignores the startup parameter `options`, in which pg_regress sets this.
  await postgres.sql(`ALTER DATABASE ${database} SET intervalstyle TO 'postgres_verbose'`)
  const folder = await tempFolder()
  await chmod(folder, 0o755)
  const [port, users, file] = [await freePort(), join(folder, 'users.txt'), join(folder, 'pgbouncer.ini')]
  await writeFile(users, '"postgres" ""\n')
  await writeFile(
    file,
    `[databases]
${database} = host=127.0.0.1 port=${postgres.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = ${poolSize}
ignore_startup_parameters = options
`,
  )
  const child = spawn(pgbouncer, [file], { ...postgresUser(), cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(child, 'exit')
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM')
    await ended
  }
  atEndOfFile(stop)
  const log: string[] = []
  await new Promise<void>((resolve, reject) => {
    child.once('exit', () => reject(new Failure(`${pgbouncer}: ${log.join('')}`)))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log.push(text)
      if (log.join('').includes('process up')) resolve()
    })
  })
  return { port, stop }
}
