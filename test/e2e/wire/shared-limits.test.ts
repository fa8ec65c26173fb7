/** Limits that pools share, the reserve, and what clients are disconnected for by the clock, on a real PostgreSQL. */
import { afterEach, beforeAll, expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { cancelRequest, query } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import {
  authenticationOk,
  backendKeyData,
  commandComplete,
  errorResponse,
  parameterStatus,
  ready,
  startScriptedServer,
} from '../../support/scripted-server.ts'
import { errorFields, WireClient } from '../../support/wire.ts'
import { loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World
const clients: WireClient[] = []

beforeAll(async () => {
  world = await startWorld({
    sql: ['CREATE ROLE other LOGIN', 'CREATE ROLE narrow LOGIN CONNECTION LIMIT 2'],
    pools: () => ({
      crowd: { max_db_client_connections: 2, users: { app: {}, other: {} } },
      mine: { users: { app: { max_user_client_connections: 1 } } },
      few: { max_db_connections: 2, pool_size: 2, users: { app: {}, other: {} } },
      'narrow-1': { database: 'postgres', pool_size: 2, users: { app: { server_user: 'narrow' } } },
      'narrow-2': { database: 'postgres', pool_size: 2, users: { app: { server_user: 'narrow' } } },
      reserve: { pool_size: 1, reserve_pool_size: 1, reserve_pool_timeout: '100ms' },
      told: { pool_size: 1, query_wait_notify: '100ms' },
      query: { query_timeout: '200ms' },
      transaction: { transaction_timeout: '300ms' },
      resting: { idle_transaction_timeout: '150ms' },
      idle: { client_idle_timeout: '150ms' },
      idlesession: { pool_mode: 'session', pool_size: 1, client_idle_timeout: '150ms' },
    }),
  })
})

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy()
  await until(async () => (await world.engine.snapshot()).clients === 0)
})

async function login(pool: string, user = 'app'): Promise<WireClient> {
  const client = await loginTo(world, pool, { user })
  clients.push(client)
  return client
}

async function ask(client: WireClient, sql: string): Promise<string[]> {
  client.send(query(sql))
  return (await client.readUntil('Z')).map(describe)
}

async function ending(client: WireClient): Promise<string[]> {
  return (await client.readToEnd()).messages.map(describe)
}

/** Of the pool's PostgreSQL, those with this application name. */
async function running(text: string): Promise<number> {
  const { rowCount } = await world.postgres.sql("SELECT FROM pg_stat_activity WHERE state = 'active' AND query = $1", [
    text,
  ])
  return rowCount ?? 0
}

test('where PostgreSQL takes no further connection, an idle server of another pool with that role makes room', async () => {
  await ask(await login('transaction1'), 'SELECT 1')
  const [one, two] = [await login('narrow-1'), await login('narrow-1')]
  one.send(query('BEGIN'))
  await Promise.all([one.readUntil('Z'), ask(two, 'SELECT 1')])
  await ask(one, 'COMMIT')
  await world.engine.poolUntil('narrow-1', ({ serversIdle }) => serversIdle === 2)

  const answers = await ask(await login('narrow-2'), 'SELECT 2')

  expect(answers).toContain('C SELECT 1')
  expect((await world.engine.pool('narrow-1')).closed).toEqual({ evicted: 1 })
  expect((await world.engine.pool('transaction1')).closed).toEqual({})
})

test('max_db_client_connections counts the clients of all users of a pool', async () => {
  await login('crowd')
  await login('crowd', 'other')

  const refused = login('crowd')

  await expect(refused).rejects.toMatchObject({
    sqlstate: '53300',
    message: expect.stringContaining('client connections exceeded (max_db_client_connections)'),
  })
  clients.pop()?.destroy()
  await world.engine.poolUntil('crowd', ({ clientsIdle }) => clientsIdle === 1)
  await until(async () => (await world.engine.snapshot()).clients === 1)
  await login('crowd')
})

test('max_user_client_connections counts the clients of a user in all pools', async () => {
  const elsewhere = await login('transaction5')

  await expect(login('mine')).rejects.toMatchObject({
    sqlstate: '53300',
    message: expect.stringContaining('client connections exceeded (max_user_client_connections)'),
  })
  elsewhere.destroy()
  await until(async () => (await world.engine.snapshot()).clients === 0)
  await login('mine')
})

