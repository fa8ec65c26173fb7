/** One proxy process follows another on the same address, while clients go on with their transactions. */
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import { Client } from 'pg'
import { describe, expect, test } from 'vitest'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startProxy } from '../../support/processes.ts'
import type { ProxyOptions, ProxyProcess } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { common, connect, fleet, startWorld, untilRuns, openConsole } from './world.ts'
import type { World } from './world.ts'

const sql = ['CREATE ROLE app LOGIN']

function documentOf(general: object): (postgres: Postgres) => object {
  return ({ port }) => ({
    ...common,
    general: { ...common.general, ...general },
    defaults: { pool_size: 5 },
    pools: {
      app: { database: 'postgres', servers: [{ host: '127.0.0.1', port }], users: { app: { password: 'app' } } },
      sessions: {
        database: 'postgres',
        pool_mode: 'session',
        servers: [{ host: '127.0.0.1', port }],
        users: { app: { password: 'app' } },
      },
    },
  })
}

interface Restartable extends World {
  readonly first: ProxyProcess
  /** A process that takes over, started as the first one was. */
  readonly next: (more?: ProxyOptions) => Promise<ProxyProcess>
}

async function startRestartable(general: object): Promise<Restartable> {
  const environment = { FLOTILLA_TAKEOVER: join(await tempFolder(), 'takeover') }
  const world = await startWorld({
    postgres: { sql, maxConnections: 100 },
    proxies: [{ id: 'proxy-1', environment }],
    document: documentOf(general),
  })
  const first = world.proxies[0] as ProxyProcess
  const { control, token } = world
  // A port of its own for HTTP, so that the one that answers there is the next.
  const same = { id: 'proxy-1', environment, port: first.port, state: first.state as string }
  return {
    ...world,
    first,
    next: async (more = {}) => await startProxy({ control, fleet, token }, { ...same, ...more }),
  }
}

/** Clients as applications write them: whoever is sent away before a transaction has begun connects again. */
class Applications {
  readonly failures: string[] = []
  transactions = 0
  moves = 0
  #stopping = false
  readonly #clients: Promise<void>[]

  constructor(proxy: ProxyProcess, count: number) {
    this.#clients = Array.from({ length: count }, async () => await this.#run(proxy))
  }

  async #run(proxy: ProxyProcess): Promise<void> {
    let client: Client | undefined
    while (!this.#stopping) {
      try {
        client ??= await connected(proxy)
        const begun = await began(client)
        if (!begun) {
          this.moves++
          client = undefined
          continue
        }
        await client.query('SELECT pg_sleep(0.001)')
        await client.query('COMMIT')
        this.transactions++
        await after(2)
      } catch (error) {
        this.failures.push(error instanceof Error ? `${error.message} ${error.stack}` : String(error))
        return
      }
    }
    await client?.end()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#clients)
  }
}

const gone = new WeakSet<Client>()

async function connected({ host, port }: ProxyProcess): Promise<Client> {
  const client = new Client({ host, port, user: 'app', password: 'app', database: 'app' })
  client.on('error', (error: Error & { code?: string }) => {
    if (error.code === '57P01' || error.message === 'Connection terminated unexpectedly') gone.add(client)
  })
  await client.connect()
  atEndOfFile(async () => await client.end().catch(() => undefined))
  return client
}

/** False when it was sent away instead, or before. */
async function began(client: Client): Promise<boolean> {
  if (gone.has(client)) return false
  try {
    await client.query('BEGIN')
    return true
  } catch (error) {
    if ((error as { code?: string }).code === '57P01' || gone.has(client)) return false
    throw error
  }
}

describe.each([1, 2])('with %i workers', (workers) => {
  test('a process takes over under load: no transaction fails and no connection is refused', async () => {
    const { first, next, control } = await startRestartable({ workers, drain_rate: 40 })
    const load = new Applications(first, 16)
    let logins = 0
    const newcomer = { mayCome: true }
    const newcomers = (async () => {
      while (newcomer.mayCome) {
        const client = await connected(first)
        logins++
        if (await began(client)) await client.end()
      }
    })()
    await until(() => load.transactions > 100)

    const second = await next()
    const code = await first.ended()
    const before = load.transactions
    await until(() => load.transactions > before + 100)
    newcomer.mayCome = false
    await newcomers
    await load.stop()
    const answer = await control.call('GET', `/v1/fleets/${fleet}/proxies/proxy-1`)

    expect(load.failures).toEqual([])
    expect(code).toBe(0)
    expect(load.moves).toBeGreaterThanOrEqual(16)
    expect(logins).toBeGreaterThan(0)
    expect(second.pid).toBeDefined()
    expect(answer.body).toMatchObject({ state: 'in_sync' })
  }, 90_000)
})

test('with drain_rate 0 nobody is sent away, and the former process ends with its last client', async () => {
  const { first, next } = await startRestartable({ drain_rate: 0 })
  const idle = await connect(first)
  const session = await connect(first, { database: 'sessions' })

  await next()
  await first.logged(/the other process serves clients/)
  const answer = await idle.query('SELECT 1 AS one')
  await idle.end()
  const sessionAnswer = await session.query('SELECT 2 AS two')
  const stillRuns = first.pid !== undefined
  await session.end()
  const code = await first.ended()

  expect(answer.rows).toEqual([{ one: 1 }])
  expect(sessionAnswer.rows).toEqual([{ two: 2 }])
  expect(stillRuns).toBe(true)
  expect(code).toBe(0)
}, 60_000)

test('a session-mode client stays until it leaves; drain_timeout bounds that', async () => {
  const { first, next } = await startRestartable({ drain_rate: 100, drain_timeout: '300ms', shutdown_timeout: '200ms' })
  const session = await connect(first, { database: 'sessions' })
  const errors: string[] = []
  session.on('error', (error: Error & { code?: string }) => errors.push(error.code ?? error.message))
  await session.query('BEGIN')

  await next()
  const code = await first.ended()

  expect(code).toBe(0)
  expect(errors[0]).toBe('57P01')
}, 60_000)

test('a process that fails when it has taken over leaves everything to the one that runs', async () => {
  const { first, next, control, postgres } = await startRestartable({})
  const client = await connect(first)
  const operator = await openConsole(first)

  await expect(next({ state: '/dev/null/state' })).rejects.toThrow('/dev/null/state')
  await until(async () => (await fetch(`${first.httpUrl}/readyz`).catch(() => null))?.status === 200)
  const version = await control.apply(fleet, documentOf({ client_login_timeout: '59s' })(postgres))
  await untilRuns(operator, version)
  const answer = await client.query('SELECT 1 AS one')
  const second = await next()
  await second.logged(/took the listener/)

  expect(answer.rows).toEqual([{ one: 1 }])
  expect(await first.logged(/this one goes on/)).toContain('error')
  await Promise.all([client.end(), operator.end()])
  expect(await first.ended()).toBe(0)
}, 90_000)
