/** Replication connections: a server for each client, which streams as it would without a proxy (case 65). */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { chown, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { postgresUser } from '../../../cli/start/embedded-postgres.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { startEngine, until } from '../../support/engine.ts'
import { cancelRequest, copyData, copyDone, query, startup, terminate } from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import { freePort } from '../../support/free-port.ts'
import { postgresMajor } from '../../support/postgres.ts'
import { hasProgram } from '../../support/program.ts'
import { errorResponse, startScriptedServer } from '../../support/scripted-server.ts'
import type { ScriptedServer } from '../../support/scripted-server.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { WireClient } from '../../support/wire.ts'
import type { LoginOptions, Message } from '../../support/wire.ts'
import { compare, loginDirectly, loginTo, poolNames, startWorld } from './world.ts'
import type { World } from './world.ts'

const withoutRecvlogical = !hasProgram('pg_recvlogical')
const systemBinaries = findSystemBinaries()

let world: World
let scripted: ScriptedServer

beforeAll(async () => {
  scripted = await startScriptedServer()
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
      scripted: { servers: [{ host: scripted.host, port: scripted.port }] },
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
    { send: [query('CREATE_REPLICATION_SLOT gone TEMPORARY LOGICAL no_such_plugin')], until: 'Z' },
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
  expect(pooled).toContain('42501')
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

  const options = postgresMajor < 15 ? "LABEL 'test' FAST" : "(LABEL 'test', CHECKPOINT 'fast', WAL false)"

  client.send(query(`BASE_BACKUP ${options}`))
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

test('65: a replication connection has its own server, which no other client gets, beside the pool', async () => {
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

test('65: PAUSE lets replication go on, and who comes waits for RESUME; KILL ends it', async () => {
  const client = await loginTo(world, 'few', logical)
  const operator = new Client({
    host: world.engine.host,
    port: world.engine.port,
    user: 'admin',
    database: 'pgbouncer',
  })
  await operator.connect()

  await operator.query('PAUSE few')
  const goesOn = (await ask(client, 'IDENTIFY_SYSTEM')).at(-1)?.tag
  const waits = await admitted('few')
  const { serversReplication } = await world.engine.pool('few')
  await operator.query('RECONNECT few')
  await operator.query('WAIT_CLOSE few')
  await operator.query('KILL few')
  const { messages } = await client.readToEnd()
  await operator.query('RESUME few')
  await waits.readUntil('Z')
  await operator.end()
  waits.destroy()

  expect(goesOn).toBe('Z')
  expect(serversReplication).toBe(1)
  expect(messages.map(describe)).toEqual([expect.stringContaining('E FATAL 57P01')])
  await untilNoSenders()
})

test('65: no server is opened during a SUSPEND: who comes for replication waits for RESUME', async () => {
  const operator = new Client({
    host: world.engine.host,
    port: world.engine.port,
    user: 'admin',
    database: 'pgbouncer',
  })
  await operator.connect()
  await operator.query('SUSPEND')

  const waits = await admitted('few')
  const { serversReplication } = await world.engine.pool('few')
  await operator.query('RESUME')
  await waits.readUntil('Z')
  await operator.end()
  waits.destroy()

  expect(serversReplication).toBe(0)
  await untilNoSenders()
})

/** A replication client that has been let in, and may be waiting for its server. */
async function admitted(pool: string): Promise<WireClient> {
  const client = await WireClient.connect(world.engine)
  client.send(startup({ user: 'app', database: pool, replication: 'database' }))
  await client.readUntil('R')
  return client
}

test('65: a client that leaves before its server has logged in takes it along', async () => {
  const client = await WireClient.connect(world.engine)
  client.send(startup({ user: 'app', database: 'scripted', replication: 'true' }))
  const server = await scripted.next()
  const asked = await server.readStartup()

  client.destroy()
  await server.ended

  expect(asked.toString()).toContain('replication\0true\0')
  await world.engine.poolUntil('scripted', ({ serversReplication }) => serversReplication === 0)
  expect(world.engine.lost.filter(({ pool }) => pool === 'scripted')).toEqual([])
})

test('65: a server that cannot be reached is told to its client at once, and does not hold up the pool', async () => {
  const login = loginTo(world, 'scripted', physical).then(String, String)
  const server = await scripted.next()
  await server.readStartup()
  server.send(errorResponse('FATAL', '53300', 'too many WAL senders'))
  server.close()

  expect(await login).toContain('53300 too many WAL senders')
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
  const rebuilt = { ...pools['changing'], server_max_protocol_version: '3.2' }
  await world.engine.apply({ ...world.document, pools: { ...pools, changing: rebuilt } })
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

  const stopped = engine.stop('drain', 2000)
  const first = await idle.readToEnd()
  // Its end comes to PostgreSQL a moment after the client has been told.
  await until(async () => (await senders()).length === 1)
  await stopped
  const last = await streaming.readToEnd()

  expect(first.messages.map(describe)).toEqual([expect.stringContaining('E FATAL 57P01')])
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

  expect(messages.map(describe)).toEqual(['E FATAL 57P01 terminating connection due to administrator command'])
  expect(await world.engine.lostUntil((server) => server.backend_pid === pid)).toMatchObject({
    cause: 'terminated',
    client_hurt: true,
  })
})

test.skipIf(withoutRecvlogical)('65: pg_recvlogical works as without a proxy', async () => {
  const run = async (port: number, database: string, slot: string): Promise<unknown[]> => {
    const tool = (...args: string[]): Tool =>
      new Tool('pg_recvlogical', [...connection(port), '-d', database, '-S', slot, ...args])
    const created = await tool('--create-slot', '-P', 'test_decoding').ended
    const streaming = tool('--start', '-f', '-', '--no-loop')
    await world.postgres.sql(`INSERT INTO t VALUES ('to ${slot}')`, [], 'app')
    await until(() => streaming.lines.some((line) => line.includes(`to ${slot}`)))
    streaming.child.kill('SIGINT')
    const stopped = await streaming.ended
    await untilNoSenders()
    const dropped = await tool('--drop-slot').ended
    return [created, stopped, dropped, streaming.complaints]
  }

  const direct = await run(world.postgres.port, 'app', 'direct')

  expect(await run(world.engine.port, 'transaction1', 'pooled')).toEqual(direct)
  expect(direct.slice(0, 3)).toEqual([0, 0, 0])
})

const connection = (port: number): string[] => ['-h', '127.0.0.1', '-p', String(port), '-U', 'app']

/** A program of PostgreSQL that runs until it is told to end. */
class Tool {
  readonly child: ChildProcess
  readonly lines: string[] = []
  readonly complaints: string[] = []
  readonly ended: Promise<number | null>

  constructor(program: string, args: readonly string[]) {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.child = child
    createInterface({ input: child.stdout }).on('line', (line) => this.lines.push(line))
    createInterface({ input: child.stderr }).on('line', (line) => this.complaints.push(line))
    this.ended = new Promise((resolve) => child.once('close', resolve))
    atEndOfFile(() => void child.kill('SIGKILL'))
  }
}

// pg_basebackup and pg_receivewal refuse servers that are newer than they are, so they meet one of their own version.
test.skipIf(systemBinaries === null)(
  '65: pg_basebackup and pg_receivewal work with the server of their own version',
  async () => {
    const binaries = systemBinaries as string
    const { port, stop } = await startSystemPostgres(binaries)
    atEndOfFile(stop)
    const servers = [{ host: '127.0.0.1', port }]
    // Before version 17 these programs ask for a database of this name.
    const engine = await startEngine({
      defaults: { auth_type: 'trust' },
      pools: { replication: { servers, users: { app: {} } } },
    })
    const [backup, archive] = [join(await tempFolder(), 'backup'), await tempFolder()]
    const tool = (name: string, ...args: string[]): Tool =>
      new Tool(join(binaries, name), [...connection(engine.port), ...args])

    const backedUp = tool('pg_basebackup', '-D', backup, '-X', 'stream', '-c', 'fast')
    const backedUpCode = await backedUp.ended
    const slotCode = await tool('pg_receivewal', '-S', 'archive', '--create-slot').ended
    const receiving = tool('pg_receivewal', '-S', 'archive', '-D', archive, '--no-loop', '--synchronous')
    const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' })
    await client.connect()
    // The backup's own stream may still be there.
    const streaming = "SELECT FROM pg_stat_replication WHERE application_name = 'pg_receivewal' AND state = 'streaming'"
    await until(async () => (await client.query(streaming)).rowCount === 1)
    await client.query('CREATE TABLE t AS SELECT 1')
    await client.query('SELECT pg_switch_wal()')
    await client.end()
    await until(async () => (await readdir(archive)).some((name) => /^[0-9A-F]{24}$/.test(name)))
    receiving.child.kill('SIGINT')
    const receivedCode = await receiving.ended

    expect(backedUp.complaints).toEqual([])
    expect([backedUpCode, slotCode, receivedCode]).toEqual([0, 0, 0])
    expect(await readdir(backup)).toEqual(expect.arrayContaining(['PG_VERSION', 'backup_manifest', 'pg_wal']))
    expect(existsSync(join(backup, 'global', 'pg_control'))).toBe(true)
  },
  90_000,
)

/** A cluster of the machine's own PostgreSQL, for programs that come with it. */
async function startSystemPostgres(binaries: string): Promise<{ port: number; stop: () => Promise<void> }> {
  const folder = await tempFolder()
  const user = postgresUser()
  if (user.uid !== undefined && user.gid !== undefined) await chown(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  const initdb = spawn(
    join(binaries, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '--wal-segsize=1', '--no-sync'],
    {
      ...user,
      cwd: '/',
      stdio: 'ignore',
    },
  )
  await once(initdb, 'close')
  const port = await freePort()
  const settings = [`port=${port}`, 'listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off']
  const server = spawn(join(binaries, 'postgres'), ['-D', data, ...settings.flatMap((setting) => ['-c', setting])], {
    ...user,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: server.stderr }).on('line', (line) => {
      if (line.includes('ready to accept connections')) resolve()
    })
    server.once('close', () => reject(new Error('the system PostgreSQL did not start')))
  })
  const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' })
  await client.connect()
  await client.query('CREATE ROLE app LOGIN REPLICATION')
  await client.end()
  const stop = async (): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return
    server.kill('SIGQUIT')
    await once(server, 'close')
  }
  return { port, stop }
}

/** Where Debian keeps the server and the programs of one version; null, and said, when there is none. */
function findSystemBinaries(): string | null {
  const root = '/usr/lib/postgresql'
  const folders = existsSync(root) ? readdirSync(root).map((version) => join(root, version, 'bin')) : []
  const needed = ['initdb', 'postgres', 'pg_basebackup', 'pg_receivewal']
  const found = folders.find((folder) => needed.every((name) => existsSync(join(folder, name)))) ?? null
  if (found === null) process.stdout.write('skipped: no PostgreSQL of the system with pg_basebackup is here\n')
  return found
}
