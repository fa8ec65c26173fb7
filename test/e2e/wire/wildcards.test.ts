import { Client } from 'pg'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { startEngine, until } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { query } from '../../support/frontend-messages.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { LoginRefused, WireClient } from '../../support/wire.ts'

let postgres: Postgres
let engine: Engine
const open: WireClient[] = []

type Keys = Readonly<Record<string, unknown>>

/** `[pools.app.users."*"]` beside a user of its own, and `[pools."*"]` with one too. */
function document(any: Keys = {}, general: Keys = {}, pools: Keys = {}): Document {
  const asked = { auth_user: 'postgres', auth_database: 'postgres', server_auth: 'passthrough' }
  const shared = { servers: [{ host: '127.0.0.1', port: postgres.port }], ...asked }
  return {
    general,
    admin_users: { admin: { auth_type: 'trust' } },
    defaults: { pool_size: 2, query_wait_timeout: '2s' },
    pools: {
      app: {
        ...shared,
        database: 'one',
        users: {
          web: { password: 'web-password', server_user: 'a', server_password: 'a', server_auth: 'password' },
          '*': any,
        },
      },
      '*': { ...shared, users: { '*': any } },
      ...pools,
    },
  }
}

beforeAll(async () => {
  const names = ['a', 'b', 'c', 'd']
  postgres = await startPostgres({
    auth: 'scram-sha-256',
    sql: [
      ...names.map((name) => `CREATE ROLE ${name} LOGIN PASSWORD '${name}'`),
      ...['one', 'two', 'three'].map((name) => `CREATE DATABASE ${name}`),
    ],
  })
  engine = await startEngine(document())
})

afterEach(async () => {
  for (const client of open.splice(0)) client.destroy()
  await engine.apply(document())
})

async function connect(user: string, database: string, password = user): Promise<WireClient> {
  const client = await WireClient.login(engine, { user, password, database })
  open.push(client)
  return client
}

async function refusal(user: string, database: string, password = user): Promise<string> {
  return await connect(user, database, password).then(
    () => 'let in',
    (error: unknown) => {
      if (error instanceof LoginRefused) return error.message
      throw error
    },
  )
}

async function whereAndWho(client: WireClient): Promise<string> {
  client.send(query("SELECT current_database() || ' ' || current_user"))
  const answers = await client.readUntil('Z')
  return (
    answers
      .find(({ tag }) => tag === 'D')
      ?.body.subarray(6)
      .toString() ?? JSON.stringify(answers)
  )
}

async function madePools(): Promise<string[]> {
  const { pools } = await engine.snapshot()
  return pools.filter(({ template }) => template !== undefined).map(({ pool, user }) => `${pool} ${user}`)
}

async function console(sql: string, { host, port } = engine): Promise<Record<string, unknown>[]> {
  const client = new Client({ host, port, user: 'admin', database: 'pgbouncer' })
  await client.connect()
  try {
    return (await client.query(sql)).rows as Record<string, unknown>[]
  } finally {
    await client.end()
  }
}

test('each user that "*" stands for has a pool of its own, under its own role', async () => {
  const clients = await Promise.all(['a', 'b'].map((user) => connect(user, 'app')))
  const seen = await Promise.all(clients.map(whereAndWho))
  const own = await whereAndWho(await connect('web', 'app', 'web-password'))

  expect(seen).toEqual(['one a', 'one b'])
  expect(own).toBe('one a')
  expect((await madePools()).sort()).toEqual(['app a', 'app b'])
})

test('a database without a pool is passed on under its own name', async () => {
  const clients = await Promise.all(['two', 'three'].map((database) => connect('a', database)))
  const seen = await Promise.all(clients.map(whereAndWho))

  expect(seen).toEqual(['two a', 'three a'])
})

test('a client that fails to authenticate creates no pool', async () => {
  const refused = [
    await refusal('a', 'three', 'guess'),
    await refusal('stranger', 'app'),
    await refusal('*', 'app'),
    await refusal('a', '*', 'guess'),
    await refusal('web', 'app', 'guess'),
  ]

  expect(refused).toEqual(
    ['a', 'stranger', '*', 'a', 'web'].map((user) => `28P01 password authentication failed for user "${user}"`),
  )
  expect((await madePools()).filter((name) => !/^(app [ab]|(two|three) a)$/.test(name))).toEqual([])
})

