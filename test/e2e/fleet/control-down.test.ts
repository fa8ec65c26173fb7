import { expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { freePort } from '../../support/free-port.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startControl, startProxy } from '../../support/processes.ts'
import { common, connect, fleet, Load, openConsole, startWorld } from './world.ts'

function document(postgres: Postgres): object {
  return {
    ...common,
    pools: {
      app: {
        database: 'postgres',
        servers: [{ host: '127.0.0.1', port: postgres.port, role: 'primary' }],
        users: { app: { password: 'app', server_user: 'postgres', pool_size: 5 } },
      },
    },
  }
}

/** Proxies ask again after 1 s, doubling to 60: the longer control was away, the later they notice that it is back. */
const backoffMsMax = 80_000

interface Lost {
  readonly id: string
  readonly cause: string
  readonly sqlstate: string | null
  readonly proxy: string
  readonly backend_pid: number
}

test('112, 114: without control, traffic is unharmed, a proxy starts again from what it knows, and no event is lost or doubled', async () => {
  const port = await freePort()
  const { postgres, control, proxies, token } = await startWorld({ control: { port }, document })
  const [first, second] = proxies
  if (first === undefined || second === undefined) throw new Error('two proxies were started')
  const load = await Load.start([first], { clients: 10 })

  await control.kill9()

  // The second proxy dies and starts again while it cannot poll.
  await second.kill9()
  const again = await startProxy(
    { control, fleet, token },
    { id: 'proxy-2', state: second.state as string, port: second.port },
  )
  const client = await connect(again)
  expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])

  // Servers are lost while control is away: one of each proxy, known by its process id, and idle, so without a client.
  const killed = new Set<number>()
  await load.stop()
  for (const proxy of [first, again]) {
    const user = await connect(proxy)
    const operator = await openConsole(proxy)
    const { rows } = await user.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    const pid = rows[0]?.pid as number
    await postgres.sql('SELECT pg_terminate_backend($1)', [pid])
    killed.add(pid)
    await until(async () => {
      const servers = await operator.query<{ remote_pid: number }>('SHOW SERVERS')
      return servers.rows.every((server) => server.remote_pid !== pid)
    })
    expect((await user.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  }
  expect(load.failures).toEqual([])
  expect(load.transactions).toBeGreaterThan(100)

  // One proxy dies once more before it could report.
  await again.kill9()
  const third = await startProxy(
    { control, fleet, token },
    { id: 'proxy-2', state: second.state as string, port: second.port },
  )
  expect((await (await connect(third)).query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])

  const back = await startControl({ port, folder: control.folder, token: control.token })
  const lost = async (): Promise<Lost[]> => {
    const { body } = await back.call('GET', `/v1/fleets/${fleet}/disconnects`)
    return (body as { disconnects: Lost[] }).disconnects
  }
  await until(
    async () => (await lost()).length >= killed.size,
    () => 'the events arrive',
    backoffMsMax,
  )
  await until(
    async () => {
      const { body } = await back.call('GET', `/v1/fleets/${fleet}/proxies`)
      return (body as { proxies: { state: string }[] }).proxies.every((proxy) => proxy.state === 'in_sync')
    },
    () => 'both proxies are in sync',
    backoffMsMax,
  )

  const events = await lost()
  expect(events).toHaveLength(killed.size)
  expect(new Set(events.map((event) => event.backend_pid))).toEqual(killed)
  expect(events.map((event) => [event.cause, event.sqlstate])).toEqual([
    ['terminated', '57P01'],
    ['terminated', '57P01'],
  ])
  expect(new Set(events.map((event) => event.proxy))).toEqual(new Set(['proxy-1', 'proxy-2']))
}, 240_000)
