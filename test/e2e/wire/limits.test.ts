import { afterEach, beforeAll, expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { query, startup } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import { commandComplete, errorResponse, ready, startScriptedServer } from '../../support/scripted-server.ts'
import { WireClient } from '../../support/wire.ts'
import { loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World
const clients: WireClient[] = []

beforeAll(async () => {
  world = await startWorld({
    general: { max_client_connections: 8, client_login_timeout: '400ms' },
    pools: () => ({
      impatient: { pool_size: 1, query_wait_timeout: '200ms' },
      scram: { auth_type: 'scram-sha-256', users: { app: { password: 'secret' } } },
      warm: { pool_size: 5, min_pool_size: 3 },
      forgetful: { pool_size: 5, idle_timeout: '100ms', min_pool_size: 1 },
      mortal: { pool_size: 2, server_lifetime: '300ms' },
    }),
  })
})

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await until(async () => (await world.engine.snapshot()).clients === 0)
})

async function login(pool: string, password = 'secret'): Promise<WireClient> {
  const client = await loginTo(world, pool, { password })
  clients.push(client)
  return client
}

const one = query('SELECT 1 AS a')

test('one client more than max_client_connections is refused with 53300 in the words of PgBouncer, until one leaves', async () => {
  for (let i = 0; i < 8; i++) await login('transaction5')

  const refused = login('transaction5')

  await expect(refused).rejects.toMatchObject({
    sqlstate: '53300',
    message: '53300 no more connections allowed (max_client_conn)',
  })
  clients.pop()?.destroy()
  await until(async () => (await world.engine.snapshot()).clients === 7)
  await login('transaction5')
  expect((await world.engine.snapshot()).clients).toBe(8)
})

test('the log says whose login was refused and why, and nothing of what they tried', async () => {
  const refused = world.engine.log.length
  await expect(login('scram', 'a wrong guess')).rejects.toMatchObject({ sqlstate: '28P01' })
  await expect(login('nowhere')).rejects.toMatchObject({ sqlstate: '3D000' })
  await expect(login('nowhere', 'a wrong guess')).rejects.toMatchObject({ sqlstate: '28P01' })
  await until(() => world.engine.log.length === refused + 3)

  const lines = world.engine.log.slice(refused)
  expect(lines).toMatchObject([
    { level: 'warn', message: 'login rejected', fields: { database: 'scram', user: 'app', sqlstate: '28P01' } },
    { level: 'warn', message: 'login rejected', fields: { database: 'nowhere', client: '127.0.0.1' } },
    {
      fields: { reason: 'password authentication failed for user "app" (database "nowhere" does not exist)' },
    },
  ])
  expect(JSON.stringify(lines)).not.toContain('guess')
})

test('logins at the same time do not get past max_client_connections', async () => {
  const outcomes = await Promise.all(
    Array.from({ length: 40 }, () =>
      login('scram').then(
        () => 'let in',
        (error: { sqlstate: string }) => error.sqlstate,
      ),
    ),
  )

  expect(outcomes.filter((outcome) => outcome === 'let in')).toHaveLength(8)
  expect(outcomes.filter((outcome) => outcome === '53300')).toHaveLength(32)
})

test('101: a client that waits longer than query_wait_timeout is told so in the words of PgBouncer', async () => {
  const [holder, waiter] = [await login('impatient'), await login('impatient')]
  holder.send(query('BEGIN'))
  await holder.readUntil('Z')
  const begun = performance.now()

  waiter.send(one)
  const { messages } = await waiter.readToEnd()
  const waitedMs = performance.now() - begun

  expect(messages.map(describe)).toEqual(['E FATAL 53300 query_wait_timeout'])
  expect(waitedMs).toBeGreaterThanOrEqual(195)
  expect(waitedMs).toBeLessThan(2000)
  holder.send(query('COMMIT'))
  expect((await holder.readUntil('Z')).map(describe)).toEqual(['C COMMIT', 'Z I'])
})

test('12: a login that does not end is closed at client_login_timeout', async () => {
  const silent = await WireClient.connect(world.engine)
  const halfway = await WireClient.connect(world.engine)
  const asked = await WireClient.connect(world.engine)
  const begun = performance.now()

  halfway.send(startup({ user: 'app', database: 'scram' }).subarray(0, 9))
  asked.send(startup({ user: 'app', database: 'scram' }))
  const ends = await Promise.all([silent, halfway, asked].map((client) => client.readToEnd()))
  const tookMs = performance.now() - begun

  expect(ends.map(({ messages }) => messages.filter(({ tag }) => tag === 'E').map(describe))).toEqual(
    Array.from({ length: 3 }, () => [expect.stringMatching(/^E FATAL 57014 .*client_login_timeout/)]),
  )
  expect(tookMs).toBeGreaterThanOrEqual(390)
  expect(tookMs).toBeLessThan(3000)
  expect((await world.engine.snapshot()).clientsLogin).toBe(0)
})

