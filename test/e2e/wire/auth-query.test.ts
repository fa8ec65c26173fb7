import { Client } from 'pg'
import { beforeAll, describe as group, expect, test } from 'vitest'
import { atEndOfFile } from '../../support/cleanup.ts'
import { startEngine, until } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { query, startup } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { LoginRefused, WireClient } from '../../support/wire.ts'

let postgres: Postgres
let engine: Engine
let document: Document & { pools: Record<string, object> }

/** A table of users that an operator keeps, asked by a query of the operator's own. */
const ownUsers = [
  'CREATE TABLE public.users (name text, verifier text)',
  "INSERT INTO public.users VALUES ('app', 'plain text'), ('twice', NULL), ('twice', NULL), ('other', NULL)",
  'CREATE TABLE public.asked (name text)',
  `CREATE FUNCTION public.ask(asked text, seconds float) RETURNS TABLE (name text, verifier text) LANGUAGE sql AS $$
    INSERT INTO public.asked VALUES (asked);
    SELECT pg_sleep(seconds);
    SELECT rolname, rolpassword FROM pg_authid WHERE rolname = asked $$`,
]

/** A schema whose pg_authid and whose "=" say what an attacker wants; verifiers of the password "forged". */
const evil = [
  'CREATE SCHEMA evil',
  'GRANT USAGE ON SCHEMA evil TO PUBLIC',
  "CREATE ROLE forger LOGIN PASSWORD 'forged'",
  "CREATE TABLE evil.pg_authid AS SELECT 'lasting'::name AS rolname, rolpassword FROM pg_authid WHERE rolname = 'forger'",
  'CREATE FUNCTION evil.always(name, text) RETURNS bool LANGUAGE sql AS $$ SELECT true $$',
  'CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.always)',
  'ALTER ROLE asker SET search_path = evil, pg_catalog',
  'ALTER DATABASE postgres SET search_path = evil, pg_catalog',
]

beforeAll(async () => {
  postgres = await startPostgres({
    auth: 'scram-sha-256',
    sql: [
      "CREATE ROLE app LOGIN PASSWORD 'secret'",
      "CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'asks'",
      "CREATE ROLE expired LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01'",
      "CREATE ROLE lasting LOGIN PASSWORD 'secret' VALID UNTIL '2999-01-01'",
      'CREATE ROLE unset LOGIN',
      "CREATE ROLE barred NOLOGIN PASSWORD 'secret'",
      "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'secret'",
      'CREATE DATABASE app OWNER app',
    ],
  })
  for (const statement of [...ownUsers, ...evil]) await postgres.sql(statement)
  const servers = [{ host: '127.0.0.1', port: postgres.port }]
  const users = { '*': {} }
  const asked = { servers, users, database: 'app', server_user: 'app', server_password: 'secret' }
  const own = (condition: string): string => `SELECT name, verifier FROM public.users WHERE ${condition}`
  document = {
    // Guesses follow each other here.
    general: { login_backoff_max: '0ms' },
    defaults: { auth_user: 'asker', auth_password: 'asks', auth_database: 'postgres', pool_size: 2 },
    pools: {
      app: asked,
      md5: { ...asked, auth_type: 'md5' },
      cached: { ...asked, auth_query_cache_ttl: '1h' },
      'cached-md5': { ...asked, auth_type: 'md5', auth_query_cache_ttl: '1h' },
      slow: { ...asked, auth_query: 'SELECT $1::text, pg_catalog.pg_sleep(60)::text', auth_query_timeout: '500ms' },
      faulty: { ...asked, auth_query: 'SELECT * FROM nothing.such WHERE name = $1' },
      'one-column': { ...asked, auth_query: 'SELECT $1::text' },
      rows: { ...asked, auth_query: own('$1 IS NOT NULL') },
      plaintext: { ...asked, auth_query: own('name = $1') },
      another: {
        ...asked,
        auth_query: "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE $1 <> '' AND rolname = 'app'",
      },
      unreachable: { ...asked, servers: [{ host: '127.0.0.1', port: 1 }] },
      'wrong-password': { ...asked, auth_password: 'guess' },
      attacked: { ...asked, auth_query: 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1' },
      counted: { ...asked, auth_query: 'SELECT * FROM public.ask($1, 0)', auth_query_cache_ttl: '1h' },
      'counted-slowly': { ...asked, auth_query: 'SELECT * FROM public.ask($1, 0.5)' },
      static: { ...asked, users: { app: { password: 'secret' }, lasting: {} } },
    },
  }
  engine = await startEngine(document)
})

async function login(user: string, database: string, password = 'secret', to = engine): Promise<string> {
  try {
    const client = await WireClient.login(to, { user, password, database })
    client.send(query('SELECT current_user'))
    const answers = await client.readUntil('Z')
    client.destroy()
    return answers.map(({ tag }) => tag).join('')
  } catch (error) {
    if (error instanceof LoginRefused) return error.message
    throw error
  }
}

const served = 'TDCZ'
const wrong = (user: string): string => `28P01 password authentication failed for user "${user}"`
const cannotAsk = '08006 could not look up the user: auth_query failed'

test.for(['app', 'lasting'])('a role with a password that is valid logs in through auth_query: %s', async (user) => {
  const right = await login(user, 'app')
  const guessed = await login(user, 'app', 'guess')

  expect(right).toBe(served)
  expect(guessed).toBe(wrong(user))
})

test.for(['app', 'old'])('a verifier of either kind does with auth_type md5: %s', async (user) => {
  const right = await login(user, 'md5')
  const guessed = await login(user, 'md5', 'guess')

  expect(right).toBe(served)
  expect(guessed).toBe(wrong(user))
})

test.for([
  ['is unknown', 'stranger'],
  ['has expired', 'expired'],
  ['has no password', 'unset'],
  ['may not log in', 'barred'],
  ['has an md5 hash where SCRAM is required', 'old'],
] as const)('25: a role that %s is refused like a wrong password', async ([, user]) => {
  const refused = await login(user, 'app')

  expect(refused).toBe(wrong(user))
})

test.for([
  ['slow', cannotAsk],
  ['faulty', cannotAsk],
  ['one-column', cannotAsk],
  ['rows', cannotAsk],
  ['unreachable', cannotAsk],
  ['wrong-password', cannotAsk],
  ['plaintext', wrong('app')],
  ['another', wrong('lasting')],
] as const)('25: an auth_query that is %s is refused and told to operators', async ([database, expected]) => {
  const refused = await login(database === 'another' ? 'lasting' : 'app', database)
  const told = () => engine.log.filter(({ fields }) => fields['pool'] === database)
  await until(() => told().length > 0)

  expect(refused).toBe(expected)
  expect(told()).toHaveLength(1)
  expect(JSON.stringify(engine.log)).not.toMatch(/plain text|SCRAM-SHA-256\$|secret|guess/)
})

test('25: who waits for a slow auth_query does not hold up others', async () => {
  const slow = Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((user) => login(user, 'slow')))
  const others = await Promise.all(['app', 'lasting', 'stranger'].map((user) => login(user, 'app')))
  const waited = await slow

  expect(others).toEqual([served, served, wrong('stranger')])
  expect(waited).toEqual(waited.map(() => cannotAsk))
})

