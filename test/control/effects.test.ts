import { expect, test } from 'vitest'
import type { Written } from '../../shared/api.ts'
import { inProcessControl } from './in-process.ts'

const primary = { host: 'one', port: 5432, role: 'primary' }
const replica = { host: 'two', port: 5433, role: 'replica' }
const user = (keys: object = {}): object => ({ password: 'x', ...keys })

async function fleetOf(proxies: readonly string[], first: object) {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(first)
  for (const id of proxies) {
    await control.call('POST', `/v1/fleets/demo/proxies/${id}/hello`, {
      token,
      body: { boot: `boot-${id}`, agent_version: '0.1.0', listen: '127.0.0.1:6432' },
    })
  }
  return control
}

test('a plan names replicas that nothing uses, because their pool has a primary', async () => {
  const control = await fleetOf([], { pools: { app: { servers: [primary], users: { web: user() } } } })

  const { body } = await control.apply<Written>({
    pools: {
      app: { servers: [primary, replica], users: { web: user() } },
      reports: { servers: [replica], users: { web: user() } },
    },
  })

  expect(body.effects.unused_replicas).toEqual([{ pool: 'app', host: 'two', port: 5433 }])
})

test('a plan names keys that take effect with the next start, and the proxies', async () => {
  const pools = { app: { servers: [primary], users: { web: user() } } }
  const control = await fleetOf(['px1', 'px2'], { pools })

  const { body } = await control.apply<Written>({ general: { listen_port: 7000, max_client_connections: 5 }, pools })

  expect(body.effects.needs_restart).toEqual([{ key: 'listen_port', proxies: ['px1', 'px2'] }])
})

test('a plan counts the servers that reconnect, once for users who share them', async () => {
  const users = { web: user({ server_user: 'role' }), batch: user({ server_user: 'role' }), own: user() }
  const pool = (servers: object[]): object => ({
    pools: {
      app: { servers, server_password: 'x', pool_size: 7, users },
      other: { servers: [primary], server_password: 'x', users },
    },
  })
  const control = await fleetOf(['px1', 'px2', 'px3'], pool([primary]))

  const { body } = await control.apply<Written>(pool([{ ...primary, port: 5555 }]))

  expect(body.effects.reconnects).toEqual([
    { pool: 'app', server_user: 'role', servers_max: 21 },
    { pool: 'app', server_user: 'own', servers_max: 21 },
  ])
})

test('a plan that changes nothing of this kind has no effects', async () => {
  const pools = { app: { servers: [primary], users: { web: user() } } }
  const control = await fleetOf(['px1'], { pools })

  const { body } = await control.apply<Written>({ defaults: { pool_size: 3 }, pools })

  expect(body.effects).toEqual({ unused_replicas: [], needs_restart: [], reconnects: [] })
})
