import type { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { pidOf } from '../../../proxy/engine/cancel/cancel.ts'
import { until } from '../../support/engine.ts'
import { cancelRequest, query } from '../../support/frontend-messages.ts'
import { errorFields, WireClient } from '../../support/wire.ts'
import { common, connect, openConsole, startWorld } from './world.ts'
import type { World } from './world.ts'
import type { ProxyProcess } from '../../support/processes.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    postgres: { sql: ['CREATE ROLE app LOGIN', 'CREATE DATABASE app OWNER app'] },
    document: ({ port }) => ({
      ...common,
      general: { ...common.general, cancel_wait_timeout: '5s' },
      pools: {
        app: { servers: [{ host: '127.0.0.1', port }], users: { app: { password: 'app', server_password: '' } } },
      },
    }),
  })
})

/** A query through `one`, and a cancel request for it to `other`. Gives the SQLSTATE the query ended with. */
async function canceledVia(one: ProxyProcess, other: ProxyProcess): Promise<string | undefined> {
  const client = await WireClient.login(one, { user: 'app', password: 'app' })
  client.send(query('SELECT pg_sleep(600)'))
  await until(async () => (await world.postgres.activeQueries('SELECT pg_sleep%')) === 1)
  const { pid, secret } = client.key as NonNullable<WireClient['key']>

  const request = await WireClient.connect(other)
  request.send(cancelRequest(pid, secret))
  await request.readToEnd()

  const error = (await client.readUntil('Z')).find(({ tag }) => tag === 'E')
  client.destroy()
  request.destroy()
  return error === undefined ? undefined : errorFields(error)['C']
}

async function peersOf(proxy: ProxyProcess): Promise<number[]> {
  const operator: Client = await openConsole(proxy)
  const { rows } = await operator.query<{ peer_id: number }>('SHOW PEERS')
  await operator.end()
  return rows.map((row) => row.peer_id)
}

test('85: a cancel that reaches another proxy of the fleet cancels, either way, also while control is down', async () => {
  const [one, two] = world.proxies as [ProxyProcess, ProxyProcess]
  await until(async () => (await peersOf(one)).length > 0 && (await peersOf(two)).length > 0)

  expect(await canceledVia(one, two)).toBe('57014')
  expect(await canceledVia(two, one)).toBe('57014')
  expect([await peersOf(one), await peersOf(two)]).toEqual([
    [1, 2],
    [1, 2],
  ])

  await world.control.kill9()
  expect(await canceledVia(one, two)).toBe('57014')
  expect(await canceledVia(two, one)).toBe('57014')
})

test('85: a request with a number of no proxy is closed without an answer, and cancels no query', async () => {
  const [one] = world.proxies as [ProxyProcess]
  const client = await connect(one)
  const running = client.query('SELECT pg_sleep(0.5), 1 AS a')

  const request = await WireClient.connect(one)
  request.send(cancelRequest(pidOf(77, 0, 1), Buffer.alloc(4)))
  const { messages } = await request.readToEnd()

  expect(messages).toEqual([])
  expect((await running).rows[0]).toMatchObject({ a: 1 })
  request.destroy()
})

test('85: a proxy that starts again while control is down still finds its peers, and they find it', async () => {
  const [one, two] = world.proxies as [ProxyProcess, ProxyProcess]
  await one.stop()
  await one.start()

  expect(await canceledVia(one, two)).toBe('57014')
  expect(await canceledVia(two, one)).toBe('57014')
})
