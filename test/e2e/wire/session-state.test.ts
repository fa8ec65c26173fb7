/** What sessions keep in transaction mode: it follows its client, is taken back, or pins the server to the client. */
import { beforeAll, expect, test } from 'vitest'
import { bind, execute, parse, query, sync } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import { hasPostgres, startPostgres } from '../../support/postgres.ts'
import { startEngine } from '../../support/engine.ts'
import type { Document } from '../../support/engine.ts'
import { WireClient } from '../../support/wire.ts'
import { errorFields } from '../../support/wire.ts'
import type { Message } from '../../support/wire.ts'
import { leave, loginTo, pins, poolNames, startWorld, value } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    consoleUsers: { admin: { auth_type: 'trust' } },
    sql: [
      'GRANT pg_monitor TO app',
      'GRANT CREATE ON SCHEMA public TO app',
      'CREATE TABLE kept (n int)',
      'ALTER TABLE kept OWNER TO app',
    ],
    pools: () => ({
      extra: {
        pool_mode: 'transaction',
        pool_size: 1,
        track_extra_parameters: 'default_transaction_read_only, is_superuser',
      },
      unpinned: { pool_mode: 'transaction', pool_size: 1, pin_on_session_state: 'off' },
      statement: { pool_mode: 'statement', pool_size: 1 },
      unreset: { pool_mode: 'session', pool_size: 1, server_reset_query: '' },
      resetting: { pool_mode: 'session', pool_size: 1, server_reset_query: 'RESET ALL' },
    }),
  })
})

async function ask(client: WireClient, sql: string): Promise<string[]> {
  client.send(query(sql))
  return (await client.readUntil('Z')).map(describe)
}

async function extended(client: WireClient, name: string, sql: string): Promise<string | undefined> {
  client.send(parse(name, sql), bind('', name), execute(''), sync)
  return valueIn(await client.readUntil('Z'))
}

function valueIn(messages: readonly Message[]): string | undefined {
  return messages.find(({ tag }) => tag === 'D')?.body.toString('utf8', 6)
}

async function backendOf(client: WireClient): Promise<string | undefined> {
  return await value(client, 'SELECT pg_backend_pid()')
}

test.for([
  ['SET', "SET work_mem = '7MB'", "current_setting('work_mem')", '4MB'],
  [
    'SET of what a SET of a followed parameter hides',
    "SET TimeZone = 'Asia/Tokyo'; SET work_mem = '7MB'",
    "current_setting('work_mem')",
    '4MB',
  ],
  ['a committed SET', "BEGIN; SET work_mem = '7MB'; COMMIT", "current_setting('work_mem')", '4MB'],
  ['a SET behind a comment with LOCAL', "/* */ SET /* LOCAL */ work_mem = '7MB'", "current_setting('work_mem')", '4MB'],
  ['71: set_config', "SELECT set_config('work_mem', '7MB', false)", "current_setting('work_mem')", '4MB'],
  [
    '71: set_config that a string calls local',
    "SELECT set_config('application.x', ', true)', false)",
    "coalesce(current_setting('application.x', true), '')",
    '',
  ],
  ['72: SET ROLE', 'SET ROLE pg_monitor', 'current_user', 'app'],
  ['72: SET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION app; SET ROLE pg_monitor', 'current_user', 'app'],
  [
    'SET SESSION CHARACTERISTICS',
    'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
    "current_setting('transaction_read_only')",
    'off',
  ],
] as const)('%s is not carried to the next client', async ([, sql, look, wanted]) => {
  const [client, next] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  const answers = await ask(client, sql)

  expect(answers.at(-1)).toBe('Z I')
  expect(answers.some((line) => line.startsWith('E'))).toBe(false)
  expect(await value(next, `SELECT ${look}`)).toBe(wanted)
  expect(await pins(world, 'transaction1')).toEqual([])
  await leave(client, next)
})

test('71: set_config by a prepared statement is not carried to the next client', async () => {
  const [client, next] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  const seen: (string | undefined)[] = []
  for (const name of ['', 's']) {
    await extended(client, name, "SELECT set_config('work_mem', '7MB', false)")
    seen.push(await value(next, "SELECT current_setting('work_mem')"))
  }
  client.send(bind('', 's'), execute(''), sync)
  await client.readUntil('Z')
  seen.push(await value(next, "SELECT current_setting('work_mem')"))

  expect(seen).toEqual(['4MB', '4MB', '4MB'])
  await leave(client, next)
})

