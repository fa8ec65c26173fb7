/** What the console shows of a pool on a real PostgreSQL. */
import type { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { startPostgres } from '../../support/postgres.ts'
import { EngineInProcess, hashA, hashB, poolSpec } from './engine-in-process.ts'

const postgres = await startPostgres({ sql: ['CREATE ROLE app_rw LOGIN', 'CREATE ROLE batch LOGIN'] })
const running = new EngineInProcess()
const web = poolSpec({ port: postgres.port, serverUser: 'app_rw' }, { pool_size: 2, server_lifetime: '30m' })
const batch = poolSpec({ port: postgres.port, user: 'batch', serverUser: 'batch', hash: hashB, connectHash: hashB })
let console: Client
beforeAll(async () => {
  running.apply(7, [web, batch])
  console = await running.console()
})

type Shown = Record<string, string | number | null>

async function show(what: string, of: (row: Shown) => boolean = () => true): Promise<Shown[]> {
  const { rows } = await console.query<Shown>(`SHOW ${what}`)
  return rows.filter(of)
}

const isWeb = (row: Shown): boolean => row['user'] === 'web'

function connectWeb(): Promise<Client> {
  return running.connect({ user: 'web', database: 'app', application_name: 'shop' })
}

test('SHOW POOLS counts clients and servers by state', async () => {
  const idle = await connectWeb()
  const active = await connectWeb()
  await active.query('BEGIN')
  const second = await connectWeb()
  await second.query('BEGIN')
  const waiting = await connectWeb()
  const answer = waiting.query('SELECT 1')
  const name = running.engine.pools.find('app', 'web')
  await running.until(() => name?.waiting.size === 1)

  const [pool] = await show('POOLS', isWeb)
  const [own] = await show('POOLS', (row) => row['database'] === 'pgbouncer')
  await Promise.all([active.query('COMMIT'), second.query('COMMIT'), answer])
  await Promise.all([idle, active, second, waiting].map((client) => client.end()))

  expect(pool).toMatchObject({ cl_active: 3, cl_waiting: 1, sv_active: 2, sv_idle: 0, sv_login: 0, maxwait: 0 })
  expect(pool).toMatchObject({ pool_mode: 'transaction', load_balance_hosts: null })
  expect(pool?.['maxwait_us']).toBeGreaterThan(0)
  expect(own).toMatchObject({ user: 'pgbouncer', cl_active: 1, pool_mode: 'statement' })
})

test('SHOW CLIENTS and SHOW SERVERS show both ends of a link, each naming the other', async () => {
  const client = await connectWeb()
  const { rows } = await client.query<{ pid: number }>('BEGIN; SELECT pg_backend_pid() AS pid').then(lastOf)

  const [shown] = await show('CLIENTS', isWeb)
  const [server] = await show('SERVERS', (row) => row['remote_pid'] === rows[0]?.pid)
  await client.end()

  const time = expect.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/)
  expect(shown).toMatchObject({
    type: 'C',
    database: 'app',
    replication: 'none',
    state: 'active',
    addr: '127.0.0.1',
    local_addr: '127.0.0.1',
    local_port: running.port,
    connect_time: time,
    request_time: time,
    wait: 0,
    close_needed: 0,
    link: server?.['ptr'],
    remote_pid: 0,
    tls: '',
    application_name: 'shop',
  })
  expect(server).toMatchObject({
    type: 'S',
    user: 'app_rw',
    database: 'app',
    state: 'active',
    addr: '127.0.0.1',
    port: postgres.port,
    connect_time: time,
    link: shown?.['ptr'],
    application_name: 'shop',
  })
  const ageMs = Date.now() - Date.parse(String(shown?.['connect_time']).replace(' UTC', 'Z').replace(' ', 'T'))
  expect(ageMs).toBeLessThan(60_000)
  expect(ageMs).toBeGreaterThan(-2000)
})

