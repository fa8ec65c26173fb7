/** What operators do to connections at the console, on a real PostgreSQL. */
import type { Client } from 'pg'
import { afterEach, beforeAll, expect, test } from 'vitest'
import type { PoolSpec } from '../../../proxy/spec.ts'
import type { Target } from '../../../proxy/engine/pool/target.ts'
import { freePort } from '../../support/free-port.ts'
import { startPostgres } from '../../support/postgres.ts'
import { EngineInProcess, hashA, hashB, poolSpec } from './engine-in-process.ts'

const postgres = await startPostgres({ sql: ['CREATE ROLE app_rw LOGIN'] })
const running = new EngineInProcess()
const { port } = postgres
let console: Client
let other: Client
let version = 1

beforeAll(async () => {
  running.apply(version++, [
    poolSpec({ port, serverUser: 'app_rw' }, { pool_size: 2 }),
    poolSpec({ port, database: 'blog', serverUser: 'app_rw' }, { pool_size: 2 }),
  ])
  console = await running.console()
  other = await running.console()
})

afterEach(() => {
  running.engine.assertInvariants()
})

async function web(database = 'app'): Promise<Client> {
  return await running.connect({ user: 'web', database })
}

function name(database = 'app') {
  const found = running.engine.pools.find(database, 'web')
  if (found === null) throw new Error(`no pool ${database}`)
  return found
}