test('69, 70: SET LOCAL, and SET after a savepoint that is rolled back, leave nothing', async () => {
  const [client, next] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await ask(client, "BEGIN; SET LOCAL work_mem = '7MB'")
  await ask(client, "SAVEPOINT s; SET TimeZone = 'Asia/Tokyo'; SET work_mem = '8MB'; ROLLBACK TO SAVEPOINT s")
  const within = await value(client, "SELECT current_setting('work_mem') || current_setting('TimeZone')")
  await ask(client, 'COMMIT')

  expect(within).toBe('7MBEtc/UTC')
  for (const one of [client, next]) {
    expect(await value(one, "SELECT current_setting('work_mem') || current_setting('TimeZone')")).toBe('4MBEtc/UTC')
  }
  await leave(client, next)
})

test('72: RESET ALL takes back what the client has set', async () => {
  const [client, next] = [
    await loginTo(world, 'transaction1'),
    await loginTo(world, 'transaction1', { parameters: { options: '-c work_mem=3MB', application_name: 'next' } }),
  ]
  await ask(client, "SET TimeZone = 'Asia/Tokyo'")
  await ask(client, 'RESET ALL')
  await ask(next, 'RESET ALL')
  const look = "SELECT current_setting('TimeZone') || ' ' || current_setting('work_mem')"

  expect([await value(client, look), await value(next, look)]).toEqual(['Etc/UTC 4MB', 'Etc/UTC 3MB'])
  await leave(client, next)
})

test('a parameter named in track_extra_parameters follows its client; one that no client can set is left alone', async () => {
  const [client, next] = [await loginTo(world, 'extra'), await loginTo(world, 'extra')]
  await ask(client, 'SET default_transaction_read_only = on')
  const look = "SELECT current_setting('default_transaction_read_only')"

  const seen = []
  for (let round = 0; round < 3; round++) seen.push(await value(client, look), await value(next, look))

  expect(seen).toEqual(['on', 'off', 'on', 'off', 'on', 'off'])
  await leave(client, next)
})

const things = [
  ['listen', 'LISTEN news', 'UNLISTEN *', 'SELECT count(*) FROM pg_listening_channels()'],
  [
    'advisory_lock',
    'SELECT pg_advisory_lock(7)',
    'SELECT pg_advisory_unlock(7)',
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
  ],
  ['temporary_table', 'CREATE TEMP TABLE t (n int)', 'DROP TABLE t', "SELECT count(to_regclass('pg_temp.t'))"],
  ['temporary_table', 'SELECT 1 AS n INTO TEMP t', 'DISCARD TEMP', "SELECT count(to_regclass('pg_temp.t'))"],
  ['temporary_table', 'create temp table t as select 1 as n', 'DISCARD ALL', "SELECT count(to_regclass('pg_temp.t'))"],
  [
    'hold_cursor',
    'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
    'CLOSE c',
    "SELECT count(*) FROM pg_cursors WHERE name = 'c'",
  ],
  ['prepare', 'PREPARE p AS SELECT 1', 'DEALLOCATE p', 'SELECT count(*) FROM pg_prepared_statements WHERE from_sql'],
] as const

test.for(things)('73: %s pins the server from "%s" to "%s"', async ([reason, begin, end, look]) => {
  const [client, next] = [await loginTo(world, 'transaction5'), await loginTo(world, 'transaction5')]
  await ask(client, begin)
  const own = await backendOf(client)
  const pinned = await pins(world, 'transaction5')
  const others = await backendOf(next)
  const seen = [await value(client, look), await backendOf(client)]
  await ask(client, end)
  // Answered when it is known what the session still keeps.
  await backendOf(client)

  expect(pinned).toEqual([reason])
  expect(seen).toEqual(['1', own])
  expect(others).not.toBe(own)
  expect(await pins(world, 'transaction5')).toEqual([])
  expect(await value(next, look)).toBe('0')
  await leave(client, next)
})

test.for(things)('73: %s of "%s" is gone when its client has left', async ([, begin, , look]) => {
  const client = await loginTo(world, 'transaction1')
  await ask(client, begin)
  const own = await backendOf(client)
  await leave(client)

  const next = await loginTo(world, 'transaction1')

  expect([await backendOf(next), await value(next, look)]).toEqual([own, '0'])
  await leave(next)
})

test.for([
  ['a rollback', 'BEGIN; LISTEN news; CREATE TEMP TABLE t (); PREPARE p AS SELECT 1; DEALLOCATE p; ROLLBACK'],
  ['an end of its own', 'SELECT pg_advisory_lock(7), pg_advisory_unlock(7)'],
  ['a transaction', 'BEGIN; SELECT pg_advisory_xact_lock(7); DECLARE c CURSOR FOR SELECT 1; COMMIT'],
  ['ON COMMIT DROP', 'BEGIN; CREATE TEMP TABLE t () ON COMMIT DROP; COMMIT'],
  ['a comment', "SELECT 1 /* pg_advisory_lock */, 'create temp table'"],
  ['a table that stays', 'CREATE TABLE IF NOT EXISTS plain (n int)'],
  ['a refusal', 'SELECT pg_try_advisory_lock(1/0)'],
] as const)('73: what %s ends does not pin', async ([, sql]) => {
  const client = await loginTo(world, 'transaction1')
  await ask(client, sql)
  await backendOf(client)

  expect(await pins(world, 'transaction1')).toEqual([])
  expect((await world.engine.poolUntil('transaction1', (pool) => pool.serversIdle === 1)).serversActive).toBe(0)
  await leave(client)
})