test('SHOW CLIENTS and SHOW SERVERS count prepared statements, which clients that ask the same share', async () => {
  const clients = await Promise.all([connectWeb(), connectWeb()])
  for (const client of clients) {
    for (const name of ['first', 'second']) await client.query({ name, text: 'SELECT 1' })
    await client.query({ name: 'third', text: 'SELECT 3' })
  }
  await clients[0]?.query('DEALLOCATE third')

  const held = (await show('CLIENTS', isWeb)).map((row) => row['prepared_statements'])
  const had = (await show('SERVERS', ({ user }) => user === 'app_rw')).map((row) => row['prepared_statements'])
  await Promise.all(clients.map((client) => client.end()))

  expect(held.map(Number).sort((one, other) => one - other)).toEqual([2, 3])
  expect(Math.max(...had.map(Number))).toBe(2)
})

test('SHOW CLIENTS shows how long a waiting client has waited', async () => {
  const blockers = await Promise.all([connectWeb(), connectWeb()])
  for (const blocker of blockers) await blocker.query('BEGIN')
  const waiting = await connectWeb()
  const answer = waiting.query('SELECT 1')
  const pool = running.engine.pools.find('app', 'web')
  await running.until(() => (pool?.maxWaitMs ?? 0) > 1100)

  const [shown] = await show('CLIENTS', (row) => row['state'] === 'waiting')
  for (const blocker of blockers) await blocker.query('COMMIT')
  await answer
  await Promise.all([...blockers, waiting].map((client) => client.end()))

  expect(shown).toMatchObject({ user: 'web', wait: 1, link: '' })
  expect(shown?.['wait_us']).toBeLessThan(1_000_000)
})

test('SHOW DATABASES sums up the users of a database', async () => {
  const [app] = await show('DATABASES', (row) => row['name'] === 'app')
  const [own] = await show('DATABASES', (row) => row['name'] === 'pgbouncer')

  expect(app).toMatchObject({
    host: '127.0.0.1',
    port: postgres.port,
    database: 'postgres',
    force_user: null,
    pool_size: 20,
    min_pool_size: 0,
    reserve_pool_size: 0,
    server_lifetime: 3600,
    pool_mode: 'transaction',
    load_balance_hosts: null,
    max_connections: 22,
    max_client_connections: 0,
    paused: 0,
    disabled: 0,
  })
  expect(own).toMatchObject({ port: running.port, database: 'pgbouncer', force_user: 'pgbouncer', host: null })
})

test('SHOW DATABASES names all hosts that serve, and the user that all clients become', async () => {
  const other = new EngineInProcess()
  const hosts = ['db1', 'db2'].map((host) => ({
    host,
    port: 5433,
    role: 'replica' as const,
    addresses: ['192.0.2.1', '192.0.2.2'],
  }))
  other.apply(1, [
    { ...web, hosts },
    { ...web, user: 'batch', hosts },
  ])
  const client = await other.console()

  const databases = await client.query<Shown>('SHOW DATABASES')
  const lists = await client.query<Shown>('SHOW LISTS')
  await client.end()

  expect(databases.rows[0]).toMatchObject({
    host: 'db1,db2',
    port: 5433,
    force_user: 'app_rw',
    load_balance_hosts: 'round-robin',
    server_lifetime: 1800,
    max_connections: 2,
  })
  expect(lists.rows).toContainEqual({ list: 'dns_names', items: 2 })
})

