/** What operators pause and disable for the fleet holds at proxies that restart, join or are out of control's reach. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import { Client } from 'pg'
import { describe, expect, test } from 'vitest'
import type { OperationResult } from '../../../shared/api.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import { freePort } from '../../support/free-port.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startProxy } from '../../support/processes.ts'
import type { ControlProcess, ProxyProcess } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { Gate } from './gate.ts'
import { startRestartable } from './restartable.ts'
import { common, connect, fleet, openConsole, startWorld } from './world.ts'

const sql = ['CREATE ROLE app LOGIN', 'CREATE TABLE whoami (name text)', 'GRANT ALL ON whoami TO PUBLIC']
const names = ['app', 'reports', 'late', 'open'] as const

function documentOf(general: object = {}): (postgres: Postgres) => object {
  return ({ port }) => {
    const pool = {
      database: 'postgres',
      pool_size: 5,
      servers: [{ host: '127.0.0.1', port }],
      users: { app: { password: 'app' } },
    }
    return {
      ...common,
      general: { ...common.general, ...general },
      pools: Object.fromEntries(names.map((name) => [name, pool])),
    }
  }
}

async function order(
  control: ControlProcess,
  operation: string,
  pool: string,
  body: object = {},
): Promise<OperationResult> {
  const answer = await control.call('POST', `/v1/fleets/${fleet}/pools/${pool}/${operation}`, body)
  expect(answer.status).toBe(200)
  return answer.body as OperationResult
}

/** Databases that are paused or disabled, as the console shows them. */
async function operated(proxy: ProxyProcess): Promise<string[]> {
  const operator = await openConsole(proxy)
  const { rows } = await operator.query<Record<string, unknown>>('SHOW DATABASES')
  await operator.end()
  const states = (row: Record<string, unknown>) => ['paused', 'disabled'].filter((state) => row[state] === 1)
  return rows.flatMap((row) => states(row).map((state) => `${String(row['name'])} ${state}`)).toSorted()
}

/** Logs in and sends a query, again and again, from before the proxy listens. */
class Knocking {
  answers = 0
  /** Times at which an attempt waited for too long, or was refused by the proxy. */
  held = 0
  firstAnswerMs: number | null = null
  #stopping = false
  readonly #done: Promise<void>

  constructor(place: { readonly host: string; readonly port: number }, database: string) {
    this.#done = this.#run(place, database)
    atEndOfFile(async () => await this.stop())
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await this.#done
  }

  async #run({ host, port }: { readonly host: string; readonly port: number }, database: string): Promise<void> {
    while (!this.#stopping) {
      const limits = { connectionTimeoutMillis: 300, query_timeout: 300 }
      const client = new Client({ host, port, user: 'app', password: 'app', database, ...limits })
      client.on('error', () => undefined)
      try {
        await client.connect()
        await client.query('SELECT 1')
        this.answers += 1
        this.firstAnswerMs ??= Date.now()
      } catch (error) {
        if ((error as { code?: string }).code !== 'ECONNREFUSED') this.held += 1
      }
      void client.end().catch(() => undefined)
      await after(20)
    }
  }
}

async function answersOf(knocking: readonly Knocking[]): Promise<number[]> {
  await until(() => knocking.every(({ held, answers }) => held + answers >= 2))
  await Promise.all(knocking.map(async (one) => await one.stop()))
  return knocking.map(({ answers }) => answers)
}