test('73: a prepared statement that locks pins each time it runs, on whatever server', async () => {
  const [client, next] = [await loginTo(world, 'transaction5'), await loginTo(world, 'transaction5')]
  const seen = []
  for (let round = 0; round < 2; round++) {
    if (round === 0) await extended(client, 'lock', 'SELECT pg_advisory_lock(7)')
    else {
      client.send(bind('', 'lock'), execute(''), sync)
      await client.readUntil('Z')
    }
    await backendOf(client)
    seen.push(await pins(world, 'transaction5'), await value(next, 'SELECT pg_try_advisory_lock(7)'))
    await extended(client, '', 'SELECT pg_advisory_unlock(7)')
    await backendOf(client)
    seen.push(await pins(world, 'transaction5'))
  }

  expect(seen).toEqual([['advisory_lock'], 'f', [], ['advisory_lock'], 'f', []])
  await leave(client, next)
})

test('a pinned server counts in pool_size: others wait until it is given back', async () => {
  const [client, next] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await ask(client, 'LISTEN news')
  next.send(query('SELECT 1'))
  await world.engine.poolUntil('transaction1', (pool) => pool.clientsWaiting === 1)

  await ask(client, 'UNLISTEN news')

  expect((await next.readUntil('Z')).map(describe).at(-1)).toBe('Z I')
  await leave(client, next)
})

test('74: NOTIFY reaches an idle listener, and the end of the server is told to it', async () => {
  const [client, next] = [await loginTo(world, 'transaction5'), await loginTo(world, 'transaction5')]
  await ask(client, 'LISTEN news')
  await ask(next, "NOTIFY news, 'one'")
  const first = await client.read()
  const pid = await backendOf(client)

  await world.postgres.sql('SELECT pg_terminate_backend($1)', [pid])
  const end = await client.readToEnd()

  expect(`${first.tag}${first.body.toString('utf8', 4)}`).toBe('Anews\0one\0')
  expect(end.messages.map(errorFields).map((fields) => fields['C'])).toEqual(['57P01'])
  await leave(next)
})

test('74: no notification is lost while the session is queried for what it keeps', async () => {
  const [client, next] = [await loginTo(world, 'transaction5'), await loginTo(world, 'transaction5')]
  await ask(client, 'LISTEN news')
  let count = 0
  for (let round = 0; round < 30; round++) {
    client.send(query(`PREPARE p${round} AS SELECT 1`))
    next.send(query(`NOTIFY news, '${round}'`))
    count += (await client.readUntil('Z')).filter(({ tag }) => tag === 'A').length
    await next.readUntil('Z')
  }
  while (count < 30) if ((await client.read()).tag === 'A') count++

  expect(count).toBe(30)
  await leave(client, next)
})

test('with pin_on_session_state off a session keeps what it has, and no client is pinned', async () => {
  const [client, next] = [await loginTo(world, 'unpinned'), await loginTo(world, 'unpinned')]
  await ask(client, 'PREPARE p AS SELECT 5')

  expect(await value(next, 'EXECUTE p')).toBe('5')
  expect(await pins(world, 'unpinned')).toEqual([])
  await leave(client, next)
})

test('78: DISCARD ALL of a client leaves the pool’s prepared statements usable', async () => {
  const client = await loginTo(world, 'transaction1')
  const seen = []
  for (let round = 0; round < 3; round++) {
    seen.push(await extended(client, 's', 'SELECT 3'))
    await ask(client, 'DISCARD ALL')
  }

  expect(seen).toEqual(['3', '3', '3'])
  await leave(client)
})

test('34: in statement mode a transaction block is refused, and a statement is served', async () => {
  const client = await loginTo(world, 'statement')
  const served = await value(client, 'SELECT 1; SELECT 2')
  client.send(query('BEGIN'))
  const { messages } = await client.readToEnd()
  const fields = errorFields(messages.at(-1) as Message)
  const next = await loginTo(world, 'statement')

  expect(served).toBe('1')
  expect(messages.map(({ tag }) => tag).join('')).toBe('CE')
  expect([fields['C'], fields['M']]).toEqual(['08P01', 'transaction blocks not allowed in statement pooling mode'])
  expect(await extended(next, 's', 'SELECT 4')).toBe('4')
  await leave(next)
})