test('a database that the servers do not have is their error', async () => {
  expect(await refusal('a', 'nowhere')).toBe('3D000 database "nowhere" does not exist')
})

test('a change of "*" retunes, rebuilds or removes what was made for it', async () => {
  const client = await connect('c', 'app')
  await whereAndWho(client)
  const pid = await backend(client)

  const retuned = await engine.apply(document({ pool_size: 7 }))
  const tuned = await engine.pool('app', 'c')
  const samePid = await backend(client)
  const rebuilt = await engine.apply(document({ pool_size: 7, server_tls_sslmode: 'prefer' }))
  const otherPid = await backend(client)
  const { hash } = await engine.pool('app', '*')
  const made = await engine.pool('app', 'c')
  const without = document() as { pools: Record<string, { users: Record<string, object> }> }
  delete without.pools['app']?.users['*']
  await engine.apply(without)
  const { messages } = await client.readToEnd()

  expect([retuned.retuned, rebuilt.rebuilt]).toEqual([2, 2])
  expect(tuned).toMatchObject({ poolSize: 7, template: { pool: 'app', user: '*' } })
  expect(samePid).toBe(pid)
  expect(otherPid).not.toBe(pid)
  expect(made.hash).toBe(hash)
  expect(messages.map(({ tag, body }) => `${tag} ${body.toString().includes('57P01')}`)).toEqual(['E true'])
  expect(await refusal('c', 'app')).toBe('28P01 password authentication failed for user "c"')
})

test('a user that gets a section of its own is served by that', async () => {
  const client = await connect('d', 'app')
  await whereAndWho(client)
  const next = document() as { pools: Record<string, { users: Record<string, object> }> }
  next.pools['app']!.users['d'] = {
    password: 'another',
    server_user: 'b',
    server_password: 'b',
    server_auth: 'password',
  }

  await engine.apply(next)
  const after = await whereAndWho(client)

  expect(after).toBe('one b')
  expect(await refusal('d', 'app', 'd')).toBe('28P01 password authentication failed for user "d"')
  expect((await engine.pool('app', 'd')).template).toBeUndefined()
})

test('a pause of a database, or of "*", holds for pools that are made later', async () => {
  const [one, two] = [await connect('a', 'app'), await connect('a', 'two')]
  await console('PAUSE app')
  await console('PAUSE "*"')
  const later = connect('b', 'two')
  one.send(query('SELECT 1'))
  two.send(query('SELECT 1'))
  await until(async () => (await engine.pool('app', 'a')).clientsWaiting === 1)
  await until(async () => (await engine.pool('two', 'a')).clientsWaiting === 1)
  // No user is looked up in a paused database.
  await until(async () => (await engine.snapshot()).clientsLogin === 1)
  await console('RESUME app')
  await console('RESUME "*"')

  expect((await one.readUntil('Z')).at(-1)?.tag).toBe('Z')
  expect((await two.readUntil('Z')).at(-1)?.tag).toBe('Z')
  expect(await whereAndWho(await later)).toBe('two b')
})

async function shownDatabases(): Promise<Record<string, { paused: unknown; disabled: unknown }>> {
  const rows = await console('SHOW DATABASES')
  return Object.fromEntries(rows.map(({ name, paused, disabled }) => [name, { paused, disabled }])) as Record<
    string,
    { paused: unknown; disabled: unknown }
  >
}

test('PAUSE "*" is answered when the servers of every database it stands for are closed', async () => {
  const [one, two] = [await connect('a', 'app'), await connect('a', 'two')]
  for (const client of [one, two]) client.send(query('BEGIN'))
  for (const client of [one, two]) await client.readUntil('Z')

  let answered = false
  const paused = console('PAUSE "*"').then(() => (answered = true))
  await until(async () => (await shownDatabases())['two']?.paused === 1)
  const whileBusy = answered
  const shown = await shownDatabases()
  two.send(query('COMMIT'))
  await two.readUntil('Z')
  await paused
  const { serversIdle, serversActive } = await engine.pool('two', 'a')
  // Where it does not stand for anything, all goes on.
  one.send(query('COMMIT'))
  const outside = (await one.readUntil('Z')).at(-1)?.body.toString()
  await console('RESUME "*"')

  expect(whileBusy).toBe(false)
  expect([shown['two']?.paused, shown['app']?.paused]).toEqual([1, 0])
  expect([serversIdle, serversActive]).toEqual([0, 0])
  expect(outside).toBe('I')
  expect(await whereAndWho(two)).toBe('two a')
})