describe.each([1, 2])('with %i workers', (workers) => {
  test('a proxy that starts again or joins serves no paused or disabled pool, not for one moment', async () => {
    const { control, proxies, token } = await startWorld({
      postgres: { sql, maxConnections: 100 },
      proxies: [{ id: 'proxy-1' }],
      document: documentOf({ workers }),
    })
    const first = proxies[0] as ProxyProcess
    const place = { host: '127.0.0.1', port: await freePort() }
    await order(control, 'pause', 'app', { reason: 'a new host' })
    await order(control, 'disable', 'reports')

    await first.stop()
    const down = await order(control, 'pause', 'late')
    const knocking = [first, place].flatMap((one) => ['app', 'reports', 'late'].map((name) => new Knocking(one, name)))
    await first.start()
    const joined = await startProxy({ control, fleet, token }, { id: 'proxy-2', port: place.port })
    const states = [await operated(first), await operated(joined)]
    const open = await Promise.all([first, joined].map(async (one) => await connect(one, { database: 'open' })))
    const rows = await Promise.all(open.map(async (client) => (await client.query('SELECT 1 AS one')).rows))
    const answers = await answersOf(knocking)
    const metrics = await (await fetch(`${joined.httpUrl}/metrics`)).text()
    const ready = await fetch(`${joined.httpUrl}/readyz`)
    const text = await ready.text()
    await order(control, 'resume', 'app')
    await order(control, 'enable', 'reports')
    await order(control, 'resume', 'late')
    const after = [await operated(first), await operated(joined)]
    const served = await connect(joined, { database: 'reports' })

    expect(down.proxies).toMatchObject([{ id: 'proxy-1', outcome: 'unreachable', message: 'follows at its next poll' }])
    expect(states).toEqual([1, 2].map(() => ['app paused', 'late paused', 'reports disabled']))
    expect(rows).toEqual([[{ one: 1 }], [{ one: 1 }]])
    expect(answers).toEqual([0, 0, 0, 0, 0, 0])
    expect(metrics).toContain('flotilla_orders{database="app",effect="paused"} 1')
    expect([ready.status, text.split('\n').slice(0, 2)]).toEqual([200, ['ready', 'paused by the fleet: app']])
    expect(after).toEqual([[], []])
    expect((await served.query('SELECT 2 AS two')).rows).toEqual([{ two: 2 }])
  }, 90_000)

  test('an engine that dies comes back paused', async () => {
    const fails = join(await tempFolder(), 'fails')
    const failing = new URL('../../support/failing-engine.ts', import.meta.url).href
    const { control, proxies } = await startWorld({
      postgres: { sql, maxConnections: 100 },
      proxies: [{ id: 'proxy-1', environment: { NODE_OPTIONS: `--import=${failing}`, FLOTILLA_TEST_FAILS: fails } }],
      document: documentOf({ workers }),
    })
    const proxy = proxies[0] as ProxyProcess
    await order(control, 'pause', 'app')
    await order(control, 'disable', 'reports')
    const knocking = ['app', 'reports'].map((name) => new Knocking(proxy, name))

    for (let deaths = 1; deaths <= workers; deaths += 1) {
      await writeFile(fails, '')
      const count = (): number => proxy.log.filter((line) => line.includes('the engine restarted')).length
      await until(async () => {
        await fetch(`${proxy.httpUrl}/metrics`)
        return count() === deaths
      })
    }
    const states = await operated(proxy)

    expect(await answersOf(knocking)).toEqual([0, 0])
    expect(states).toEqual(['app paused', 'reports disabled'])
  }, 90_000)
})

test('without control a pause holds over a restart, and ends by itself at its time', async () => {
  const { control, proxies } = await startWorld({
    postgres: { sql },
    proxies: [{ id: 'proxy-1' }],
    document: documentOf(),
  })
  const proxy = proxies[0] as ProxyProcess
  await order(control, 'pause', 'app')
  const { expires_at } = await order(control, 'pause', 'late', { for: 12 })
  await control.kill9()
  await proxy.kill9()

  const knocking = [new Knocking(proxy, 'app'), new Knocking(proxy, 'late')] as const
  await proxy.start()
  await until(async () => !(await operated(proxy)).includes('late paused'), undefined, 30_000)
  await until(() => knocking[1].answers > 0)
  await proxy.kill9()
  await proxy.start()
  const states = await operated(proxy)
  await Promise.all(knocking.map(async (one) => await one.stop()))

  expect(knocking[0].answers).toBe(0)
  expect(knocking[1].firstAnswerMs).toBeGreaterThanOrEqual(Date.parse(expires_at as string))
  expect(states).toEqual(['app paused'])
}, 120_000)

