/** Replication connections: a server for each client, which streams as it would without a proxy (case 65). */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { atEndOfFile } from '../../support/cleanup.ts'
import { startEngine, until } from '../../support/engine.ts'
import { cancelRequest, copyData, copyDone, query, terminate } from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import { hasProgram } from '../../support/program.ts'
import { WireClient } from '../../support/wire.ts'
import type { LoginOptions, Message } from '../../support/wire.ts'
import { compare, loginDirectly, loginTo, poolNames, startWorld } from './world.ts'
import type { World } from './world.ts'

const withoutRecvlogical = !hasProgram('pg_recvlogical')

let world: World

beforeAll(async () => {
  world = await startWorld({
    settings: { wal_level: 'logical', max_wal_senders: 30, max_replication_slots: 30, wal_sender_timeout: '60s' },
    hba: ['host replication all 127.0.0.1/32 trust'],
    consoleUsers: { admin: { auth_type: 'trust' } },
    pools: () => ({
      few: { pool_size: 1, max_replication_connections: 2 },
      none: { max_replication_connections: 0 },
      statement: { pool_mode: 'statement' },
      timed: { query_timeout: '200ms', client_idle_timeout: '200ms', transaction_timeout: '200ms' },
      changing: { pool_size: 2 },
    }),
    sql: ['CREATE TABLE t (a text)', 'ALTER TABLE t OWNER TO app'],
  })
  await world.postgres.sql('ALTER ROLE app REPLICATION')
  await world.postgres.sql('CREATE ROLE plain LOGIN')
})

const logical = { parameters: { replication: 'database' } }
const physical = { parameters: { replication: 'true' } }

/** Process ids of the WAL senders that PostgreSQL has now. */
async function senders(): Promise<number[]> {
  const { rows } = await world.postgres.sql(
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender' ORDER BY pid",
  )
  return (rows as { pid: number }[]).map(({ pid }) => pid)
}

async function untilNoSenders(): Promise<void> {
  await until(
    async () => (await senders()).length === 0,
    () => 'WAL senders are left',
  )
}

/** The first column of the first row of an answer. */
function value(messages: readonly Message[]): string {
  const row = messages.find(({ tag }) => tag === 'D')?.body ?? Buffer.alloc(6)
  return row.toString('utf8', 6, 6 + row.readInt32BE(2))
}

async function ask(client: WireClient, command: string): Promise<Message[]> {
  client.send(query(command))
  return await client.readUntil('Z')
}

async function now(): Promise<string> {
  const { rows } = await world.postgres.sql('SELECT pg_current_wal_lsn()::text AS lsn')
  return (rows as { lsn: string }[])[0]?.lsn ?? ''
}

/** Standby status update: nothing written yet. */
const status = copyData(Buffer.concat([Buffer.from('r'), Buffer.alloc(33)]))

/** Reads the stream until the text appears in it. */
async function streamedUntil(client: WireClient, text: string): Promise<void> {
  for (let all = ''; !all.includes(text);) {
    const { tag, body } = await client.read()
    expect(tag).toBe('d')
    all = all.slice(-text.length) + body.toString('latin1')
  }
}

test('65: logical replication commands are answered as by PostgreSQL, in every mode', async () => {
  const steps = [
    { send: [query('SHOW server_version')], until: 'Z' },
    { send: [query("CREATE_REPLICATION_SLOT gone TEMPORARY LOGICAL no_such_plugin")], until: 'Z' },
    { send: [query('START_REPLICATION SLOT nothing LOGICAL 0/0')], until: 'Z' },
    { send: [query('BEGIN'), query('SELECT 1 AS a'), query('COMMIT')], until: 'Z', count: 3 },
    { send: [query('NONSENSE')], until: 'Z' },
  ]

  const answers = await compare(world, steps, { login: logical })

  expect(answers.filter((line) => line.startsWith('E')).length).toBe(3)
  await untilNoSenders()
})

test.for(['true', 'TRUE', 'on', '1', 'yes', 'database', 'false', 'off', 'no', '0', 'f', 'maybe', 'o', ''])(
  '65: replication=%s means what it means to PostgreSQL',
  async (replication) => {
    const kind = async (login: Promise<WireClient>): Promise<string> => {
      try {
        const client = await login
        const answers = (await ask(client, 'IDENTIFY_SYSTEM')).map(({ tag }) => tag).join('')
        client.destroy()
        return answers
      } catch (error) {
        return String(error)
      }
    }
    const parameters = { replication }

    const direct = await kind(loginDirectly(world, { parameters }))

    expect(await kind(loginTo(world, 'transaction1', { parameters }))).toBe(direct)
  },
)