test('a pause of one database that "*" stands for leaves the others alone, also before it is made', async () => {
  await console('PAUSE three')
  const waiting = connect('a', 'three')
  const two = await whereAndWho(await connect('a', 'two'))
  await until(async () => (await engine.snapshot()).clientsLogin === 1)
  await console('RESUME three')

  expect(two).toBe('two a')
  expect(await whereAndWho(await waiting)).toBe('three a')
})

const disabled = (database: string): string => `55000 database does not allow connections: ${database}`

test('DISABLE "*" keeps out who would be served by it, known or not, until ENABLE "*"', async () => {
  const there = await connect('a', 'two')
  await console('DISABLE "*"')
  const refused = [await refusal('b', 'two'), await refusal('a', 'three'), await refusal('stranger', 'three')]
  const shown = await shownDatabases()
  const others = await refusal('b', 'app')
  await engine.apply(document({ pool_size: 3 }))
  const stillRefused = await refusal('b', 'two')
  const goesOn = await whereAndWho(there)
  await console('ENABLE "*"')

  expect(refused).toEqual([disabled('two'), disabled('three'), disabled('three')])
  expect([shown['two']?.disabled, shown['app']?.disabled]).toEqual([1, 0])
  expect([others, stillRefused, goesOn]).toEqual(['let in', disabled('two'), 'two a'])
  expect([await refusal('b', 'two'), await refusal('a', 'three')]).toEqual(['let in', 'let in'])
})

test('DISABLE of one database that "*" stands for holds before it is made, and outlives its pools', async () => {
  await console('DISABLE three')
  const refused = await refusal('a', 'three')
  const two = await refusal('a', 'two')
  await console('ENABLE three')
  const enabled = await refusal('a', 'three')
  await console('DISABLE three')
  for (const client of open.splice(0)) client.destroy()
  await engine.apply(document({}, { autodb_idle_timeout: '1s' }))
  await until(async () => !(await madePools()).includes('three a'))
  const forgotten = await refusal('a', 'three')
  await console('ENABLE three')

  expect([refused, two, enabled, forgotten]).toEqual([disabled('three'), 'let in', 'let in', disabled('three')])
})

test('RECONNECT "*" and KILL "*" are for every database it stands for, and for no other', async () => {
  const backends = async (): Promise<Record<string, string[]>> => {
    const { rows } = await postgres.sql(
      "SELECT datname, pid::text FROM pg_stat_activity WHERE usename = 'a' AND datname IN ('one', 'two') ORDER BY pid",
    )
    const both = rows as { datname: string; pid: string }[]
    const of = (database: string): string[] => both.filter(({ datname }) => datname === database).map(({ pid }) => pid)
    return { one: of('one'), two: of('two') }
  }
  const [one, two] = [await connect('a', 'app'), await connect('a', 'two')]
  await whereAndWho(one)
  await whereAndWho(two)
  const before = await backends()
  await console('RECONNECT "*"')
  await console('WAIT_CLOSE "*"')
  const [whoOne, whoTwo] = [await whereAndWho(one), await whereAndWho(two)]
  const after = await backends()
  await console('KILL "*"')
  const { messages } = await two.readToEnd()
  const spared = await whereAndWho(one)
  await console('RESUME "*"')

  expect([whoOne, whoTwo, spared]).toEqual(['one a', 'two a', 'one a'])
  expect(after['one']).toEqual(before['one'])
  expect(before['two']).toHaveLength(1)
  expect(after['two']).not.toEqual(before['two'])
  expect(messages.map(({ tag }) => tag)).toEqual(['E'])
})