test('a manifest of before that is answered again neither resumes nor pauses, also after a restart', async () => {
  const { control, token } = await startWorld({ postgres: { sql }, proxies: [], document: documentOf() })
  const gate = await Gate.open(control.url)
  const proxy = await startProxy({ control: gate, fleet, token }, { id: 'proxy-1', hints: false })
  const replayed = async (manifest: Gate['replay']): Promise<void> => {
    const before = gate.replayed
    gate.replay = manifest
    await until(() => gate.replayed >= before + 3)
  }
  const follows = async (operation: string, states: readonly string[]): Promise<Gate['replay']> => {
    gate.replay = null
    const { number } = await order(control, operation, 'app')
    await until(() => gate.manifest?.headers['etag']?.endsWith(`.o${String(number)}"`) === true)
    await until(async () => (await operated(proxy)).join() === states.join())
    return gate.manifest ?? null
  }

  const paused = await follows('pause', ['app paused'])
  const resumed = await follows('resume', [])
  await replayed(paused)
  const afterPaused = await operated(proxy)
  await follows('pause', ['app paused'])
  await replayed(resumed)
  const afterResumed = await operated(proxy)
  await proxy.stop()
  const knocking = new Knocking(proxy, 'app')
  await proxy.start()
  await replayed(resumed)
  const restarted = await operated(proxy)
  const answers = await answersOf([knocking])
  await follows('resume', [])

  expect([afterPaused, afterResumed, restarted]).toEqual([[], ['app paused'], ['app paused']])
  expect(answers).toEqual([0])
}, 120_000)

test('a resume waits for the version of its time: no client reaches the former host in between', async () => {
  const next = await startPostgres({ sql: [...sql, "INSERT INTO whoami VALUES ('new')"] })
  const { control, token } = await startWorld({
    postgres: { sql: [...sql, "INSERT INTO whoami VALUES ('old')"] },
    proxies: [],
    document: documentOf(),
  })
  const gate = await Gate.open(control.url)
  const proxy = await startProxy({ control: gate, fleet, token }, { id: 'proxy-1', hints: false })
  const clients = await Promise.all(Array.from({ length: 10 }, async () => await connect(proxy)))
  const whoami = async (client: Client) =>
    (await client.query<{ name: string }>('SELECT name FROM whoami')).rows[0]?.name
  const before = await Promise.all(clients.map(whoami))
  await order(control, 'pause', 'app')
  await until(async () => (await operated(proxy)).includes('app paused'))

  const release = gate.hold()
  const asked = clients.map(whoami)
  await control.apply(fleet, documentOf()(next))
  await order(control, 'resume', 'app')
  gate.bodiesMs = 300
  await until(() => gate.held > 0)
  release()

  expect(new Set(before)).toEqual(new Set(['old']))
  expect(new Set(await Promise.all(asked))).toEqual(new Set(['new']))
}, 60_000)

test("what a console does on top of an order is that proxy's, until the next order for the pool", async () => {
  const { control, proxies } = await startWorld({ postgres: { sql }, document: documentOf() })
  const [first, second] = proxies as [ProxyProcess, ProxyProcess]
  const both = async () => [await operated(first), await operated(second)]
  await order(control, 'pause', 'app')
  const operator = await openConsole(first)

  await operator.query('RESUME app')
  const client = await connect(first)
  const { rows } = await client.query('SELECT 1 AS one')
  const resumed = await both()
  await order(control, 'disable', 'reports')
  const other = await both()
  await order(control, 'pause', 'app')
  const again = await both()
  await order(control, 'resume', 'app')
  await operator.query('PAUSE late')
  const own = await both()
  await order(control, 'resume', 'late')

  expect(rows).toEqual([{ one: 1 }])
  expect(resumed).toEqual([[], ['app paused']])
  expect(other).toEqual([['reports disabled'], ['app paused', 'reports disabled']])
  expect(again).toEqual([1, 2].map(() => ['app paused', 'reports disabled']))
  expect(own).toEqual([['late paused', 'reports disabled'], ['reports disabled']])
  expect(await both()).toEqual([['reports disabled'], ['reports disabled']])
}, 60_000)

test('a process that takes over is paused from its first moment, and the one that drains resumes with it', async () => {
  const { first, next, control } = await startRestartable({ drain_rate: 0 })
  const client = await connect(first)
  await client.query('SELECT 1')
  await order(control, 'pause', 'app')
  let answered = false
  const waiting = client.query('SELECT 1 AS one').finally(() => (answered = true))
  const knocking = new Knocking(first, 'app')

  const second = await next()
  await first.logged(/the other process serves clients/)
  const states = await operated(second)
  const answers = await answersOf([knocking])
  const before = answered
  await order(control, 'resume', 'app')
  const { rows } = await waiting

  expect(states).toEqual(['app paused'])
  expect([answers, before]).toEqual([[0], false])
  expect(rows).toEqual([{ one: 1 }])
}, 90_000)