test('SHOW STATS counts what clients did, for the database as a whole', async () => {
  const [before] = await show('STATS', (row) => row['database'] === 'app')
  const client = await connectWeb()
  await client.query('SELECT 1')
  await client.query('BEGIN')
  await client.query('SELECT 2')
  await client.query('COMMIT')
  await client.query('SELECT $1::int', [3])
  const named = { name: 'named', text: 'SELECT $1::int' }
  await client.query({ ...named, values: [4] })
  await client.query({ ...named, values: [5] })
  const other = await running.connect({ user: 'batch', database: 'app' })
  await other.query('SELECT 4')
  await Promise.all([client.end(), other.end()])

  const [after] = await show('STATS', (row) => row['database'] === 'app')
  const [totals] = await show('STATS_TOTALS', (row) => row['database'] === 'app')

  const grown = (column: string): number => Number(after?.[column]) - Number(before?.[column])
  expect(grown('total_query_count')).toBe(8)
  expect(grown('total_server_assignment_count')).toBe(6)
  // Only of statements with a name.
  expect(grown('total_client_parse_count')).toBe(1)
  expect(grown('total_server_parse_count')).toBe(1)
  expect(grown('total_bind_count')).toBe(2)
  expect(grown('total_client_login_count')).toBe(2)
  expect(grown('total_received')).toBeGreaterThan(0)
  expect(grown('total_sent')).toBeGreaterThan(0)
  expect(totals?.['query_count']).toBe(after?.['total_query_count'])
})

test('SHOW LISTS counts the console among databases, users and pools', async () => {
  const rows = await show('LISTS')
  const items = Object.fromEntries(rows.map((row) => [row['list'], row['items']]))

  expect(items).toMatchObject({ databases: 2, users: 3, pools: 3, login_clients: 0, free_clients: 0, dns_names: 0 })
  expect(items['used_clients']).toBe(running.engine.context.clients.size)
})

test('SHOW CONFIG shows every key once, and what pools do not agree on as varies', async () => {
  const rows = await show('CONFIG')
  const of = (key: string): Shown | undefined => rows.find((row) => row['key'] === key)

  expect(new Set(rows.map((row) => row['key'])).size).toBe(rows.length)
  expect(of('tcp_user_timeout')).toEqual({ key: 'tcp_user_timeout', value: '30s', default: '30s', changeable: 'yes' })
  expect(of('pool_size')).toEqual({ key: 'pool_size', value: 'varies', default: '20', changeable: 'yes' })
  expect(of('listen_port')).toMatchObject({ default: '6432', changeable: 'no' })
  expect(of('max_client_conn')).toMatchObject({ value: '10000' })
})

test('SHOW DISCONNECTS shows a lost server with its cause', async () => {
  const client = await connectWeb()
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const pid = rows[0]?.pid
  const before = running.posted.filter(({ type }) => type === 'disconnect').length
  await postgres.sql('SELECT pg_terminate_backend($1)', [pid])
  await running.until(() => running.posted.filter(({ type }) => type === 'disconnect').length > before)

  const [newest] = await show('DISCONNECTS')
  await client.end()

  expect(newest).toMatchObject({
    at: expect.stringMatching(/ UTC$/),
    database: 'app',
    user: 'web',
    host: '127.0.0.1',
    port: postgres.port,
    role: 'primary',
    backend_pid: pid,
    cause: 'terminated',
    sqlstate: '57P01',
    state: 'idle',
    client_hurt: 0,
    pool_hash: hashA,
  })
})

test('the console shows no password', async () => {
  const secret = 'a-very-secret-word'
  const verifier = Buffer.alloc(32, secret)
  running.apply(8, [
    {
      ...web,
      serverPassword: secret,
      clientSecret: {
        md5: secret,
        scram: { iterations: 4096, salt: verifier, storedKey: verifier, serverKey: verifier },
      },
    },
    batch,
  ])

  const commands = [
    'POOLS',
    'CLIENTS',
    'SERVERS',
    'DATABASES',
    'CONFIG',
    'LISTS',
    'STATS',
    'POOL_VERSIONS',
    'DISCONNECTS',
  ]
  const shown: Shown[] = []
  for (const command of commands) shown.push(...(await show(command)))

  expect(JSON.stringify(shown)).not.toContain(secret)
})

/** The driver answers a query of several statements with a list. */
function lastOf<Result>(results: Result | readonly Result[]): Result {
  return Array.isArray(results) ? (results.at(-1) as Result) : (results as Result)
}
