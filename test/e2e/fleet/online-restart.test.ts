/** One proxy process follows another on the same address, while clients go on with their transactions. */
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import { Client } from 'pg'
import { describe, expect, test } from 'vitest'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import { cancelRequest, query } from '../../support/frontend-messages.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startProxy } from '../../support/processes.ts'
import type { ProxyOptions, ProxyProcess } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { errorFields, WireClient } from '../../support/wire.ts'
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
  readonly takeover: string
  /** A process that takes over, started as the first one was. */
  readonly next: (more?: ProxyOptions) => Promise<ProxyProcess>
}

async function startRestartable(general: object, path?: string): Promise<Restartable> {
  const takeover = path ?? join(await tempFolder(), 'takeover')
  const environment = { FLOTILLA_TAKEOVER: takeover }
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
    takeover,
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

  /** As many at each place. */
  constructor(places: readonly Place[], count: number) {
    this.#clients = places.flatMap((place) => Array.from({ length: count }, async () => await this.#run(place)))
  }

  async #run(proxy: Place): Promise<void> {
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

/** Where clients connect: an address, or a folder with a Unix socket. */
interface Place {
  readonly host: string
  readonly port: number
}

async function connected({ host, port }: Place): Promise<Client> {
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
    const dir = await tempFolder()
    const { first, next, control } = await startRestartable({ workers, drain_rate: 40, unix_socket_dir: dir })
    const places = [first, { host: dir, port: first.port }]
    const load = new Applications(places, 8)
    const logins = places.map(() => 0)
    const newcomer = { mayCome: true }
    const newcomers = places.map(async (place, index) => {
      while (newcomer.mayCome) {
        const client = await connected(place)
        logins[index] = (logins[index] ?? 0) + 1
        if (await began(client)) await client.end()
      }
    })
    await until(() => load.transactions > 100)

    const second = await next()
    const code = await first.ended()
    const [before, loginsBefore] = [load.transactions, [...logins]]
    await until(() => load.transactions > before + 100)
    await until(() => logins.every((count, index) => count > (loginsBefore[index] ?? 0)))
    newcomer.mayCome = false
    await Promise.all(newcomers)
    await load.stop()
    const answer = await control.call('GET', `/v1/fleets/${fleet}/proxies/proxy-1`)

    expect(load.failures).toEqual([])
    expect(code).toBe(0)
    expect(load.moves).toBeGreaterThanOrEqual(16)
    expect(Math.min(...loginsBefore)).toBeGreaterThan(0)
    expect(answer.body).toMatchObject({ state: 'in_sync' })
    expect(existsSync(join(dir, `.s.PGSQL.${first.port}`))).toBe(true)
    expect(await second.stop()).toBe(0)
    expect(existsSync(join(dir, `.s.PGSQL.${first.port}`))).toBe(false)
  }, 90_000)
})

/** A client of `proxy` whose query sleeps until it is canceled. */
async function sleeper(proxy: Place, { postgres }: World): Promise<WireClient> {
  const before = await postgres.activeQueries('SELECT pg_sleep(600)%')
  const client = await WireClient.login(proxy, { user: 'app', password: 'app' })
  client.send(query('SELECT pg_sleep(600)'))
  await until(async () => (await postgres.activeQueries('SELECT pg_sleep(600)%')) === before + 1)
  return client
}

/** Resolves when the request was passed on, or had nothing to hit. */
async function cancel(at: Place, pid: number, secret: Uint8Array): Promise<void> {
  const request = await WireClient.connect(at)
  request.send(cancelRequest(pid, secret))
  await request.readToEnd()
  request.destroy()
}

async function sqlstateOf(client: WireClient): Promise<string | undefined> {
  const error = (await client.readUntil('Z')).find(({ tag }) => tag === 'E')
  client.destroy()
  return error === undefined ? undefined : errorFields(error)['C']
}