test('max_db_connections holds for all users together: an idle server makes room, a busy one does not', async () => {
  const [first, second, third] = [await login('few'), await login('few'), await login('few', 'other')]
  await ask(first, 'BEGIN')
  await ask(second, 'BEGIN')
  third.send(query('SELECT 1 AS a'))
  await until(async () => (await world.engine.pool('few', 'other')).clientsWaiting === 1)
  const full = await Promise.all([world.engine.pool('few'), world.engine.pool('few', 'other')])

  await ask(first, 'COMMIT')
  const answer = (await third.readUntil('Z')).map(describe)
  const [app, other] = await Promise.all([world.engine.pool('few'), world.engine.pool('few', 'other')])

  const servers = (pools: typeof full): number =>
    pools.reduce((sum, pool) => sum + pool.serversActive + pool.serversIdle + pool.serversLogin, 0)
  expect(servers(full)).toBe(2)
  expect(answer.at(-1)).toBe('Z I')
  expect(servers([app, other])).toBe(2)
  expect(app.closed).toMatchObject({ evicted: 1 })
  await ask(second, 'COMMIT')
})

test('max_user_connections and max_address_connections hold over all pools', async () => {
  for (const key of ['max_user_connections', 'max_address_connections']) {
    const small = await startWorld({
      defaults: { [key]: 1 },
      pools: () => ({ one: { pool_size: 3 }, two: { pool_size: 3 } }),
    })
    const [one, two] = [await loginTo(small, 'one'), await loginTo(small, 'two')]
    await ask(one, 'BEGIN')
    two.send(query('SELECT 1 AS a'))
    await small.engine.poolUntil('two', ({ clientsWaiting }) => clientsWaiting === 1)

    await ask(one, 'COMMIT')
    const answer = (await two.readUntil('Z')).map(describe)

    expect(answer.at(-1)).toBe('Z I')
    expect(await small.engine.pool('one')).toMatchObject({ serversActive: 0, serversIdle: 0, closed: { evicted: 2 } })
    for (const client of [one, two]) client.destroy()
    await small.engine.stop('now', 0)
  }
})

test('a client that has waited for reserve_pool_timeout gets a server of the reserve, which closes when no client waits', async () => {
  const [holder, waiter] = [await login('reserve'), await login('reserve')]
  await ask(holder, 'BEGIN')
  const begun = performance.now()

  const answer = await ask(waiter, 'SELECT 1 AS a')
  const waitedMs = performance.now() - begun
  await ask(holder, 'COMMIT')
  const after = await world.engine.poolUntil('reserve', (pool) => pool.serversActive + pool.serversIdle === 1)

  expect(answer.at(-1)).toBe('Z I')
  expect(waitedMs).toBeGreaterThanOrEqual(95)
  expect(after.closed).toMatchObject({ drained: 1 })
})

test('101: who has waited for query_wait_notify is told so, once, in the words of PgBouncer', async () => {
  const [holder, waiter] = [await login('told'), await login('told')]
  await ask(holder, 'BEGIN')

  waiter.send(query('SELECT 1 AS a'))
  const notice = await waiter.read()
  await ask(holder, 'SELECT pg_sleep(0.25)')
  await ask(holder, 'COMMIT')
  const rest = (await waiter.readUntil('Z')).map(describe)

  expect(notice.tag).toBe('N')
  expect(errorFields(notice)).toMatchObject({
    S: 'NOTICE',
    M: 'No server connection available in postgres backend, client being queued',
  })
  expect(rest.filter((line) => line.startsWith('N '))).toEqual([])
  expect(rest.at(-1)).toBe('Z I')
})

// That no other client is affected is tested in proxy/engine/pool/client.test.ts, by a clock that stands still between.
test('101: query_timeout disconnects the client and cancels what PostgreSQL does for it', async () => {
  const slow = await login('query')

  slow.send(query('SELECT pg_sleep(61)'))
  const end = await ending(slow)

  expect(end).toEqual(['E FATAL 57014 query timeout'])
  await until(async () => (await running('SELECT pg_sleep(61)')) === 0)
  expect((await world.engine.pool('query')).closed).toMatchObject({ query_timeout: 1 })
})

