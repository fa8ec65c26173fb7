import { setTimeout as after } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import { startEngine, until } from '../../support/engine.ts'
import {
  bind,
  closeStatement,
  copyData,
  execute,
  message,
  parse,
  query,
  sync,
  terminate,
} from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import { lacks } from '../../support/postgres.ts'
import {
  authenticationOk,
  backendKeyData,
  commandComplete,
  dataRow,
  errorResponse,
  noticeResponse,
  parameterStatus,
  ready,
  startScriptedServer,
} from '../../support/scripted-server.ts'
import type { Connection, ScriptedServer } from '../../support/scripted-server.ts'
import { peerHasClosed } from '../../support/tcp-connections.ts'
import { errorFields, WireClient } from '../../support/wire.ts'
import type { Message } from '../../support/wire.ts'
import { compare, loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World
const scripted = new Map<string, ScriptedServer>()

/** Pools of one server each whose server is scripted; the tests of each do not share it. */
const scriptedPools = {
  refuses: { connect_timeout: '5s', query_wait_timeout: '600ms' },
  recovers: {},
  talkative: {},
  resets: {},
  halves: {},
  silent: { connect_timeout: '200ms', query_wait_timeout: '700ms' },
  babbles: {},
  lingers: {},
  ends: {},
} as const

beforeAll(async () => {
  for (const pool of Object.keys(scriptedPools)) scripted.set(pool, await startScriptedServer())
  world = await startWorld({
    sql: [
      'GRANT pg_monitor TO app',
      'CREATE TABLE kept (n int)',
      'CREATE TABLE locked AS SELECT 1 AS n',
      'ALTER TABLE kept OWNER TO app',
      'ALTER TABLE locked OWNER TO app',
    ],
    pools: () => ({
      ...Object.fromEntries(
        Object.entries(scriptedPools).map(([pool, keys]) => {
          const { host, port } = serverOf(pool)
          return [pool, { servers: [{ host, port }], pool_size: 1, ...keys }]
        }),
      ),
      missing: { database: 'missing', query_wait_timeout: '5s' },
      forbidden: { users: { app: { server_user: 'forbidden' } } },
      queue: { pool_size: 1 },
      limited: { pool_size: 1 },
      unresettable: { pool_mode: 'session', server_reset_query: 'RESET no_such_parameter' },
      'barred-session': { pool_mode: 'session', pool_size: 2, users: { app: { server_user: 'barred' } } },
      'barred-transaction': { pool_size: 2, users: { app: { server_user: 'barred' } } },
    }),
  })
  await world.postgres.sql('CREATE ROLE forbidden NOLOGIN')
  await world.postgres.sql('CREATE ROLE barred LOGIN')
})

function serverOf(pool: string): ScriptedServer {
  return scripted.get(pool) as ScriptedServer
}

const one = query('SELECT 1 AS a')
const oneAnswers = ['T a', 'D 00010000000131', 'C SELECT 1', 'Z I']

async function ask(client: WireClient, ...requests: Buffer[]): Promise<string[]> {
  return await transcript(client, [{ send: requests, until: 'Z', count: requests.length }])
}

// What clients do

test.for(['transaction1', 'session1'])(
  '88: locks of a client of %s that is cut off in a transaction go',
  async (pool) => {
    const client = await loginTo(world, pool)
    await ask(client, query('BEGIN'), query('UPDATE locked SET n = n + 1'))
    const begun = performance.now()

    client.reset()
    const next = await loginTo(world, pool)
    const answers = await ask(next, query('SELECT n AS a FROM locked FOR UPDATE'))

    expect(answers).toEqual(oneAnswers)
    expect(performance.now() - begun).toBeLessThan(1000)
    next.close()
    await next.readToEnd()
  },
)

test.for(['transaction1', 'session1'])(
  'nothing of a client of %s that is cut off in a transaction reaches the next',
  async (pool) => {
    const client = await loginTo(world, pool, { parameters: { application_name: 'first', TimeZone: 'Asia/Tokyo' } })
    await ask(
      client,
      query('BEGIN'),
      query("SET search_path = pg_temp; SET statement_timeout = 7; SET LOCAL work_mem = '7MB'"),
      query('CREATE TEMP TABLE left_behind (n int); LISTEN left_behind; SELECT pg_advisory_lock(7)'),
      query('PREPARE left_behind AS SELECT 1; DECLARE c CURSOR WITH HOLD FOR SELECT 1; SET ROLE pg_monitor'),
    )

    client.reset()
    const next = await loginTo(world, pool)
    const answers = await ask(
      next,
      query(
        `SELECT current_setting('application_name'), current_setting('statement_timeout'), current_setting('work_mem'),
           current_setting('search_path'), current_user, (SELECT count(*) FROM pg_prepared_statements),
           (SELECT count(*) FROM pg_cursors), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
           (SELECT count(*) FROM pg_listening_channels()), to_regclass('pg_temp.left_behind'), now() = statement_timestamp()`,
      ),
    )

    expect(
      Buffer.from(answers[1]?.slice(2) ?? '', 'hex')
        .toString('latin1')
        .replaceAll(/[^ -~]+/g, '|'),
    ).toMatch(/0\|4MB\|"\$user", public\|app\|0\|0\|0\|0\|t$/)
    next.close()
    await next.readToEnd()
  },
)

test('89: the query of a client that is cut off is canceled', async () => {
  const client = await loginTo(world, 'transaction1')
  client.send(query('SELECT pg_sleep(600), 89'))
  await until(async () => (await world.postgres.activeQueries('%600), 89')) === 1)

  client.reset()

  await until(async () => (await world.postgres.activeQueries('%600), 89')) === 0)
  expect(await world.engine.pool('transaction1')).toMatchObject({ clientsActive: 0, serversActive: 0 })
})

test('90: a client that is cut off while it waits leaves the line', async () => {
  const holder = await loginTo(world, 'transaction1')
  await ask(holder, query('BEGIN'))
  const waiting = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')] as const
  for (const client of waiting) client.send(one)
  await world.engine.poolUntil('transaction1', ({ clientsWaiting }) => clientsWaiting === 2)

  waiting[0].reset()

  await world.engine.poolUntil('transaction1', ({ clientsWaiting }) => clientsWaiting === 1)
  await ask(holder, query('COMMIT'))
  expect((await waiting[1].readUntil('Z')).map(describe)).toEqual(oneAnswers)
  for (const client of [holder, waiting[1]]) client.destroy()
})

test('91: what a client sent before Terminate is done, as PostgreSQL does it', async () => {
  await world.postgres.sql('TRUNCATE kept', [], 'app')
  const client = await loginTo(world, 'transaction1')

  client.send(
    query('INSERT INTO kept SELECT 1 FROM pg_sleep(0.2)'),
    parse('', 'INSERT INTO kept VALUES ($1)'),
    bind('', '', ['2']),
    execute(''),
    sync,
    terminate,
  )
  await client.readToEnd()

  await until(async () => (await world.postgres.sql('SELECT FROM kept', [], 'app')).rowCount === 2)
  const next = await loginTo(world, 'transaction1')
  expect(await ask(next, one)).toEqual(oneAnswers)
  next.destroy()
})

test('91: Terminate in a transaction rolls it back and frees the place', async () => {
  await world.postgres.sql('TRUNCATE kept', [], 'app')
  const client = await loginTo(world, 'transaction1')
  client.send(query('BEGIN'), query('INSERT INTO kept VALUES (1)'), terminate)
  await client.readToEnd()

  const next = await loginTo(world, 'transaction1')
  const answers = await ask(next, query('SELECT count(*) + 1 AS a FROM kept'))

  expect(answers).toEqual(oneAnswers)
  next.destroy()
})

test('an unknown message type ends the connection with 08P01', async () => {
  const client = await loginTo(world, 'transaction1')
  const linked = await loginTo(world, 'transaction5')
  await ask(linked, query('BEGIN'))

  client.send('79 00 00 00 04')
  linked.send('79 00 00 00 04')

  expect(sqlstates((await client.readToEnd()).messages)).toEqual(['08P01'])
  expect(sqlstates((await linked.readToEnd()).messages)).toEqual(['08P01'])
})

test('a message of impossible length ends the connection with 08P01', async () => {
  const client = await loginTo(world, 'transaction1')
  const linked = await loginTo(world, 'transaction5')
  await ask(linked, query('BEGIN'))

  client.send('51 00 00 00 03 00')
  linked.send('51 ff ff ff ff 00')

  expect(sqlstates((await client.readToEnd()).messages)).toEqual(['08P01'])
  expect(sqlstates((await linked.readToEnd()).messages)).toEqual(['08P01'])
})

test('CopyData outside of a copy is dropped, as PostgreSQL does it', async () => {
  const answers = await compare(world, [{ send: [copyData('1\n'), one], until: 'Z' }])

  expect(answers).toEqual(oneAnswers)
})

// What servers do

test('92: no client learns that an idle server was terminated', async () => {
  const client = await loginTo(world, 'transaction1')
  await ask(client, one)

  await world.postgres.sql(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND state = 'idle'",
  )
  const lost = await world.engine.lostUntil(({ pool }) => pool === 'transaction1')

  expect(lost).toMatchObject({ cause: 'terminated', sqlstate: '57P01', state: 'idle', client_hurt: false })
  expect(await ask(client, one)).toEqual(oneAnswers)
  client.destroy()
})

test('92: a client of session mode is told that its idle server was terminated', async () => {
  const client = await loginTo(world, 'session5')
  await ask(client, query('SELECT 92'))

  await world.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT 92'")
  const { messages } = await client.readToEnd()

  expect(messages.map(describe)).toEqual(['E FATAL 57P01 terminating connection due to administrator command'])
  expect(await world.engine.lostUntil(({ pool, client_hurt }) => pool === 'session5' && client_hurt)).toMatchObject({
    cause: 'terminated',
    state: 'idle',
    client_hurt: true,
  })
})

test('93: a client whose server is terminated in a transaction gets one error and is disconnected', async () => {
  const client = await loginTo(world, 'transaction5')
  await ask(client, query('BEGIN'), query('SELECT 93'))

  await world.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT 93'")
  const { messages } = await client.readToEnd()
  const lost = await world.engine.lostUntil(({ pool, client_hurt }) => pool === 'transaction5' && client_hurt)

  expect(messages.map(describe)).toEqual(['E FATAL 57P01 terminating connection due to administrator command'])
  expect(lost).toMatchObject({
    cause: 'terminated',
    sqlstate: '57P01',
    state: 'idle in transaction',
    client_hurt: true,
  })
})

test('93: a client whose server is reset during a query gets one 08006 and is disconnected', async () => {
  const { client, server } = await servedBy('resets')
  client.send(one)
  await server.readUntil('Q')

  server.reset()

  expect(sqlstates((await client.readToEnd()).messages)).toEqual(['08006'])
  const lost = await world.engine.lostUntil(({ pool }) => pool === 'resets')
  expect(lost).toMatchObject({ cause: 'reset', state: 'active', client_hurt: true })
})

test('93: a server that closes without a word during a query is one 08006', async () => {
  const { client, server } = await servedBy('resets')
  client.send(one)
  await server.readUntil('Q')

  server.close()

  expect(sqlstates((await client.readToEnd()).messages)).toEqual(['08006'])
  expect(await world.engine.lostUntil(({ pool, cause }) => pool === 'resets' && cause === 'closed')).toMatchObject({
    state: 'active',
    client_hurt: true,
  })
})

test('94: a crash and restart of PostgreSQL between two queries harms no client of transaction mode', async () => {
  const clients = [await loginTo(world, 'transaction5'), await loginTo(world, 'transaction5')] as const
  await Promise.all(clients.map((client) => ask(client, query('SELECT pg_sleep(0.05)'))))

  await world.postgres.crash()
  await world.postgres.start()

  for (const client of clients) expect(await ask(client, one)).toEqual(oneAnswers)
  for (const client of clients) client.destroy()
})

test('94: a client that asks while PostgreSQL is down is served when it is back', async () => {
  const client = await loginTo(world, 'transaction5')
  await world.postgres.stop('fast')
  client.send(one)
  await world.engine.lostUntil(({ pool, cause }) => pool === 'transaction5' && cause === 'connect_refused')

  await world.postgres.start()

  expect((await client.readUntil('Z')).map(describe)).toEqual(oneAnswers)
  client.destroy()
})

test('95: half a short message is not passed on: the client gets 08006', async () => {
  const { client, server } = await servedBy('halves')
  client.send(one)
  await server.readUntil('Q')

  server.send(dataRow('first'), dataRow('second').subarray(0, 9))
  server.close()

  const { messages } = await client.readToEnd()
  expect(messages.map(({ tag }) => tag).join('')).toBe('DE')
  expect(sqlstates(messages)).toEqual(['08006'])
})

test('95: half a long message is followed by nothing but the end', async () => {
  const { client, server } = await servedBy('halves')
  client.send(one)
  await server.readUntil('Q')
  const row = dataRow('x'.repeat(100_000))

  server.send(row.subarray(0, 50_000))
  server.close()

  const { messages } = await client.readToEnd()
  expect(messages).toEqual([])
  expect(client.unread).toBe(50_000)
})

test('96: a server that never answers the login is given up, and other pools do not notice', async () => {
  const login = WireClient.login(world.engine, { user: 'app', database: 'silent' }).then(
    () => 'let in',
    (error: Error) => error.message,
  )
  await serverOf('silent').next()
  const other = await loginTo(world, 'transaction1')
  const answers = await ask(other, one)

  const lost = await world.engine.lostUntil(({ pool }) => pool === 'silent')

  expect(answers).toEqual(oneAnswers)
  expect(lost).toMatchObject({ cause: 'connect_timeout', state: 'login', client_hurt: false })
  expect(await login).toMatch(/^08006 server login has been failing, cached error: .+ \(server_login_retry\)$/)
  other.destroy()
})

test('23: an unknown database on the server is told with the server’s SQLSTATE', async () => {
  await expect(loginTo(world, 'missing')).rejects.toMatchObject({ sqlstate: '3D000' })
})

test('23: a role that may not log in is told with the server’s SQLSTATE', async () => {
  await expect(loginTo(world, 'forbidden')).rejects.toMatchObject({ sqlstate: '28000' })
})

test('a server_reset_query that fails loses the server, and its error is told', async () => {
  const client = await loginTo(world, 'unresettable')
  await ask(client, one)

  client.close()
  const lost = await world.engine.lostUntil(({ pool }) => pool === 'unresettable')

  expect(lost).toMatchObject({
    cause: 'reset_failed',
    sqlstate: '42704',
    message: 'unrecognized configuration parameter "no_such_parameter"',
    client_hurt: false,
  })
  // One server has greeted the client, another has answered it.
  await world.engine.poolUntil('unresettable', ({ closed }) => closed.reset_failed === 2)
})

test.for([
  ['session', 'SELECT 1'],
  ['transaction', 'LISTEN something'],
])('23: in %s mode, after %s of another client, one that waits is told that no login succeeds', async ([mode, sql]) => {
  const pool = `barred-${mode}`
  const [holder, waiter] = [await loginTo(world, pool), await loginTo(world, pool)]
  await world.engine.poolUntil(pool, ({ serversIdle }) => serversIdle === 1)
  await transcript(holder, [{ send: [query(sql as string)], until: 'Z' }])
  await world.postgres.sql('ALTER ROLE barred NOLOGIN')

  waiter.send(one)
  const { messages } = await waiter.readToEnd()

  expect(messages.map(describe)).toEqual(['E FATAL 28000 role "barred" is not permitted to log in'])
  expect(await ask(holder, one)).toEqual(oneAnswers)
  holder.close()
  await holder.readToEnd()
  await world.postgres.sql('ALTER ROLE barred LOGIN')
})

test('23: while no login succeeds, a client is served by a server that another gives back', async () => {
  const pool = 'barred-transaction'
  const [holder, waiter] = [await loginTo(world, pool), await loginTo(world, pool)]
  await world.engine.poolUntil(pool, ({ serversIdle }) => serversIdle === 1)
  await transcript(holder, [{ send: [query('BEGIN')], until: 'Z' }])
  await world.postgres.sql('ALTER ROLE barred NOLOGIN')
  const failed = (): number => world.engine.lost.filter(({ sqlstate }) => sqlstate === '28000').length
  const before = failed()

  waiter.send(one)
  await until(() => failed() > before)
  await transcript(holder, [{ send: [query('COMMIT')], until: 'Z' }])

  expect((await waiter.readUntil('Z')).map(describe)).toEqual(oneAnswers)
  await world.postgres.sql('ALTER ROLE barred LOGIN')
})

test.for(['53300', '57P03'])('23: clients wait while a server rejects logins with %s', async (sqlstate) => {
  const server = serverOf('recovers')
  const login = loginTo(world, 'recovers', { parameters: { application_name: sqlstate } })
  for (let refusals = 0; refusals < 3; refusals++) {
    const refused = await server.next()
    await refused.readStartup()
    refused.send(authenticationOk, errorResponse('FATAL', sqlstate, 'not now'))
    refused.close()
  }
  const accepted = await server.next()
  await accepted.acceptLogin()
  await accepted.readUntil('S')
  accepted.send(commandComplete('SELECT 1'), ready())

  const client = await login

  expect(client.parameters.get('server_version')).toBe('18.0')
  client.close()
  await client.readToEnd()
  accepted.close()
  await world.engine.poolUntil('recovers', ({ serversIdle }) => serversIdle === 0)
})

test('99: clients that wait for a server which is full are told 53300 in the end', async () => {
  const server = serverOf('refuses')
  void (async () => {
    for (;;) {
      const refused = await server.next()
      await refused.readStartup()
      refused.send(errorResponse('FATAL', '53300', 'sorry, too many clients already'))
      refused.close()
    }
  })()

  const refusal = await loginTo(world, 'refuses').catch((error: Error) => error.message)

  expect(refusal).toBe(
    '53300 server login has been failing, cached error: sorry, too many clients already (server_login_retry)',
  )
})

test('24: a login of many packets, with notices and long parameters, is read to its end', async () => {
  const login = loginTo(world, 'talkative')
  const server = await serverOf('talkative').next()
  await server.readStartup()
  server.send(authenticationOk)
  for (let i = 0; i < 500; i++) {
    server.send(noticeResponse('n'.repeat(100)), parameterStatus(`parameter_${i}`, 'v'.repeat(200)))
    if (i % 100 === 0) await world.engine.snapshot() // the engine's loop has turned
  }
  server.send(parameterStatus('long', 'x'.repeat(30_000)), backendKeyData(1, 2), ready())

  const client = await login

  expect(client.parameters.size).toBe(501)
  expect(client.parameters.get('long')).toHaveLength(30_000)
})

test('100: limits of time that the server keeps are told to the client, and the pool counts right', async () => {
  const answers = await compare(world, [
    { send: [query('SET statement_timeout = 20')], until: 'Z' },
    { send: [query('BEGIN; SET LOCAL statement_timeout = 20; SELECT pg_sleep(9)')], until: 'Z' },
    { send: [query('ROLLBACK')], until: 'Z' },
    { send: [query('SET statement_timeout = 0')], until: 'Z' },
  ])

  expect(answers).toContain('E ERROR 57014 canceling statement due to statement timeout')
})

test.for([
  ['25P03', 'SET LOCAL idle_in_transaction_session_timeout = 30'],
  ['25P04', 'SET LOCAL transaction_timeout = 30'],
] as const)(
  '100: a server that ends a transaction with %s takes its client along',
  async ([sqlstate, setting], { skip }) => {
    skip(sqlstate === '25P04' && lacks('transaction_timeout', 17))
    const client = await loginTo(world, 'transaction1')
    await ask(client, query('BEGIN'), query(setting))

    const { messages } = await client.readToEnd()
    const lost = await world.engine.lostUntil((server) => server.sqlstate === sqlstate)

    expect(sqlstates(messages)).toEqual([sqlstate])
    expect(lost).toMatchObject({ cause: 'terminated', state: 'idle in transaction', client_hurt: true })
    expect(await world.engine.pool('transaction1')).toMatchObject({ clientsActive: 0, serversActive: 0 })
  },
)

test('100: a server that ends an idle session with 57P05 harms no client', async () => {
  // What a client sets is the client's, so the limit is the role's.
  await world.postgres.sql("ALTER ROLE app SET idle_session_timeout = '500ms'")
  const client = await loginTo(world, 'limited')
  await ask(client, one)
  await world.postgres.sql('ALTER ROLE app RESET idle_session_timeout')

  const lost = await world.engine.lostUntil((server) => server.sqlstate === '57P05')

  expect(lost).toMatchObject({ cause: 'terminated', state: 'idle', client_hurt: false })
  expect(await ask(client, one)).toEqual(oneAnswers)
  client.destroy()
})

test('102: notices and parameters that come while a server is idle are not passed on', async () => {
  const { client, server } = await servedBy('babbles')
  server.send(noticeResponse('restarting soon'), parameterStatus('server_version', '18.1'))
  client.send(one)
  await server.readUntil('Q')
  server.send(commandComplete('SELECT 1'), ready())

  const answers = (await client.readUntil('Z')).map(describe)

  expect(answers).toEqual(['C SELECT 1', 'Z I'])
  const next = await loginTo(world, 'babbles')
  expect(next.parameters.get('server_version')).toBe('18.1')
  for (const one of [client, next]) one.destroy()
})

test('103: a server that sends rows without a query is closed', async () => {
  const server = serverOf('babbles').connections.at(-1) as Connection

  server.send(dataRow('surprise'))
  await server.ended
  const lost = await world.engine.lostUntil(({ pool }) => pool === 'babbles')

  expect(lost).toMatchObject({ cause: 'protocol_error', state: 'idle', client_hurt: false })
})

/** A client that was greeted by a scripted server, which is idle now. */
async function servedBy(pool: string): Promise<{ client: WireClient; server: Connection }> {
  const login = loginTo(world, pool)
  const server = await serverOf(pool).next()
  await server.acceptLogin()
  return { client: await login, server }
}

function sqlstates(messages: readonly Message[]): (string | undefined)[] {
  return messages.filter(({ tag }) => tag === 'E').map((message) => errorFields(message)['C'])
}

test('93: a client that was passed a FATAL error of its server gets no second one of ours', async () => {
  const { client, server } = await servedBy('lingers')
  client.send(one)
  await server.readUntil('Q')
  server.send(errorResponse('FATAL', '57P01', 'terminating connection due to administrator command'))
  const [first] = await client.readUntil('E')

  client.send('79 00 00 00 04')
  const { messages } = await client.readToEnd()

  expect(sqlstates([first as Message, ...messages])).toEqual(['57P01'])
})

test('93: a FATAL error is the last answer, also to what the proxy would answer itself', async () => {
  const { client, server } = await servedBy('ends')
  client.send(parse('known', 'BEGIN'), bind('', 'known'), execute(''), sync)
  await server.readUntil('S')
  server.send(message('1'), message('2'), commandComplete('BEGIN'), ready('T'))
  server.send(errorResponse('FATAL', '57P01', 'terminating connection due to administrator command'))
  await client.readUntil('E')

  client.send(closeStatement('known'), sync)
  await server.readUntil('S')
  server.close()

  expect((await client.readToEnd()).messages).toEqual([])
})

test('89: a client that ends its own side is gone, and its query is canceled; PostgreSQL would still answer', async () => {
  const client = await loginTo(world, 'transaction1')
  client.send(query('SELECT pg_sleep(600), 891'))
  await until(async () => (await world.postgres.activeQueries('%600), 891')) === 1)

  client.close()
  const { messages } = await client.readToEnd()

  expect(messages).toEqual([])
  await until(async () => (await world.postgres.activeQueries('%600), 891')) === 0)
})

test('a client that sends before it reads that the proxy has stopped reads it all the same', async () => {
  const engine = await startEngine(world.document)
  const client = await WireClient.login(engine, { user: 'app', database: 'transaction5' })
  client.socket.pause()

  const stopped = engine.stop('drain', 10_000)
  await until(() => peerHasClosed(client.socket.localPort as number))
  // To a connection that is closed on the other side the first one draws a reset, and the second one fails by it.
  for (let time = 0; time < 3; time++) {
    client.send(query('BEGIN'))
    await after(20)
  }
  client.socket.resume()
  const { messages } = await client.readToEnd()
  client.destroy()
  await stopped

  expect(sqlstates(messages)).toEqual(['57P01'])
})