test('pool_size is never passed, however many clients ask', async () => {
  const connections = async () => {
    const { rowCount } = await world.postgres.sql("SELECT FROM pg_stat_activity WHERE application_name = 'sized'")
    return rowCount ?? 0
  }
  const asking = []
  for (let i = 0; i < 8; i++) {
    const client = await loginTo(world, 'transaction5', { parameters: { application_name: 'sized' } })
    clients.push(client)
    client.send(query('SELECT pg_sleep(0.3)'))
    asking.push(client.readUntil('Z'))
  }

  await until(async () => (await connections()) === 5)
  const { serversActive, serversLogin, clientsWaiting } = await world.engine.pool('transaction5')
  await Promise.all(asking)

  expect({ serversActive, serversLogin, clientsWaiting }).toEqual({
    serversActive: 5,
    serversLogin: 0,
    clientsWaiting: 3,
  })
  expect((await world.engine.pool('transaction5')).serversIdle).toBe(5)
})

test('min_pool_size is reached without clients, and again after its servers were lost', async () => {
  await world.engine.poolUntil('warm', ({ serversIdle }) => serversIdle === 3)

  await world.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")

  await world.engine.poolUntil('warm', ({ closed }) => (closed.terminated ?? 0) >= 3)
  const again = await world.engine.poolUntil('warm', ({ serversIdle }) => serversIdle === 3)
  expect(again.serversActive + again.serversLogin).toBe(0)
})

test('idle servers above min_pool_size are closed after idle_timeout', async () => {
  const users = await Promise.all(Array.from({ length: 4 }, () => login('forgetful')))
  for (const client of users) client.send(query('SELECT pg_sleep(0.1)'))
  await Promise.all(users.map((client) => client.readUntil('Z')))

  const left = await world.engine.poolUntil('forgetful', ({ serversIdle }) => serversIdle === 1)

  expect(left.closed.idle).toBeGreaterThanOrEqual(3)
  expect(left.serversActive).toBe(0)
})

test('a server older than server_lifetime is closed when it is free, not before', async () => {
  const client = await login('mortal')
  client.send(query('BEGIN; SELECT pg_backend_pid(), pg_sleep(0.4)'))
  await client.readUntil('Z')
  const before = await world.engine.pool('mortal')
  client.send(query('COMMIT'))
  await client.readUntil('Z')

  const after = await world.engine.poolUntil('mortal', ({ closed }) => closed.lifetime === 1)

  expect(before.serversActive).toBe(1)
  expect(after.serversActive + after.serversIdle).toBe(0)
  client.send(one)
  expect((await client.readUntil('Z')).map(({ tag }) => tag).join('')).toBe('TDCZ')
})

test('server_check_query runs on unused servers alone: one that fails it or does not answer is closed', async () => {
  const answers = ['SELECT', 'FAIL', 'SILENCE']
  const asked: string[] = []
  const scripted = await startScriptedServer(async (connection) => {
    await connection.acceptLogin()
    for (;;) {
      const { tag, body } = await connection.read()
      if (tag !== 'Q') continue
      asked.push(body.toString('utf8', 0, body.length - 1))
      const answer = answers.shift() ?? 'SELECT'
      if (answer === 'SILENCE') continue
      connection.send(
        answer === 'FAIL' ? errorResponse('ERROR', '58030', 'disk gone') : commandComplete('SELECT'),
        ready(),
      )
    }
  })
  const checked = await startWorld({
    pools: () => ({
      checked: {
        servers: [{ host: '127.0.0.1', port: scripted.port }],
        min_pool_size: 1,
        server_check_query: 'SELECT 7',
        server_check_delay: '100ms',
        connect_timeout: '200ms',
      },
    }),
  })

  const { closed } = await checked.engine.poolUntil('checked', (pool) => pool.closed.health_check === 2)
  const lost = checked.engine.lost.map(({ cause, sqlstate, message }) => ({ cause, sqlstate, message }))
  const client = await loginTo(checked, 'checked')
  client.send(query('SELECT 1'))
  await client.readUntil('Z')

  expect(closed).toEqual({ health_check: 2 })
  expect(lost).toEqual([
    { cause: 'health_check', sqlstate: '58030', message: 'disk gone' },
    { cause: 'health_check', sqlstate: null, message: 'no response to server_check_query within 200 ms' },
  ])
  expect(new Set(asked)).toEqual(new Set(['SELECT 7', 'SELECT 1']))
  client.destroy()
})

test('a server that passes server_check_query is as unused as before', async () => {
  const world = await startWorld({
    pools: () => ({
      checked: { pool_size: 2, server_check_query: 'SELECT 7', server_check_delay: '100ms', idle_timeout: '2500ms' },
    }),
  })
  const holders = [await loginTo(world, 'checked'), await loginTo(world, 'checked')]
  for (const holder of holders) {
    holder.send(query('BEGIN'))
    await holder.readUntil('Z')
  }
  for (const holder of holders) {
    holder.send(query('COMMIT'))
    await holder.readUntil('Z')
  }

  await until(async () => {
    const { rowCount } = await world.postgres.sql("SELECT FROM pg_stat_activity WHERE query = 'SELECT 7'")
    return rowCount === 2
  })
  const { closed } = await world.engine.poolUntil('checked', (pool) => pool.closed.idle === 2)

  expect(closed).toEqual({ idle: 2 })
  for (const holder of holders) holder.destroy()
})