describe.each([1, 2])('with %i workers', (workers) => {
  test('a cancel request finds its client in the process that drains, and a wrong key finds nobody', async () => {
    const world = await startRestartable({ workers, drain_rate: 0 })
    const { first, next } = world
    // With two workers, some for each of them.
    const sleepers = [await sleeper(first, world), await sleeper(first, world), await sleeper(first, world)]
    await next()
    await first.logged(/the other process serves clients/)
    const newcomer = await sleeper(first, world)

    const keys = [...sleepers, newcomer].map(({ key }) => key as NonNullable<WireClient['key']>)
    for (const { pid, secret } of keys) {
      const wrong = Buffer.from(secret.map((byte) => byte ^ 255))
      await cancel(first, pid, wrong)
      // As if it came from a peer, or through the door already.
      for (const mark of [1, 2]) await cancel(first, pid, Buffer.concat([wrong, Buffer.from([mark])]))
    }
    const stillRun = await world.postgres.activeQueries('SELECT pg_sleep(600)%')
    for (const { pid, secret } of keys) await cancel(first, pid, secret)

    expect(stillRun).toBe(4)
    expect(await Promise.all([...sleepers, newcomer].map(sqlstateOf))).toEqual(['57014', '57014', '57014', '57014'])
    expect(await first.ended()).toBe(0)
  }, 90_000)
})

test('a cancel request finds its client two restarts back, also when the process between has ended', async () => {
  const world = await startRestartable({ drain_rate: 0 })
  const { first, next } = world
  const oldest = await sleeper(first, world)
  const second = await next()
  await first.logged(/the other process serves clients/)
  const middle = await sleeper(first, world)
  await next()
  await second.logged(/the other process serves clients/)

  const { pid, secret } = middle.key as NonNullable<WireClient['key']>
  await cancel(first, pid, secret)
  const ofMiddle = await sqlstateOf(middle)
  const code = await second.ended()
  const { pid: oldPid, secret: oldSecret } = oldest.key as NonNullable<WireClient['key']>
  await cancel(first, oldPid, oldSecret)

  expect(ofMiddle).toBe('57014')
  expect(code).toBe(0)
  expect(await sqlstateOf(oldest)).toBe('57014')
  expect(await first.ended()).toBe(0)
}, 90_000)

test('nobody logs in by the door of a process, and nobody but its user may open it', async () => {
  const { first, takeover } = await startRestartable({})
  const folder = `${takeover}.d`

  const refused = await connected({ host: folder, port: 1 }).catch((error: { code: string }) => error.code)
  const modes = [folder, join(folder, '.s.PGSQL.1')].map((path) => statSync(path).mode & 0o777)
  await first.stop()

  expect(refused).toBe('57P03')
  expect(modes).toEqual([0o700, 0o600])
  expect(existsSync(join(folder, '.s.PGSQL.1'))).toBe(false)
}, 60_000)

test('a process that cannot open its door serves clients all the same, and says what it lacks', async () => {
  const takeover = join(await tempFolder(), 'takeover')
  mkdirSync(join(`${takeover}.d`, '.s.PGSQL.1'), { recursive: true })
  const { first } = await startRestartable({}, takeover)

  const client = await connect(first)
  const { rows } = await client.query('SELECT 1 AS one')
  await client.end()

  expect(rows).toEqual([{ one: 1 }])
  expect(await first.logged(/cancel requests will not reach/)).toContain('.s.PGSQL.1')
}, 60_000)

test('with another unix_socket_dir the next process opens its own, and takes the former file away', async () => {
  const [dir, other] = [await tempFolder(), await tempFolder()]
  const { first, next, control, postgres } = await startRestartable({ unix_socket_dir: dir })
  const file = `.s.PGSQL.${first.port}`
  const before = existsSync(join(dir, file))
  await control.apply(fleet, documentOf({ unix_socket_dir: other })(postgres))

  const second = await next()
  await first.ended()
  const client = await connected({ host: other, port: first.port })
  const { rows } = await client.query('SELECT 1 AS one')
  await client.end()

  expect(before).toBe(true)
  expect(rows).toEqual([{ one: 1 }])
  expect(existsSync(join(dir, file))).toBe(false)
  expect(await second.stop()).toBe(0)
}, 60_000)