test('101: transaction_timeout ends a transaction however busy it is, and short ones never', async () => {
  const client = await login('transaction')
  const begun = performance.now()
  while (performance.now() - begun < 400) await ask(client, 'SELECT 1 AS a')
  await ask(client, 'BEGIN')

  const end = (async () => {
    for (;;) {
      client.send(query('SELECT pg_sleep(0.02)'))
      const message = await client.read()
      if (message.tag === 'E') return describe(message)
    }
  })()

  expect(await end).toBe('E FATAL 25P04 transaction timeout')
  expect((await world.engine.pool('transaction')).closed).toMatchObject({ transaction_timeout: 1 })
})

test('101: idle_transaction_timeout ends a client that rests inside a transaction, and its locks with it', async () => {
  const [resting, outside] = [await login('resting'), await login('resting')]
  await ask(resting, 'BEGIN')
  await ask(resting, 'SELECT pg_advisory_lock(7)')

  const end = await ending(resting)

  expect(end).toEqual(['E FATAL 25P03 idle transaction timeout'])
  await until(async () => (await world.postgres.sql("SELECT FROM pg_locks WHERE locktype = 'advisory'")).rowCount === 0)
  expect((await ask(outside, 'SELECT pg_sleep(0.3)')).at(-1)).toBe('Z I')
  expect((await world.engine.pool('resting')).closed).toMatchObject({ transaction_timeout: 1 })
})

test.for(['idle', 'idlesession'])(
  '101: client_idle_timeout ends a client that rests between transactions: %s',
  async (pool) => {
    const client = await login(pool)
    await ask(client, 'SELECT pg_sleep(0.3)')
    const begun = performance.now()

    const end = await ending(client)

    expect(end).toEqual(['E FATAL 57P05 client_idle_timeout'])
    expect(performance.now() - begun).toBeGreaterThanOrEqual(140)
    expect((await world.engine.poolUntil(pool, ({ serversIdle }) => serversIdle === 1)).closed).toEqual({})
  },
)

test('server_login_retry is the longest pause between two attempts, and who waited is told the error of the server', async () => {
  let attempts = 0
  const failing = await startScriptedServer(async (connection) => {
    attempts++
    await connection.readStartup()
    connection.send(errorResponse('FATAL', '53300', 'sorry, too many clients already'))
    connection.close()
  })
  const engine = await startWorld({
    pools: () => ({
      down: {
        servers: [{ host: '127.0.0.1', port: failing.port }],
        server_login_retry: '20ms',
        query_wait_timeout: '600ms',
      },
    }),
  })

  const refused = loginTo(engine, 'down')

  await expect(refused).rejects.toMatchObject({
    sqlstate: '53300',
    message: expect.stringContaining('sorry, too many clients already'),
  })
  // With a pause that doubles from 100 ms there would be 3.
  expect(attempts).toBeGreaterThan(8)
})

test('cancel_wait_timeout ends the wait for a server that takes no cancel request, and the server is used no more', async () => {
  const deaf = await startScriptedServer(async (connection) => {
    if ((await connection.readStartup()).readInt32BE(0) !== 0x00030000) return
    connection.send(authenticationOk, parameterStatus('server_version', '18.0'), backendKeyData(1, 2), ready())
    await connection.readUntil('Q')
    await canceled.promise
    connection.send(commandComplete('SELECT 0'), ready())
  })
  const canceled = Promise.withResolvers<void>()
  const engine = await startWorld({
    general: { cancel_wait_timeout: '150ms' },
    pools: () => ({ deaf: { servers: [{ host: '127.0.0.1', port: deaf.port }] } }),
  })
  const client = await loginTo(engine, 'deaf')
  client.send(query('SELECT'))
  await engine.engine.poolUntil('deaf', ({ serversActive }) => serversActive === 1)

  const key = client.key as { pid: number; secret: Buffer } // it has logged in
  const asker = await WireClient.connect(engine.engine)
  asker.send(cancelRequest(key.pid, key.secret))
  // The proxy closes it when the request was taken, which it never is, or the time is over.
  await asker.readToEnd()
  canceled.resolve()
  const answer = (await client.readUntil('Z')).map(describe)

  expect(answer).toEqual(['C SELECT 0', 'Z I'])
  await engine.engine.poolUntil('deaf', ({ closed }) => closed.drained === 1)
})
