import { expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { common, connect, fleet, startWorld } from './world.ts'

test('a pause by control holds the clients of all proxies until the resume', async () => {
  const { control, proxies } = await startWorld({
    postgres: { sql: ['CREATE ROLE app LOGIN'] },
    document: ({ port }) => ({
      ...common,
      pools: {
        app: {
          database: 'postgres',
          servers: [{ host: '127.0.0.1', port, role: 'primary' }],
          users: { app: { password: 'app' } },
        },
      },
    }),
  })
  const operate = async (operation: string) => {
    const { body } = await control.call('POST', `/v1/fleets/${fleet}/pools/app/${operation}`)
    return (body as { proxies: { id: string; outcome: string }[] }).proxies.map(({ id, outcome }) => `${id} ${outcome}`)
  }
  const clients = await Promise.all(proxies.map((proxy) => connect(proxy)))
  const inside = clients[0] as (typeof clients)[0]
  await inside.query('BEGIN')

  const begun = await operate('pause')
  await inside.query('COMMIT')
  let paused: string[] = []
  await until(async () => (paused = await operate('pause')).every((line) => line.endsWith(' done')))
  let answered = 0
  const asked = clients.map(async (client) => {
    await client.query('SELECT 1')
    answered++
  })
  const replaced = await operate('reconnect')
  const before = answered
  const resumed = await operate('resume')
  await Promise.all(asked)

  expect(begun).toEqual(['proxy-1 under_way', 'proxy-2 done'])
  expect([paused, replaced, resumed]).toEqual(Array.from({ length: 3 }, () => ['proxy-1 done', 'proxy-2 done']))
  expect(before).toBe(0)
})
