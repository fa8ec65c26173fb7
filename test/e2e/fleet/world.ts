/** A whole fleet for tests: PostgreSQL, control and proxies as real processes, and people who use them. */
import { setTimeout as after } from 'node:timers/promises'
import { Client } from 'pg'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres, PostgresOptions } from '../../support/postgres.ts'
import { startControl, startProxy } from '../../support/processes.ts'
import type { ControlOptions, ControlProcess, ProxyOptions, ProxyProcess } from '../../support/processes.ts'

export const fleet = 'test'

export interface World {
  readonly postgres: Postgres
  readonly control: ControlProcess
  readonly token: string
  readonly proxies: readonly ProxyProcess[]
}

/** Keys that every document of these tests has: quick polls, and an operator for the console. */
export const common = {
  general: { poll_interval: '1s' },
  admin_users: { admin: { password: 'admin' } },
} as const

export interface WorldOptions {
  readonly postgres?: PostgresOptions
  readonly control?: ControlOptions
  readonly proxies?: readonly ProxyOptions[]
  /** The first configuration, made for the database's port. */
  readonly document: (postgres: Postgres) => object
}

export async function startWorld(options: WorldOptions): Promise<World> {
  const postgres = await startPostgres(options.postgres)
  const control = await startControl(options.control)
  const token = await control.proxyToken(fleet)
  await control.apply(fleet, options.document(postgres))
  const wanted = options.proxies ?? [{ id: 'proxy-1' }, { id: 'proxy-2' }]
  const proxies = await Promise.all(wanted.map((proxy) => startProxy({ control, fleet, token }, proxy)))
  return { postgres, control, token, proxies }
}

/** A client that is closed at the end of the test file at the latest, and whose lost connection is no accident. */
export async function connect(
  proxy: { readonly host: string; readonly port: number },
  { user = 'app', password = 'app', database = 'app' } = {},
): Promise<Client> {
  const client = new Client({ host: proxy.host, port: proxy.port, user, password, database })
  client.on('error', () => {})
  await client.connect()
  atEndOfFile(() => client.end().catch(() => {}))
  return client
}

export interface PoolVersion {
  readonly database: string
  readonly user: string
  readonly desired_version: string
  readonly desired_hash: string
  readonly running_version: string
  readonly running_hash: string
  readonly state: string
  readonly error: string | null
  readonly draining_servers: string
}

export function openConsole(proxy: ProxyProcess): Promise<Client> {
  return connect(proxy, { user: 'admin', password: 'admin', database: 'pgbouncer' })
}

export async function poolVersion(operator: Client, user = 'app', database = 'app'): Promise<PoolVersion> {
  const { rows } = await operator.query<PoolVersion>('SHOW POOL_VERSIONS')
  const row = rows.find((one) => one.user === user && one.database === database)
  if (row === undefined) throw new Error(`no pool ${database} of ${user} among ${JSON.stringify(rows)}`)
  return row
}

/** Waits until the pool runs what `version` wants. */
export async function untilRuns(operator: Client, version: number, user = 'app', database = 'app'): Promise<void> {
  let last: PoolVersion | undefined
  await until(
    async () => {
      last = await poolVersion(operator, user, database)
      return last.desired_version === String(version) && last.running_hash === last.desired_hash
    },
    () => `version ${version}: ${JSON.stringify(last)}`,
  )
}

/** Who is logged in to PostgreSQL through the proxies: process id and user. */
export async function backends(postgres: Postgres, users: readonly string[]): Promise<{ pid: number; user: string }[]> {
  const { rows } = await postgres.sql(
    `SELECT pid, usename AS user FROM pg_stat_activity WHERE usename = ANY($1) ORDER BY pid`,
    [users],
  )
  return rows as { pid: number; user: string }[]
}

/** Clients that run one small transaction after the other until they are stopped. */
export class Load {
  readonly failures: string[] = []
  transactions = 0
  #stopping = false
  readonly #clients: Promise<void>[] = []

  static async start(
    proxies: readonly ProxyProcess[],
    options: { clients: number; user?: string; pauseMs?: number; work?: (client: Client) => Promise<unknown> },
  ): Promise<Load> {
    const load = new Load()
    const clients = await Promise.all(
      Array.from({ length: options.clients }, (_, index) =>
        connect(proxies[index % proxies.length] as ProxyProcess, { user: options.user ?? 'app' }),
      ),
    )
    const { work = smallTransaction, pauseMs = 2 } = options
    for (const client of clients) load.#clients.push(load.#run(client, work, pauseMs))
    return load
  }

  async #run(client: Client, work: (client: Client) => Promise<unknown>, pauseMs: number): Promise<void> {
    while (!this.#stopping) {
      try {
        await work(client)
        this.transactions++
      } catch (error) {
        this.failures.push(error instanceof Error ? error.message : String(error))
        return
      }
      await after(pauseMs)
    }
    await client.end()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#clients)
  }
}

async function smallTransaction(client: Client): Promise<void> {
  await client.query('BEGIN')
  await client.query('SELECT $1::int', [1])
  await client.query('COMMIT')
}