group('25: an attacker', () => {
  const attack = { search_path: 'evil', options: '-c search_path=evil' }

  test('cannot put a schema before pg_catalog, neither as client nor by settings of role and database', async () => {
    const right = await loginWith({ user: 'lasting', password: 'secret', database: 'attacked', parameters: attack })
    const forged = await loginWith({ user: 'lasting', password: 'forged', database: 'attacked', parameters: attack })

    expect(right).toBe('let in')
    expect(forged).toBe(wrong('lasting'))
  })

  test('cannot speak SQL by a name', async () => {
    const names = [`' OR rolname = 'app`, `app'; DROP TABLE users; --`, '$1', '%s', 'app\u0001', `"app"`]
    const refused = await Promise.all(names.map((name) => login(name, 'app')))

    expect(refused).toEqual(names.map(wrong))
  })

  test('is not taken for the role that PostgreSQL would make of a long name', async () => {
    const role = 'r'.repeat(63)
    await postgres.sql(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`)

    expect(await login(role, 'app')).toBe(served)
    expect(await login(`${role}r`, 'app')).toBe(wrong(`${role}r`))
  })

  test.for(['app', 'md5', 'static'] as const)('cannot tell who exists, in %s', async (database) => {
    const times = { lasting: [] as number[], stranger: [] as number[] }
    const seen = { lasting: new Set<string>(), stranger: new Set<string>() }
    for (let round = 0; round < 20; round++) {
      for (const user of ['lasting', 'stranger'] as const) {
        const begunMs = performance.now()
        const messages = await refusal({ user, database, password: 'guess' })
        times[user].push(performance.now() - begunMs)
        seen[user].add(messages.join('\n').replaceAll(user, 'user'))
      }
    }

    expect(seen.lasting.size).toBe(1)
    expect(seen.stranger).toEqual(seen.lasting)
    expect(median(times.stranger) / median(times.lasting)).toBeGreaterThan(0.5)
    expect(median(times.stranger) / median(times.lasting)).toBeLessThan(2)
  })
})

group('a password that is changed', () => {
  test.for(['app', 'md5'] as const)('holds at once, and sessions go on, in %s', async (database) => {
    const user = `turned_${database}`
    await postgres.sql(`CREATE ROLE ${user} LOGIN PASSWORD 'first'`)
    const session = await WireClient.login(engine, { user, password: 'first', database })

    await postgres.sql(`ALTER ROLE ${user} PASSWORD 'second'`)
    const second = await login(user, database, 'second')
    const first = await login(user, database, 'first')
    session.send(query('SELECT 1'))

    expect(second).toBe(served)
    expect(first).toBe(wrong(user))
    expect((await session.readUntil('Z')).map(({ tag }) => tag).join('')).toBe(served)
  })

  test.for(['cached', 'cached-md5'] as const)('is looked up again when a proof is wrong, in %s', async (database) => {
    const user = `kept_${database.replace('-', '_')}`
    await postgres.sql(
      `SET password_encryption = '${database === 'cached' ? 'scram-sha-256' : 'md5'}'; CREATE ROLE ${user} LOGIN PASSWORD 'first'`,
    )
    const before = await login(user, database, 'first')

    await postgres.sql(
      `SET password_encryption = '${database === 'cached' ? 'scram-sha-256' : 'md5'}'; ALTER ROLE ${user} PASSWORD 'second'`,
    )
    const believed = await login(user, database, 'first')
    await until(async () => (await login(user, database, 'second')) === served)
    const first = await login(user, database, 'first')

    expect(before).toBe(served)
    expect(believed).toBe(served)
    expect(first).toBe(wrong(user))
  })

  test('is looked up again after a RELOAD and with a new version', async () => {
    await postgres.sql("CREATE ROLE reloaded LOGIN PASSWORD 'secret'")
    await login('reloaded', 'counted')
    await login('reloaded', 'counted')
    const once = await askedFor('reloaded')
    await engine.apply(document)
    await login('reloaded', 'counted')
    await login('reloaded', 'counted')

    expect(once).toBe(1)
    expect(await askedFor('reloaded')).toBe(2)
  })
})

test('clients that wait for the same user share one lookup', async () => {
  await postgres.sql("CREATE ROLE crowd LOGIN PASSWORD 'secret'")
  const answers = await Promise.all(Array.from({ length: 20 }, () => login('crowd', 'counted-slowly')))

  expect(answers).toEqual(answers.map(() => served))
  expect(await askedFor('crowd')).toBe(1)
})

group('the connections of auth_query', () => {
  let own: Engine
  let console: Client
  let slowly: Document

  /** The roles that are looked up take half a second each; three at a time. */
  beforeAll(async () => {
    slowly = {
      ...document,
      admin_users: { admin: { auth_type: 'trust' } },
      pools: {
        slowly: {
          ...document.pools['counted-slowly'],
          auth_query: 'SELECT $1::text, pg_catalog.pg_sleep(0.5)::text',
          max_auth_query_connections: 3,
        },
      },
    }
    own = await startEngine(slowly)
    console = new Client({ host: own.host, port: own.port, user: 'admin', database: 'pgbouncer' })
    await console.connect()
    atEndOfFile(async () => await console.end())
  })

  const shown = async (what: string): Promise<Record<string, unknown>[]> =>
    (await console.query<Record<string, unknown>>(what)).rows

  test('are servers of their role in SHOW SERVERS, counted in SHOW LISTS, and as many as their key says', async () => {
    const logins = Array.from({ length: 8 }, async (_, index) => await login(`user${index}`, 'slowly', 'secret', own))
    await until(async () => (await shown('SHOW SERVERS')).filter(({ state }) => state === 'active').length === 3)
    const servers = await shown('SHOW SERVERS')
    const lists = await shown('SHOW LISTS')
    const { authQueries } = await own.snapshot()
    const backends = await postgres.sql(
      "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'flotilla auth_query' AND query LIKE '%pg_sleep(0.5)%' ORDER BY pid",
    )
    await Promise.all(logins)

    expect(servers).toHaveLength(3)
    expect(servers[0]).toMatchObject({
      type: 'S',
      user: 'asker',
      database: 'postgres',
      port: postgres.port,
      application_name: 'flotilla auth_query',
    })
    expect(servers.map((row) => String(row['remote_pid'])).toSorted()).toEqual(
      backends.rows.map((row) => (row as { pid: string }).pid).toSorted(),
    )
    expect(lists.find(({ list }) => list === 'used_servers')?.['items']).toBe(3)
    expect(authQueries).toEqual([
      { database: 'postgres', user: 'asker', connections: { new: 0, idle: 0, active: 3 }, waiting: 5 },
    ])
  })

  test('are no more after a RELOAD that comes while lookups are under way', async () => {
    const counts: number[] = [0]
    const logins = Array.from({ length: 6 }, async (_, index) => await login(`early${index}`, 'slowly', 'secret', own))
    await until(async () => (await shown('SHOW SERVERS')).filter(({ state }) => state === 'active').length === 3)

    await own.apply({ ...slowly, general: { login_backoff_max: '0ms', client_login_timeout: '59s' } })
    const late = Array.from({ length: 6 }, async (_, index) => await login(`late${index}`, 'slowly', 'secret', own))
    const watch = (async () => {
      while ((await own.snapshot()).authQueries.some(({ waiting }) => waiting > 0)) {
        counts.push((await shown('SHOW SERVERS')).length)
      }
    })()
    const refusals = await Promise.all([...logins, ...late])
    await watch

    expect(Math.max(...counts)).toBeLessThanOrEqual(3)
    // Each was answered, late as it may be: what is no verifier is a wrong password.
    expect(new Set(refusals.map((refusal) => refusal.slice(0, 5)))).toEqual(new Set(['28P01']))
  })

  test('are shared out among workers, and SHOW SERVERS has those of each', async () => {
    const { slowly: pool } = slowly.pools as Record<string, object>
    const several = await startEngine(
      { ...slowly, pools: { slowly: { ...pool, max_auth_query_connections: 4, auth_query_timeout: '60s' } } },
      { workers: 2 },
    )
    const operator = new Client({ host: several.host, port: several.port, user: 'admin', database: 'pgbouncer' })
    await operator.connect()
    const counts: number[] = []
    const logins = Promise.all(
      Array.from({ length: 12 }, async (_, index) => await login(`shared${index}`, 'slowly', 'secret', several)),
    )
    await until(async () => {
      counts.push((await operator.query('SHOW SERVERS')).rows.length)
      return (await several.snapshot()).clientsLogin === 0 && counts.length > 3
    })
    const refusals = await logins
    await operator.end()

    expect(Math.max(...counts)).toBeGreaterThan(0)
    expect(Math.max(...counts)).toBeLessThanOrEqual(4)
    expect(new Set(refusals.map((refusal) => refusal.slice(0, 5)))).toEqual(new Set(['28P01']))
  })
})

test('wrong passwords of a cached user lead to one lookup a second at most', async () => {
  await postgres.sql("CREATE ROLE guessed LOGIN PASSWORD 'secret'")
  await login('guessed', 'counted')
  const begunMs = performance.now()
  for (let i = 0; i < 20; i++) await login('guessed', 'counted', 'guess')
  const seconds = (performance.now() - begunMs) / 1000

  expect(await askedFor('guessed')).toBeLessThanOrEqual(2 + Math.ceil(seconds))
})

test('a database that comes back is queried again', async () => {
  const { port } = postgres
  const other = await startPostgres({ sql: ["CREATE ROLE app LOGIN PASSWORD 'secret'"] })
  const own = await startEngine({
    pools: {
      app: {
        servers: [{ host: '127.0.0.1', port: other.port }],
        database: 'postgres',
        auth_user: 'postgres',
        server_password: '',
        users: { app: {} },
      },
    },
  })
  const login = async (): Promise<string> =>
    await WireClient.login(own, { user: 'app', password: 'secret' }).then(
      () => 'let in',
      (error: LoginRefused) => error.message,
    )
  const before = await login()
  await other.stop()
  const without = await login()
  await other.start()
  const after = await login()

  expect(port).not.toBe(other.port)
  expect([before, without, after]).toEqual(['let in', cannotAsk, 'let in'])
})

group('a user with a section of its own and two passwords, beside others that are looked up,', () => {
  const section = { password: 'new', previous_password: 'secret' }
  const pools = (user: object): Document => ({
    ...document,
    pools: { mixed: { ...document.pools['counted'], auth_query_cache_ttl: '0ms', users: { '*': {}, ...user } } },
  })
  const outcomes = async (own: Engine, ...passwords: string[]): Promise<string[]> => {
    const all: string[] = []
    for (const password of passwords) all.push(await login('moved', 'mixed', password, own))
    return all
  }

  test.for(['md5', 'scram-sha-256', 'plain'])('is not looked up, and may use either, by %s', async (method) => {
    await postgres.sql("DROP ROLE IF EXISTS moved; CREATE ROLE moved LOGIN PASSWORD 'secret'; TRUNCATE public.asked")
    const own = await startEngine({
      ...pools({ moved: section }),
      general: { login_backoff_max: '0ms', client_plain_allowed: 'on' },
      defaults: { ...(document['defaults'] as object), auth_type: method },
    })

    const ofOwn = await outcomes(own, 'new', 'secret', 'guess')
    const askedForHim = await askedFor('moved')
    const other = await login('lasting', 'mixed', 'secret', own)

    expect(ofOwn).toEqual([served, served, wrong('moved')])
    expect(askedForHim).toBe(0)
    expect(other).toBe(served)
  })

  test('has the two while it has the section, and before and after it the one of its role', async () => {
    await postgres.sql("DROP ROLE IF EXISTS moved; CREATE ROLE moved LOGIN PASSWORD 'secret'")
    const own = await startEngine(pools({}))
    const before = await outcomes(own, 'new', 'secret')
    await own.apply(pools({ moved: section }))
    const during = await outcomes(own, 'new', 'secret')
    await postgres.sql("ALTER ROLE moved PASSWORD 'new'")
    await own.apply(pools({ moved: { ...section, previous_password_until: '2001-01-01T00:00:00Z' } }))
    const over = await outcomes(own, 'new', 'secret')
    await own.apply(pools({}))
    const after = await outcomes(own, 'new', 'secret')

    expect(before).toEqual([wrong('moved'), served])
    expect(during).toEqual([served, served])
    expect(over).toEqual([served, wrong('moved')])
    expect(after).toEqual([served, wrong('moved')])
  })
})

type Credentials = { user: string; password: string; database: string }

async function loginWith(options: Credentials & { parameters: Record<string, string> }): Promise<string> {
  try {
    const client = await WireClient.login(engine, options)
    client.destroy()
    return 'let in'
  } catch (error) {
    if (error instanceof LoginRefused) return error.message
    throw error
  }
}

/** All messages of a login that fails; the data of the challenge, which is random, left out. */
async function refusal(credentials: Credentials): Promise<string[]> {
  const client = await WireClient.connect(engine)
  const messages: string[] = []
  const read = client.read.bind(client)
  client.read = async () => {
    const message = await read()
    messages.push(describe(message).replace(/^R (00000005|0000000b).*/, 'R $1'))
    return message
  }
  await client.login(credentials).catch(() => undefined)
  client.destroy()
  return messages
}

async function askedFor(user: string): Promise<number> {
  return (await postgres.sql('SELECT FROM public.asked WHERE name = $1', [user])).rowCount ?? 0
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

test('a pause while hosts change holds logins up, and none of them fails', async () => {
  const settings = {
    auth: 'scram-sha-256',
    sql: ["CREATE ROLE app LOGIN PASSWORD 'secret'", "CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'asks'"],
  } as const
  const [from, to] = [await startPostgres(settings), await startPostgres(settings)]
  const at = ({ port }: Postgres): Document => ({
    admin_users: { admin: { auth_type: 'trust' } },
    defaults: { auth_user: 'asker', auth_password: 'asks', server_auth: 'passthrough' },
    pools: { app: { database: 'postgres', servers: [{ host: '127.0.0.1', port }], users: { app: {} } } },
  })
  const own = await startEngine(at(from))
  const session = await WireClient.login(own, { user: 'app', password: 'secret' })
  const operator = await WireClient.login(own, { user: 'admin', database: 'pgbouncer' })
  operator.send(query('PAUSE app'))
  await operator.readUntil('Z')
  const logins = Array.from({ length: 10 }, () => WireClient.login(own, { user: 'app', password: 'secret' }))
  await until(async () => (await own.snapshot()).clientsLogin === 10)
  await from.stop()
  await own.apply(at(to))
  const clientsAfterApply = (await own.snapshot()).clients
  operator.send(query('RESUME app'))
  await operator.readUntil('Z')
  const clients = [session, ...(await Promise.all(logins))]
  for (const client of clients) client.send(query('SELECT 1'))
  const answers = await Promise.all(clients.map((client) => client.readUntil('Z')))

  // The session and the operator.
  expect(clientsAfterApply).toBe(2)
  expect(answers.map((messages) => messages.map(({ tag }) => tag).join(''))).toEqual(clients.map(() => served))
})

test('a client that leaves while it is looked up, or waits to be, leaves nothing behind', async () => {
  const [asked, held] = [await WireClient.connect(engine), await WireClient.connect(engine)]
  asked.send(startup({ user: 'gone', database: 'slow' }))
  held.send(startup({ user: 'app', database: 'app' }))
  await held.read()
  asked.destroy()
  held.destroy()

  await until(async () => (await engine.snapshot()).clientsLogin === 0)

  expect(await login('app', 'app')).toBe(served)
})