test('pools that are made are bounded: the longest unused makes room, used ones do not', async () => {
  await engine.apply(document({}, { max_dynamic_pools: 3 }))
  const first = await connect('a', 'two')
  await connect('b', 'two')
  await connect('c', 'two')
  const refused = await refusal('d', 'two')
  first.destroy()
  await until(async () => (await engine.pool('two', 'a')).clientsIdle === 0)
  const taken = await whereAndWho(await connect('d', 'two'))

  expect(refused).toBe('53300 too many pools for "*" (max_dynamic_pools)')
  expect(taken).toBe('two d')
  expect((await madePools()).sort()).toEqual(['two b', 'two c', 'two d'])
})

test('a pool that was made is forgotten when it has had no clients for autodb_idle_timeout', async () => {
  await engine.apply(document({}, { autodb_idle_timeout: '1s' }))
  const kept = await connect('a', 'app')
  const left = await connect('b', 'app')
  await whereAndWho(left)
  left.destroy()

  await until(async () => !(await madePools()).includes('app b'))

  expect(await madePools()).toContain('app a')
  expect(await whereAndWho(kept)).toBe('one a')
  await until(async () => (await sessionsOf('b')) === 0)
})

test('SHOW POOL_VERSIONS has a line for "*" and one for each pool that was made for it', async () => {
  await connect('a', 'app')

  const rows = await console('SHOW POOL_VERSIONS')
  const app = rows.filter(({ database, user }) => database === 'app' && (user === 'a' || user === '*'))
  const databases = await console('SHOW DATABASES')

  expect(app.map(({ user, state }) => [user, state])).toEqual([
    ['*', 'in_sync'],
    ['a', 'in_sync'],
  ])
  expect(app[0]?.['running_hash']).toBe(app[1]?.['running_hash'])
  expect(databases.map(({ name }) => name)).toEqual(expect.arrayContaining(['*', 'app']))
})

async function backend(client: WireClient): Promise<string> {
  client.send(query('SELECT pg_backend_pid()'))
  const answers = await client.readUntil('Z')
  return (
    answers
      .find(({ tag }) => tag === 'D')
      ?.body.subarray(6)
      .toString() ?? JSON.stringify(answers)
  )
}

async function sessionsOf(user: string): Promise<number> {
  return (await postgres.sql('SELECT FROM pg_stat_activity WHERE usename = $1', [user])).rowCount ?? 0
}

test('workers make each pool once, and no more of them together than may be made', async () => {
  const several = await startEngine(document({}, { max_dynamic_pools: 9 }), { workers: 3 })
  const users = ['a', 'b', 'c', 'd']
  const clients = await Promise.all(
    users.flatMap((user) =>
      ['app', 'two', 'three', 'app'].map(
        async (database) =>
          await WireClient.login(several, { user, password: user, database }).catch((error: LoginRefused) => error),
      ),
    ),
  )
  const servedClients = clients.filter((client) => client instanceof WireClient)
  open.push(...servedClients)
  const seen = await Promise.all(servedClients.map(whereAndWho))
  const { pools } = await several.snapshot()
  const made = pools.filter(({ template }) => template !== undefined).map(({ pool, user }) => `${pool} ${user}`)
  const databases = await console('SHOW DATABASES', several)

  // Two for each pool, wherever it was made, and for the ones that they follow.
  for (const database of ['app', 'two', 'three']) {
    const size = 2 * pools.filter(({ pool, user }) => pool === database && user !== '*').length
    expect(databases.find(({ name }) => name === database)?.['max_connections'] ?? 0).toBe(size)
  }
  // Where a client is served is its own database, and it is its own role there.
  const served = made.map((name) => name.replace(/^app /, 'one '))
  expect([...new Set(seen)].toSorted()).toEqual(served.toSorted())
  expect(new Set(made).size).toBe(made.length)
  expect(made.length).toBeGreaterThan(3)
  expect(made.length).toBeLessThanOrEqual(9)
  for (const refused of clients.filter((client) => client instanceof LoginRefused)) {
    expect(refused.message).toContain('max_dynamic_pools')
  }
  for (const { serversActive, serversIdle, serversLogin } of pools) {
    expect(serversActive + serversIdle + serversLogin).toBeLessThanOrEqual(2)
  }
})