test('server_reset_query is what a session ends with; empty leaves all', async () => {
  const look = "SELECT current_setting('work_mem') || (SELECT count(*) FROM pg_prepared_statements)"
  const seen = []
  for (const pool of ['session1', 'resetting', 'unreset']) {
    const client = await loginTo(world, pool)
    await ask(client, "SET work_mem = '7MB'; SET TimeZone = 'Asia/Tokyo'; PREPARE p AS SELECT 1")
    await leave(client)
    const next = await loginTo(world, pool)
    seen.push(`${await value(next, look)} ${await value(next, 'SHOW TimeZone')}`)
    await leave(next)
  }

  expect(seen).toEqual(['4MB0 Etc/UTC', '4MB1 Etc/UTC', '7MB1 Etc/UTC'])
})

test('76: after a failover new clients are told what the new server reports', async () => {
  const [old, promoted] = [await startPostgres(), await startPostgres()]
  for (const server of [old, promoted]) {
    await server.sql('CREATE ROLE app LOGIN')
    await server.sql('CREATE DATABASE app OWNER app')
  }
  await old.sql('ALTER ROLE app SET default_transaction_read_only = on')
  const documentOf = (port: number): Document => ({
    defaults: { auth_type: 'trust' },
    pools: { app: { servers: [{ host: '127.0.0.1', port }], users: { app: {} } } },
  })
  const engine = await startEngine(documentOf(old.port))
  const told = async (): Promise<string | undefined> => {
    const client = await WireClient.login(engine, { user: 'app' })
    const reported = client.parameters.get('default_transaction_read_only')
    await leave(client)
    return reported
  }
  const before = [await told(), await told()]

  await engine.apply(documentOf(promoted.port))

  expect([...before, await told(), await told()]).toEqual(['on', 'on', 'off', 'off'])
})

test('76: a client that logs in after a promotion is told so, by the same server', async () => {
  const postgres = await startPostgres()
  await postgres.sql('CREATE ROLE app LOGIN')
  await postgres.sql('CREATE DATABASE app OWNER app')
  await postgres.restartAsStandby()
  const engine = await startEngine({
    defaults: { auth_type: 'trust', pool_size: 1 },
    pools: { app: { servers: [{ host: '127.0.0.1', port: postgres.port }], users: { app: {} } } },
  })
  const client = await WireClient.login(engine, { user: 'app' })
  const before = client.parameters.get('in_hot_standby')

  await postgres.sql('SELECT pg_promote()')
  const next = await WireClient.login(engine, { user: 'app' })

  expect([before, next.parameters.get('in_hot_standby')]).toEqual(['on', 'off'])
  await leave(client, next)
})

// Two majors begin with an empty cluster each.
const timeout = 90_000

test(
  '76: clients that log in after a restart as another major are told the new version',
  { timeout },
  async ({ skip }) => {
    skip(!hasPostgres(14))
    const sql = ['CREATE ROLE app LOGIN', 'CREATE DATABASE app OWNER app']
    const old = await startPostgres({ major: 14, sql })
    const engine = await startEngine({
      defaults: { auth_type: 'trust' },
      pools: { app: { servers: [{ host: '127.0.0.1', port: old.port }], users: { app: {} } } },
    })
    const clients = [await WireClient.login(engine, { user: 'app' }), await WireClient.login(engine, { user: 'app' })]

    await old.stop()
    await startPostgres({ major: 18, port: old.port, sql })
    clients.push(await WireClient.login(engine, { user: 'app' }), await WireClient.login(engine, { user: 'app' }))

    const majors = clients.map((client) => client.parameters.get('server_version')?.slice(0, 2))
    expect(majors).toEqual(['14', '14', '18', '18'])
    await leave(...clients)
  },
)

test.for(poolNames)('a NOTIFY to oneself through %s has the process id that the client was given', async (pool) => {
  const client = await loginTo(world, pool)
  const pids = (messages: readonly Message[]): number[] =>
    messages.filter(({ tag }) => tag === 'A').map(({ body }) => body.readInt32BE(0))
  client.send(query('LISTEN own'))
  await client.readUntil('Z')

  client.send(query("NOTIFY own, 'in one message'"))
  const own = pids(await client.readUntil('Z'))
  await world.postgres.sql("NOTIFY own, 'of another session'", [], 'app')
  const others = pids(await client.readUntil('A'))

  expect(own).toEqual([client.key?.pid])
  expect(others).toHaveLength(1)
  expect(others).not.toEqual(own)
  client.close()
  await client.readToEnd()
})