test('65: what a role may not do is said by PostgreSQL', async () => {
  await world.postgres.sql('ALTER ROLE app NOREPLICATION')
  const direct = await loginDirectly(world, logical).then(String, String)

  const pooled = await loginTo(world, 'transaction1', logical).then(String, String)
  await world.postgres.sql('ALTER ROLE app REPLICATION')
  const ordinary = await transcript(await loginTo(world, 'transaction1'), [{ send: [query('SELECT 1')], until: 'Z' }])

  expect(pooled).toBe(direct)
  expect(pooled).toContain('permission denied')
  expect(ordinary.at(-1)).toBe('Z I')
})

test('65: startup parameters reach the server of a replication connection', async () => {
  const parameters = { replication: 'database', application_name: 'walker', options: '-c statement_timeout=7s' }
  const client = await loginTo(world, 'transaction1', { parameters })

  expect(client.parameters.get('application_name')).toBe('walker')
  expect(value(await ask(client, 'SHOW statement_timeout'))).toBe('7s')
  client.destroy()
  await untilNoSenders()
})

test.for(poolNames)('65: changes stream through %s both ways, and commands go on after the stream', async (pool) => {
  const client = await loginTo(world, pool, logical)
  await ask(client, 'CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding')

  client.send(query('START_REPLICATION SLOT s LOGICAL 0/0'))
  const [first] = await client.readUntil('W')
  await world.postgres.sql("INSERT INTO t VALUES ('streamed one')", [], 'app')
  await streamedUntil(client, 'streamed one')
  client.send(status)
  await world.postgres.sql("INSERT INTO t VALUES ('streamed two')", [], 'app')
  await streamedUntil(client, 'streamed two')
  client.send(copyDone)
  const end = (await client.readUntil('Z')).filter(({ tag }) => tag !== 'd').map(({ tag }) => tag)
  const after = (await ask(client, 'SHOW wal_level')).map(({ tag }) => tag).join('')
  client.send(terminate)
  await client.readToEnd()

  expect(first?.tag).toBe('W')
  expect(end.join('')).toBe('cCCZ')
  expect(after).toBe('TDCZ')
  await untilNoSenders()
})

test('65: physical replication streams WAL', async () => {
  const client = await loginTo(world, 'transaction5', physical)
  const [systemId] = (await ask(client, 'IDENTIFY_SYSTEM')).map(({ tag }) => tag)
  client.send(query(`START_REPLICATION PHYSICAL ${await now()} TIMELINE 1`))
  await client.readUntil('W')

  await world.postgres.sql("INSERT INTO t VALUES ('in the write-ahead log')", [], 'app')
  await streamedUntil(client, 'in the write-ahead log')
  client.destroy()

  expect(systemId).toBe('T')
  await untilNoSenders()
})

test('65: BASE_BACKUP comes whole', async () => {
  const client = await loginTo(world, 'transaction5', physical)

  client.send(query("BASE_BACKUP (LABEL 'test', CHECKPOINT 'fast', WAL false)"))
  let bytes = 0
  let last = ''
  while (last !== 'Z') {
    const { tag, body } = await client.read()
    if (tag === 'E') throw new Error(body.toString())
    if (tag === 'd') bytes += body.length
    last = tag
  }
  client.destroy()

  expect(bytes).toBeGreaterThan(10 * 1024 * 1024)
  await untilNoSenders()
})

test('65: a replication connection has its own server, which nobody else gets, beside the pool', async () => {
  const before = await world.engine.pool('few')
  const [one, two] = [await loginTo(world, 'few', logical), await loginTo(world, 'few', physical)]
  const ordinary = await loginTo(world, 'few')

  const pids = await senders()
  const own = value(await ask(ordinary, 'SELECT pg_backend_pid()'))
  const during = await world.engine.pool('few')
  one.destroy()
  two.close()
  await untilNoSenders()
  const later = value(await ask(ordinary, 'SELECT pg_backend_pid()'))
  await world.engine.poolUntil('few', ({ serversReplication }) => serversReplication === 0)
  ordinary.destroy()

  expect(before.serversReplication).toBe(0)
  expect(pids.length).toBe(2)
  expect(pids).not.toContain(Number(own))
  expect(later).toBe(own)
  expect(during).toMatchObject({ serversReplication: 2, poolSize: 1 })
  expect(during.serversIdle + during.serversActive).toBe(1)
})