async function pidOf(client: Client): Promise<number | undefined> {
  return (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid
}

async function database(wanted: string): Promise<Record<string, unknown> | undefined> {
  const { rows } = await other.query<Record<string, unknown>>('SHOW DATABASES')
  return rows.find((row) => row['name'] === wanted)
}

test('PAUSE answers when the last server was released; until RESUME requests and logins wait', async () => {
  const inside = await web()
  await inside.query('BEGIN')
  let answered = false

  const paused = console.query('PAUSE app').then(({ command }) => {
    answered = true
    return command
  })
  await running.until(() => name().source?.paused === true)
  const asked = (await web()).query('SELECT 1 AS one')
  await running.until(() => name().waiting.size === 1)
  const before = answered
  await inside.query('COMMIT')
  const command = await paused
  const opened = name().source?.serverSets.map((serverSet) => serverSet.connections)
  const elsewhere = await pidOf(await web('blog'))
  await other.query('RESUME app')

  expect((await asked).rows).toEqual([{ one: 1 }])
  expect({ before, command }).toEqual({ before: false, command: 'PAUSE' })
  expect(opened).toEqual([0])
  expect(elsewhere).toBeGreaterThan(0)
})

test('a PAUSE that RESUME overtakes says so', async () => {
  const inside = await web()
  await inside.query('BEGIN')
  const outcome = console.query('PAUSE app').catch((error: unknown) => error)
  await running.until(() => name().source?.paused === true)

  await other.query('RESUME app')

  expect(await outcome).toMatchObject({ code: '55000' })
  expect((await inside.query('COMMIT')).command).toBe('COMMIT')
})

test('PAUSE without a database holds all of them, those of later versions too, and SHOW STATE tells', async () => {
  await console.query('PAUSE')
  running.apply(version++, [
    poolSpec({ port, serverUser: 'app_rw' }, { pool_size: 2 }),
    poolSpec({ port, database: 'blog', serverUser: 'app_rw' }, { pool_size: 2 }),
    poolSpec({ port, database: 'later', serverUser: 'app_rw' }),
  ])
  const asked = (await web('blog')).query('SELECT 1 AS one')
  await running.until(() => name('blog').waiting.size === 1)

  const { rows } = await other.query<{ key: string; value: string }>('SHOW STATE')
  const later = await database('later')
  await expect(other.query('PAUSE')).rejects.toMatchObject({ code: '55000' })
  await other.query('RESUME')

  expect(rows).toEqual([
    { key: 'active', value: 'no' },
    { key: 'paused', value: 'yes' },
    { key: 'suspended', value: 'no' },
  ])
  expect(later).toMatchObject({ paused: 1 })
  expect((await asked).rows).toEqual([{ one: 1 }])
})

test('DISABLE refuses newcomers and leaves alone who is there, until ENABLE', async () => {
  const inside = await web()

  await console.query('DISABLE app')
  const shown = await database('app')
  const refused = web()

  await expect(refused).rejects.toMatchObject({ code: '55000', message: 'database does not allow connections: app' })
  expect(await pidOf(inside)).toBeGreaterThan(0)
  expect(shown).toMatchObject({ disabled: 1, paused: 0 })
  await console.query('ENABLE app')
  expect(await pidOf(await web())).toBeGreaterThan(0)
})

test('RECONNECT replaces an idle server at once and a linked one at the end of its transaction', async () => {
  const [inside, idle] = [await web(), await web()]
  await inside.query('BEGIN')
  const [linkedPid, idlePid] = [await pidOf(inside), await pidOf(idle)]

  await console.query('RECONNECT app')
  const [still, next] = [await pidOf(inside), await pidOf(idle)]
  let closed = false
  const waited = console.query('WAIT_CLOSE app').then(() => (closed = true))
  await other.query('SHOW STATE')
  const before = closed
  await inside.query('COMMIT')
  await waited

  expect(still).toBe(linkedPid)
  expect(next).not.toBe(idlePid)
  expect(before).toBe(false)
  expect([linkedPid, idlePid]).not.toContain(await pidOf(inside))
})

test('KILL ends every client and server of the database, and new clients wait for RESUME', async () => {
  const inside = await web()
  const told = new Promise((resolve) => inside.once('error', resolve))
  await inside.query('BEGIN')
  const bystander = await web('blog')

  await console.query('KILL app')
  const newcomer = web().then(async (client) => await client.query('SELECT 1 AS one'))
  await running.until(() => name().waiting.size + name().idle.size === 1)
  const servers = name().source?.serverSets.map((serverSet) => serverSet.connections)
  await console.query('RESUME app')

  expect(await told).toMatchObject({ code: '57P01' })
  expect(servers).toEqual([0])
  expect((await newcomer).rows).toEqual([{ one: 1 }])
  expect(await pidOf(bystander)).toBeGreaterThan(0)
})

test('KILL_CLIENT ends one client and its server', async () => {
  const [victim, bystander] = [await web(), await web()]
  const told = new Promise((resolve) => victim.once('error', resolve))
  await victim.query('BEGIN')
  const pid = await pidOf(victim)
  const client = [...name().active][0]

  await console.query(`KILL_CLIENT ${client?.id}`)

  expect(await told).toMatchObject({ code: '57P01' })
  expect(await pidOf(bystander)).not.toBe(pid)
  await expect(console.query('KILL_CLIENT 999999')).rejects.toMatchObject({ message: 'client not found' })
})

test('KILL_CLIENT gives the next client a server of its own', async () => {
  const sessions = { pool_size: 1, pool_mode: 'session', server_reset_query: '' } as const
  running.apply(version++, [
    poolSpec({ port, serverUser: 'app_rw' }, { pool_size: 2 }),
    poolSpec({ port, database: 'blog', serverUser: 'app_rw' }, { pool_size: 2 }),
    poolSpec({ port, database: 'sessions', serverUser: 'app_rw' }, sessions),
  ])
  const victim = await web('sessions')
  const told = new Promise((resolve) => victim.once('error', resolve))
  const pid = await pidOf(victim)
  const asked = pidOf(await web('sessions'))
  await running.until(() => name('sessions').waiting.size === 1)
  const client = [...name('sessions').active][0]

  await console.query(`KILL_CLIENT ${client?.id}`)

  expect(await told).toMatchObject({ code: '57P01' })
  expect(await asked).not.toBe(pid)
})

test.for([
  ['PAUSE nowhere', '3D000'],
  ['PAUSE pgbouncer', '0A000'],
  ['RESUME app', '55000'],
  ['RESUME', '55000'],
  ['DISABLE', '42601'],
  ['ENABLE nowhere', '3D000'],
  ['KILL_CLIENT all', '42601'],
  ['KILL_CLIENT', '42601'],
  ['SUSPEND now', '42601'],
  ['RELOAD app', '42601'],
  ['SHOW POOLS app', '42601'],
  ['RECONNECT app blog', '42601'],
  ['SHUTDOWN LATER', '42601'],
] as const)('%s is refused with %s', async ([statement, code]) => {
  await expect(console.query(statement)).rejects.toMatchObject({ code })
})

test('every command that changes something needs the right admin, the others need stats', async () => {
  const monitor = await running.console('monitor')
  const notice = new Promise<string>((resolve) => monitor.once('notice', ({ detail }) => resolve(detail ?? '')))
  await monitor.query('SHOW HELP')
  const commands = (await notice).split('\n').flatMap((line) => /^\t([A-Z_ ]+?)  /.exec(line)?.[1] ?? [])
  const codeOf = async (command: string): Promise<string> => {
    const names: Record<string, string> = { DISABLE: ' app', ENABLE: ' app', KILL_CLIENT: ' 1', SET: ' pool_size = 2' }
    return await monitor.query(`${command}${names[command] ?? ''}`).then(
      () => 'done',
      ({ code }: { code: string }) => code,
    )
  }

  const outcomes: Record<string, string[]> = {}
  for (const command of commands) (outcomes[await codeOf(command)] ??= []).push(command)

  const changing = ['PAUSE', 'RESUME', 'DISABLE', 'ENABLE', 'RECONNECT', 'WAIT_CLOSE', 'KILL', 'KILL_CLIENT']
  expect(Object.keys(outcomes).toSorted()).toEqual(['42501', 'done'])
  expect(outcomes['42501']?.toSorted()).toEqual(
    [...changing, 'SHUTDOWN', 'SUSPEND', 'SET', 'RELOAD', 'SHOW FDS'].toSorted(),
  )
  expect(outcomes['done']?.every((command) => command.startsWith('SHOW '))).toBe(true)
  expect(outcomes['done']?.length).toBeGreaterThan(20)
  expect(await pidOf(await web())).toBeGreaterThan(0)
})

test('SHOW BANS has the addresses at which logins fail, until one succeeds; a rebuild forgets none', async () => {
  const engine = new EngineInProcess()
  const dead = await freePort()
  const spec = poolSpec({ port: dead, serverUser: 'app_rw' }, { server_login_retry: '20ms' })
  engine.apply(1, [spec])
  const operator = await engine.console()
  const bans = async (): Promise<Record<string, unknown>[]> => (await operator.query('SHOW BANS')).rows
  const before = await bans()
  const client = engine.connect({ user: 'web', database: 'app' })
  const failures = () =>
    engine.engine.pools.find('app', 'web')?.source?.health.failing(spec.hosts.map(targetOf))[0]?.failures
  await engine.until(() => (failures() ?? 0) > 2)

  const during = await bans()
  engine.apply(2, [{ ...spec, hash: hashB, connectHash: hashB }])
  const rebuilt = await bans()
  engine.apply(3, [poolSpec({ port, serverUser: 'app_rw', hash: hashA, connectHash: hashA })])
  await (await client).query('SELECT 1')

  expect(before).toEqual([])
  expect(during).toEqual([
    {
      db: 'app',
      user: 'web',
      role: 'primary',
      host: '127.0.0.1',
      reason: 'server login failed: the connection was refused (ECONNREFUSED)',
      ban_time: expect.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/),
      ban_duration_seconds: expect.stringMatching(/^[01]$/),
      ban_remaining_seconds: expect.stringMatching(/^[01]$/),
      port: dead,
      address: '127.0.0.1',
      failures: expect.any(Number),
    },
  ])
  expect(rebuilt[0]?.['failures']).toBeGreaterThanOrEqual(Number(during[0]?.['failures']))
  expect(await bans()).toEqual([])
})

function targetOf(host: PoolSpec['hosts'][number]): Target {
  return { host, address: host.addresses[0] as string }
}

test('SHUTDOWN asks the agent to end the proxy, in the mode that was typed', async () => {
  await console.query('SHUTDOWN WAIT_FOR_CLIENTS')
  await console.query('SHUTDOWN WAIT_FOR_SERVERS')
  await console.query('SHUTDOWN')

  const modes = running.posted.flatMap((message) => (message.type === 'shutdown' ? [message.mode] : []))
  expect(modes).toEqual(['clients', 'drain', 'now'])
})

test('a stop that waits for clients lets connected clients go on, and accepts no new ones', async () => {
  const engine = new EngineInProcess()
  engine.apply(1, [poolSpec({ port, serverUser: 'app_rw' })])
  const client = await engine.connect({ user: 'web', database: 'app' })

  engine.engine.receive({ type: 'stop', mode: 'clients', timeoutMs: 60_000 })
  await client.query('SELECT 1')
  await client.query('SELECT 2')
  const ended = engine.engine.ended
  await expect(engine.connect({ user: 'web', database: 'app' })).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  await client.end()
  await engine.until(() => engine.engine.ended)

  expect(ended).toBe(false)
})
