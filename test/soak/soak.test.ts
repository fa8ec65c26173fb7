/**
 * 2,000 clients on 20 servers for a while, through a whole proxy: no error, flat memory, and nothing left at the end.
 * A minute in CI, ten seconds elsewhere; FLOTILLA_SOAK_SECONDS=600 is the long one.
 */
import { fork } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import { Client } from 'pg'
import { expect, test } from 'vitest'
import { atEndOfFile } from '../support/cleanup.ts'
import { until } from '../support/engine.ts'
import { startPostgres } from '../support/postgres.ts'
import { startProxyFromFile } from '../support/processes.ts'
import type { ProxyProcess } from '../support/processes.ts'
import { soakSeconds } from '../support/soak-length.ts'
import { judgedShare, steadyGrowth } from '../support/steady-growth.ts'
import { tempFolder } from '../support/temp-folder.ts'
import type { FromClients, Job, Tally, ToClients } from './clients.ts'

const seconds = soakSeconds()
const servers = 20

/** Half of the clients each: one process would be as busy as the proxy. */
const groups: readonly Omit<Job, 'port'>[] = [
  { clients: 1000, restMs: 3000, leavesPercent: 4, seed: 1 },
  // They come and go: what a connection leaves behind would show.
  { clients: 1000, restMs: 1200, leavesPercent: 40, seed: 100_000 },
]

/** A leak of so much per connection is to be noticed. */
const leakBytes = 1024

/** What resident memory may grow by for other reasons. */
const noiseBytes = 4 * 1024 * 1024

test(
  `2,000 clients on ${servers} servers for ${seconds} s: no error, flat memory, nothing left`,
  { timeout: (seconds + 120) * 1000 },
  async () => {
    const postgres = await startPostgres({ maxConnections: servers + 10, sql: ['CREATE ROLE app LOGIN'] })
    const proxy = await startProxyFromFile(await configuration(postgres.port))
    const operator = await console(proxy)
    const before = { fds: fdsOf(proxy), servers: await serversOf(operator) }

    const loads = groups.map((group) => new Load({ ...group, port: proxy.port }))
    const grown = steadyGrowth(await residentMemory(proxy))
    const tallies = await Promise.all(loads.map((load) => load.stop()))

    const sum = (of: (tally: Tally) => number): number => tallies.reduce((total, tally) => total + of(tally), 0)
    const connections = sum((tally) => tally.connections)
    expect(tallies.flatMap(({ failures }) => failures)).toEqual([])
    expect(connections).toBeGreaterThanOrEqual(2000)

    await until(async () => (await pool(operator))['cl_active'] === 0)
    await until(async () => (await pool(operator))['sv_active'] === 0)
    const { sv_idle: idle, ...rest } = await pool(operator)
    expect(rest).toMatchObject({ cl_waiting: 0, sv_login: 0, sv_tested: 0, sv_being_canceled: 0, maxwait: 0 })
    expect(idle).toBeLessThanOrEqual(servers)
    expect(await list(operator, 'used_clients')).toBe(1)
    expect(await list(operator, 'used_servers')).toBe(idle)
    const totals = await statsTotals(operator)
    expect(totals['client_login_count']).toBe(connections)
    expect(totals['query_count']).toBeGreaterThanOrEqual(sum((tally) => tally.answered))
    expect(totals['query_count']).toBeLessThanOrEqual(sum((tally) => tally.sent))
    const sessions = await postgres.sql("SELECT state FROM pg_stat_activity WHERE usename = 'app'")
    expect(sessions.rows).toEqual(Array.from({ length: Number(idle) }, () => ({ state: 'idle' })))
    // A connection to the proxy's HTTP may have ended since.
    await until(() => fdsOf(proxy) - Number(idle) <= before.fds - before.servers)

    const queries = totals['query_count']
    process.stdout.write(
      `soak: ${connections} connections, ${queries} queries, steady growth ${Math.round(grown / 1024)} KiB\n`,
    )
    // Too short a run has too few connections to tell a small leak from noise.
    const judged = connections * judgedShare * leakBytes > noiseBytes
    if (!judged) process.stdout.write(`soak: ${seconds} s are too short to judge memory; see FLOTILLA_SOAK_SECONDS\n`)
    expect(grown).toBeLessThan(judged ? noiseBytes : Infinity)
  },
)

const sampleMs = 100

/** Samples over the whole run, in bytes. */
async function residentMemory(proxy: ProxyProcess): Promise<number[]> {
  const samples: number[] = []
  const beganMs = performance.now()
  while (performance.now() - beganMs < seconds * 1000) {
    samples.push(rssOf(proxy))
    await after(sampleMs)
  }
  return samples
}

class Load {
  readonly #child = fork(join(import.meta.dirname, 'clients.ts'), [], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  readonly #tally = Promise.withResolvers<Tally>()

  constructor(job: Job) {
    atEndOfFile(() => void this.#child.kill())
    this.#child.on('exit', (code) => this.#tally.reject(new Error(`the clients' process exited with ${code}`)))
    this.#child.on('message', (message: FromClients) => {
      if ('ready' in message) this.#child.send({ start: job } satisfies ToClients)
      else this.#tally.resolve(message.tally)
    })
  }

  async stop(): Promise<Tally> {
    this.#child.send({ stop: true } satisfies ToClients)
    return await this.#tally.promise
  }
}

async function configuration(port: number): Promise<string> {
  const file = join(await tempFolder(), 'proxy.toml')
  const text = `
[admin_users.admin]
password = "admin"
[pools.app]
database = "postgres"
pool_size = ${servers}
auth_type = "trust"
query_wait_timeout = "1m"
query_wait_notify = "0ms"
servers = [{ host = "127.0.0.1", port = ${port} }]
[pools.app.users.app]
`
  await writeFile(file, text)
  return file
}

async function console(proxy: ProxyProcess): Promise<Client> {
  const client = new Client({
    host: proxy.host,
    port: proxy.port,
    user: 'admin',
    password: 'admin',
    database: 'pgbouncer',
  })
  await client.connect()
  atEndOfFile(() => client.end().catch(() => {}))
  return client
}

type Row = Record<string, number | string | null>

async function pool(operator: Client): Promise<Row> {
  const { rows } = await operator.query<Row>('SHOW POOLS')
  return rows.find(({ database }) => database === 'app') ?? {}
}

async function serversOf(operator: Client): Promise<number> {
  return Number((await pool(operator))['sv_idle'])
}

async function list(operator: Client, wanted: string): Promise<number> {
  const { rows } = await operator.query<{ list: string; items: number }>('SHOW LISTS')
  return rows.find(({ list }) => list === wanted)?.items ?? -1
}

async function statsTotals(operator: Client): Promise<Record<string, number>> {
  const { rows } = await operator.query<Row>('SHOW STATS_TOTALS')
  const row = rows.find(({ database }) => database === 'app') ?? {}
  return Object.fromEntries(Object.entries(row).map(([column, value]) => [column, Number(value)]))
}

function fdsOf({ pid }: ProxyProcess): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

function rssOf({ pid }: ProxyProcess): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}
