/** Users of a database whose servers log in as one role share these servers, on a real PostgreSQL. */
import { Client } from 'pg'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { startEngine, until } from '../../support/engine.ts'
import type { Engine } from '../../support/engine.ts'
import { startWorld } from './world.ts'
import type { World } from './world.ts'

const users = { web: {}, jobs: {} }
const forced = { server_user: 'app', server_password: '', users }
const asked = { pool_size: 2, auth_type: 'scram-sha-256', auth_user: 'postgres', users: { '*': {} } }
const batch = { ...forced, server_user: 'batch', max_user_connections: 3, pool_size: 3 }

let world: World
const clients: Client[] = []

beforeAll(async () => {
  world = await startWorld({
    consoleUsers: { admin: { auth_type: 'trust' } },
    sql: ['web', 'jobs', 'batch'].map((role) => `CREATE ROLE ${role} LOGIN PASSWORD 'secret'`),
    pools: () => ({
      forced: { ...forced, pool_size: 5 },
      narrow: { ...forced, pool_size: 1 },
      mixed: { pool_size: 2, users: { web: { server_user: 'app', pool_size: 1 }, app: {}, jobs: { pool_size: 1 } } },
      'limit-1': batch,
      'limit-2': batch,
      keys: { ...asked, server_auth: 'passthrough' },
      guests: { ...asked, server_user: 'app', server_password: '' },
    }),
  })
})

afterEach(async () => {
  await Promise.all(clients.splice(0).map(async (client) => await client.end()))
  await until(async () => (await world.engine.snapshot()).clients === 0)
})

async function login(database: string, user: string, { host, port }: Engine = world.engine): Promise<Client> {
  const client = new Client({ host, port, database, user, password: 'secret' })
  client.on('error', () => undefined)
  await client.connect()
  clients.push(client)
  return client
}

/** Clients of both users in turn, in the order in which they log in. */
async function loginAll(database: string, count: number, engine?: Engine): Promise<Client[]> {
  const all: Client[] = []
  for (let at = 0; at < count; at++) all.push(await login(database, at % 2 === 0 ? 'web' : 'jobs', engine))
  return all
}

async function console(sql: string, { host, port } = world.engine): Promise<Record<string, unknown>[]> {
  const operator = new Client({ host, port, user: 'admin', database: 'pgbouncer' })
  await operator.connect()
  try {
    return (await operator.query<Record<string, unknown>>(sql)).rows
  } finally {
    await operator.end()
  }
}

interface Place {
  readonly pid: number
  readonly role: string
}

/** Begins a transaction; the server it runs on. */
async function begin(client: Client): Promise<Place> {
  await client.query('BEGIN')
  const { rows } = await client.query<Place>('SELECT pg_backend_pid() AS pid, current_user::text AS role')
  return rows[0] as Place
}

async function waiting(database: string, count: number, engine = world.engine): Promise<void> {
  await engine.until(({ pools }) => {
    const ofDatabase = pools.filter(({ pool }) => pool === database)
    return ofDatabase.reduce((sum, { clientsWaiting }) => sum + clientsWaiting, 0) === count
  })
}

/** All clients begin; as they end one after another, the most transactions at once, and their servers. */
async function most(all: readonly Client[]): Promise<{ atOnce: number; places: Place[] }> {
  const open = new Set<Client>()
  const places: Place[] = []
  let atOnce = 0
  await Promise.all(
    all.map(async (client) => {
      places.push(await begin(client))
      open.add(client)
      atOnce = Math.max(atOnce, open.size)
      await client.query('SELECT pg_sleep(0.1)')
      open.delete(client)
      await client.query('COMMIT')
    }),
  )
  return { atOnce, places }
}

function pidsOf(places: readonly Place[]): Set<number> {
  return new Set(places.map(({ pid }) => pid))
}

test.for([1, 2, 4])('two users with one server_user hold pool_size servers together: workers = %s', async (workers) => {
  const engine = workers === 1 ? world.engine : await startEngine(world.document, { workers })
  const { places, atOnce } = await most(await loginAll('forced', 12, engine))

  expect(new Set(places.map(({ role }) => role))).toEqual(new Set(['app']))
  expect(atOnce).toBeLessThanOrEqual(5)
  const { pools } = await engine.snapshot()
  const held = pools.filter(({ pool }) => pool === 'forced')
  expect(held.reduce((sum, one) => sum + one.serversActive + one.serversIdle + one.serversLogin, 0)).toBe(5)
})

test('the client that has waited for longest is served first, of whichever user', async () => {
  const [holder, ...others] = await loginAll('narrow', 5)
  await begin(holder!)
  const times: Promise<number>[] = []
  for (const [at, client] of others.entries()) {
    times.push(
      client
        .query<{ at: string }>('SELECT extract(epoch FROM clock_timestamp())::text AS at')
        .then(({ rows }) => Number(rows[0]?.at)),
    )
    await waiting('narrow', at + 1)
  }
  await holder!.query('COMMIT')
  const served = await Promise.all(times)

  expect(served).toEqual(served.toSorted((one, other) => one - other))
})