test('65: max_replication_connections bounds them, and a place that is left can be taken', async () => {
  const [one, two] = [await loginTo(world, 'few', logical), await loginTo(world, 'few', logical)]

  const third = await loginTo(world, 'few', logical).then(String, String)
  const none = await loginTo(world, 'none', physical).then(String, String)
  one.destroy()
  await world.engine.poolUntil('few', ({ serversReplication }) => serversReplication === 1)
  const again = await loginTo(world, 'few', logical)

  expect(third).toContain('53300 too many replication connections (max_replication_connections)')
  expect(none).toContain('53300')
  for (const client of [two, again]) client.destroy()
  await untilNoSenders()
})

test('65: the console shows them as what they are', async () => {
  const client = await loginTo(world, 'few', physical)
  const { host, port } = world.engine
  const operator = new Client({ host, port, user: 'admin', database: 'pgbouncer' })
  await operator.connect()

  const shown = async (what: string): Promise<unknown[]> => {
    const { rows } = await operator.query<Record<string, unknown>>(`SHOW ${what}`)
    return rows.filter((row) => row['database'] === 'few').map((row) => [row['replication'], row['state']])
  }
  const [clients, servers] = [await shown('CLIENTS'), await shown('SERVERS')]
  const { rows: pools } = await operator.query<Record<string, unknown>>('SHOW POOLS')
  await operator.end()
  client.destroy()

  expect(clients).toEqual([['physical', 'active']])
  expect(servers).toContainEqual(['physical', 'active'])
  expect(pools.find((row) => row['database'] === 'few')).toMatchObject({ sv_active: 1, cl_active: 1 })
  await untilNoSenders()
})

test('65: statement pooling and time limits of queries are not for replication', async () => {
  const client = await loginTo(world, 'statement', logical)
  const begun = (await ask(client, 'BEGIN')).map(describe)
  client.destroy()
  const timed = await loginTo(world, 'timed', logical)
  await ask(timed, 'CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding')
  timed.send(query('START_REPLICATION SLOT s LOGICAL 0/0'))
  await timed.readUntil('W')

  await world.postgres.sql('SELECT pg_sleep(0.6)')
  await world.postgres.sql("INSERT INTO t VALUES ('after the limits')", [], 'app')
  await streamedUntil(timed, 'after the limits')
  timed.destroy()

  expect(begun).toEqual(['C BEGIN', 'Z T'])
  await untilNoSenders()
})

test('65: a replication command is canceled as any other', async () => {
  const holder = await loginDirectly(world)
  await ask(holder, 'BEGIN')
  await ask(holder, "INSERT INTO t VALUES ('holds a transaction open')")
  const client = await loginTo(world, 'transaction1', logical)
  client.send(query('CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding'))
  await until(async () => (await world.postgres.activeQueries('CREATE_REPLICATION_SLOT%')) === 1)

  const { pid, secret } = client.key as NonNullable<WireClient['key']>
  const request = await WireClient.connect(world.engine)
  request.send(cancelRequest(pid, secret))
  await request.readToEnd()
  const answers = (await client.readUntil('Z')).map(describe)
  for (const one of [holder, client, request]) one.destroy()

  expect(answers.at(-2)).toContain('57014')
  await untilNoSenders()
})

test('65: a client that does not read costs no memory', async () => {
  const client = await loginTo(world, 'transaction5', physical)
  client.send(query(`START_REPLICATION PHYSICAL ${await now()} TIMELINE 1`))
  await client.readUntil('W')
  const before = world.engine.rssBytes()

  client.socket.pause()
  await world.postgres.sql("INSERT INTO t SELECT repeat('x', 8000) || g FROM generate_series(1, 8000) g", [], 'app')
  const end = await now()
  await world.postgres.sql('SELECT pg_sleep(0.5)')
  const grown = world.engine.rssBytes() - before
  client.socket.resume()
  client.destroy()

  expect(end).toBeDefined()
  expect(grown).toBeLessThan(24 * 1024 * 1024)
  await untilNoSenders()
})