interface Lost {
  readonly id: string
  readonly pool: string
  readonly backend_pid: number
  readonly cause: string
}

async function lostServers({ control }: World): Promise<Lost[]> {
  const { body } = await control.call('GET', `/v1/fleets/${fleet}/disconnects?limit=500`)
  return (body as { disconnects: Lost[] }).disconnects
}

/** A session-mode client, and the process id of its server. */
async function sessionOf(proxy: Place): Promise<{ client: Client; pid: number }> {
  const client = await connect(proxy, { database: 'sessions' })
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  return { client, pid: rows[0]?.pid ?? 0 }
}

test('what the process that drains loses reaches control, each server once', async () => {
  const world = await startRestartable({ drain_rate: 0 })
  const { first, next, postgres, control } = world
  const [one, two] = [await sessionOf(first), await sessionOf(first)]
  await next()
  await first.logged(/the other process serves clients/)

  await postgres.sql('SELECT pg_terminate_backend($1)', [one.pid])
  await until(async () => (await lostServers(world)).some(({ backend_pid }) => backend_pid === one.pid))
  // It is lost while nobody takes reports, and told when somebody does.
  await control.kill9()
  await postgres.sql('SELECT pg_terminate_backend($1)', [two.pid])
  const code = await first.ended()
  await control.start()
  await until(async () => (await lostServers(world)).some(({ backend_pid }) => backend_pid === two.pid))
  await until(() => readdirSync(join(first.state as string, 'drains')).length === 0)

  const lost = await lostServers(world)
  expect(code).toBe(0)
  expect(lost.map(({ backend_pid, pool, cause }) => ({ backend_pid, pool, cause }))).toEqual([
    { backend_pid: two.pid, pool: 'sessions', cause: 'terminated' },
    { backend_pid: one.pid, pool: 'sessions', cause: 'terminated' },
  ])
}, 90_000)

test('and it reaches control by the next process when the one that took over was killed', async () => {
  const world = await startRestartable({ drain_rate: 0 })
  const { first, next, postgres } = world
  const [one, two] = [await sessionOf(first), await sessionOf(first)]
  const second = await next()
  await first.logged(/the other process serves clients/)
  await postgres.sql('SELECT pg_terminate_backend($1)', [one.pid])
  await until(async () => (await lostServers(world)).length === 1)

  await second.kill9()
  await postgres.sql('SELECT pg_terminate_backend($1)', [two.pid])
  const third = await next()
  await until(async () => (await lostServers(world)).length === 2)
  await first.ended()
  await until(() => readdirSync(join(first.state as string, 'drains')).length === 0)

  expect((await lostServers(world)).map(({ backend_pid }) => backend_pid)).toEqual([two.pid, one.pid])
  expect(await third.stop()).toBe(0)
}, 90_000)

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
  const dir = await tempFolder()
  const { first, next, control, postgres } = await startRestartable({ unix_socket_dir: dir })
  const client = await connect(first)
  const operator = await openConsole(first)

  await expect(next({ state: '/dev/null/state' })).rejects.toThrow('/dev/null/state')
  await until(async () => (await fetch(`${first.httpUrl}/readyz`).catch(() => null))?.status === 200)
  const version = await control.apply(fleet, documentOf({ client_login_timeout: '59s' })(postgres))
  await untilRuns(operator, version)
  const answer = await client.query('SELECT 1 AS one')
  await (await connected({ host: dir, port: first.port })).end()
  const second = await next()
  await second.logged(/took over the listener of the running process/)

  expect(answer.rows).toEqual([{ one: 1 }])
  expect(await first.logged(/this one continues/)).toContain('error')
  await Promise.all([client.end(), operator.end()])
  expect(await first.ended()).toBe(0)
}, 90_000)