test('a user’s pool_size applies only where the user has servers of its own', async () => {
  const shared = await Promise.all(['web', 'app', 'web', 'app'].map(async (user) => await login('mixed', user)))
  const own = await Promise.all(['jobs', 'jobs'].map(async (user) => await login('mixed', user)))

  const [ofRole, ofUser] = [await most(shared), await most(own)]

  expect(pidsOf(ofRole.places).size).toBe(2)
  expect(ofRole.places.every(({ role }) => role === 'app')).toBe(true)
  expect([ofUser.atOnce, ofUser.places[0]?.role]).toEqual([1, 'jobs'])
})

test('with passthrough each user keeps servers of its own', async () => {
  const all = await loginAll('keys', 4)

  const places = await Promise.all(all.map(begin))

  expect(pidsOf(places).size).toBe(4)
  expect(places.map(({ role }) => role)).toEqual(['web', 'jobs', 'web', 'jobs'])
})

test('users found by auth_query share the servers of a forced role', async () => {
  const { atOnce, places } = await most(await loginAll('guests', 6))

  expect(atOnce).toBeLessThanOrEqual(2)
  expect(pidsOf(places).size).toBe(2)
  const rows = (await console('SHOW POOLS')).filter(({ database }) => database === 'guests')
  expect(rows.filter(({ user }) => user !== '*')).toMatchObject([{ user: 'app', cl_active: 6, sv_idle: 2 }])
})

test('max_user_connections counts the servers of a role, in all databases', async () => {
  const all = [...(await loginAll('limit-1', 4)), ...(await loginAll('limit-2', 4))]
  const { atOnce } = await most(all)

  expect(atOnce).toBeLessThanOrEqual(3)
  const { rows } = await world.postgres.sql(
    "SELECT count(*)::int AS count FROM pg_stat_activity WHERE usename = 'batch'",
  )
  expect((rows as { count: number }[])[0]?.count).toBeLessThanOrEqual(3)
})

test('the console shows shared servers once, with the clients of all their users', async () => {
  const all = await loginAll('forced', 7)
  const places = await Promise.all(all.slice(0, 5).map(begin))
  const late = all.slice(5).map(async (client) => await client.query('SELECT 1'))
  await waiting('forced', 2)

  const pools = (await console('SHOW POOLS')).filter(({ database }) => database === 'forced')
  const databases = (await console('SHOW DATABASES')).filter(({ name }) => name === 'forced')
  const servers = (await console('SHOW SERVERS')).filter(({ database }) => database === 'forced')
  const versions = (await console('SHOW POOL_VERSIONS')).filter(({ database }) => database === 'forced')
  await Promise.all(all.slice(0, 5).map(async (client) => await client.query('COMMIT')))
  await Promise.all(late)

  expect(pidsOf(places).size).toBe(5)
  expect(pools).toMatchObject([{ user: 'app', cl_active: 5, cl_waiting: 2, sv_active: 5, sv_idle: 0 }])
  expect(databases).toMatchObject([{ force_user: 'app', pool_size: 5, max_connections: 5, current_connections: 5 }])
  expect(servers.map(({ user }) => user)).toEqual(['app', 'app', 'app', 'app', 'app'])
  expect(versions.map(({ user }) => user)).toEqual(['jobs', 'web'])
})

test('PAUSE, RECONNECT and KILL apply to shared servers and to the clients of all users', async () => {
  const [web, jobs] = await loginAll('narrow', 2)
  const first = await begin(web!)
  await web!.query('COMMIT')
  await console('RECONNECT narrow')
  const second = await begin(jobs!)
  const paused = console('PAUSE narrow')
  await world.engine.until(({ pools }) => pools.some(({ pool }) => pool === 'narrow'))
  await jobs!.query('COMMIT')
  await paused
  const asked = [web!, jobs!].map(async (client) => await client.query('SELECT 1 AS one'))
  await waiting('narrow', 2)
  await console('RESUME narrow')
  const answers = await Promise.all(asked)
  const ended = Promise.all([web!, jobs!].map(async (client) => await new Promise((done) => client.once('end', done))))
  await console('KILL narrow')
  await ended
  await console('RESUME narrow')

  expect(second.pid).not.toBe(first.pid)
  expect(answers.map(({ rows }) => rows)).toEqual([[{ one: 1 }], [{ one: 1 }]])
})

test('a rebuild drains shared servers once, and clients of both users that wait get new ones', async () => {
  const engine = await startEngine(world.document)
  const [holder, ...others] = await loginAll('narrow', 3, engine)
  const before = await begin(holder!)
  const asked = others.map(async (client) => (await most([client])).places[0])
  await waiting('narrow', 2, engine)
  const pools = world.document.pools as Record<string, object>

  const outcome = await engine.apply({
    ...world.document,
    pools: { ...pools, narrow: { ...pools['narrow'], server_max_protocol_version: '3.2' } },
  })
  const places = await Promise.all(asked)
  await holder!.query('COMMIT')

  expect(outcome).toMatchObject({ rebuilt: 2, added: 0, removed: 0 })
  expect(new Set(places.map((place) => place?.pid)).size).toBe(1)
  expect(places[0]?.pid).not.toBe(before.pid)
})