test('65: a rebuilt pool drains while replication goes on, and is gone with it', async () => {
  const client = await loginTo(world, 'changing', logical)
  await ask(client, 'CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding')
  client.send(query('START_REPLICATION SLOT s LOGICAL 0/0'))
  await client.readUntil('W')

  const { pools } = world.document as { pools: Record<string, object> }
  const changed = { ...world.document, pools: { ...pools, changing: { ...pools['changing'], application_name: 'x' } } }
  const rebuilt = { ...pools['changing'], server_max_protocol_version: '3.2' }
  await world.engine.apply({ ...changed, pools: { ...pools, changing: rebuilt } })
  const draining = await world.engine.pool('changing')
  await world.postgres.sql("INSERT INTO t VALUES ('after the rebuild')", [], 'app')
  await streamedUntil(client, 'after the rebuild')
  client.destroy()
  await world.engine.poolUntil('changing', ({ serversDraining }) => serversDraining === 0)

  expect(draining).toMatchObject({ serversDraining: 1, serversReplication: 0 })
  await untilNoSenders()
})

test('109: replication through a pool that is removed ends with 57P01', async () => {
  const client = await loginTo(world, 'changing', logical)
  await ask(client, 'CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding')
  client.send(query('START_REPLICATION SLOT s LOGICAL 0/0'))
  await client.readUntil('W')

  const { pools } = world.document as { pools: Record<string, object> }
  const { changing: _, ...rest } = pools
  await world.engine.apply({ ...world.document, pools: rest })
  const { messages } = await client.readToEnd()
  await world.engine.apply(world.document)

  expect(messages.filter(({ tag }) => tag !== 'd').map(describe)).toEqual([expect.stringContaining('E FATAL 57P01')])
  await untilNoSenders()
})

test('65: a proxy that stops waits for replication no longer than its time, and an idle one ends at once', async () => {
  const engine = await startEngine(world.document)
  const login = async (options: Partial<LoginOptions>): Promise<WireClient> =>
    await WireClient.login(engine, { user: 'app', database: 'transaction5', ...options })
  const [idle, streaming] = [await login(physical), await login(physical)]
  streaming.send(query(`START_REPLICATION PHYSICAL ${await now()} TIMELINE 1`))
  await streaming.readUntil('W')

  const stopped = engine.stop('drain', 500)
  const first = await idle.readToEnd()
  const waiting = await senders()
  await stopped
  const last = await streaming.readToEnd()

  expect(first.messages.map(describe)).toEqual([expect.stringContaining('E FATAL 57P01')])
  expect(waiting.length).toBe(1)
  expect(last.messages.filter(({ tag }) => tag !== 'd').map(describe)).toEqual([
    expect.stringContaining('E FATAL 57P01'),
  ])
  await untilNoSenders()
})

test('65: a server that ends takes its replication client along, with its own words', async () => {
  const client = await loginTo(world, 'transaction5', logical)
  const [pid] = await senders()

  await world.postgres.sql('SELECT pg_terminate_backend($1)', [pid])
  const { messages } = await client.readToEnd()

  expect(messages.map(describe)).toEqual([
    'E FATAL 57P01 terminating connection due to administrator command',
  ])
  expect(await world.engine.lostUntil((server) => server.backendPid === pid)).toMatchObject({
    cause: 'terminated',
    clientHurt: true,
  })
})

test.skipIf(withoutRecvlogical)('65: pg_recvlogical works', async () => {
  const connection = ['-h', world.engine.host, '-p', String(world.engine.port), '-U', 'app', '-d', 'transaction1']
  const run = (...args: string[]): ChildProcess => {
    const child = spawn('pg_recvlogical', [...connection, '-S', 'tool', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    atEndOfFile(() => void child.kill('SIGKILL'))
    return child
  }
  const ended = async (child: ChildProcess): Promise<number | null> =>
    await new Promise((resolve) => child.once('close', resolve))

  const created = await ended(run('--create-slot', '-P', 'test_decoding'))
  const streaming = run('--start', '-f', '-', '--no-loop')
  const lines: string[] = []
  createInterface({ input: streaming.stdout as NodeJS.ReadableStream }).on('line', (line) => lines.push(line))
  await world.postgres.sql("INSERT INTO t VALUES ('to the tool')", [], 'app')
  await until(() => lines.some((line) => line.includes('to the tool')))
  streaming.kill('SIGINT')
  const stopped = await ended(streaming)
  await untilNoSenders()
  const dropped = await ended(run('--drop-slot'))

  expect([created, stopped, dropped]).toEqual([0, 0, 0])
})
