/** A version is proven before it replaces anything: one that would end what serves is refused. */
import { beforeAll, expect, test } from 'vitest'
import { Authority } from '../../support/certificates.ts'
import { until } from '../../support/engine.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startPostgres } from '../../support/postgres.ts'
import { backends, common, connect, fleet, Load, startWorld } from './world.ts'
import type { World } from './world.ts'

const roleStatements = ["CREATE ROLE app LOGIN PASSWORD 'app'"]

let authority: Authority

beforeAll(async () => {
  authority = await Authority.create()
})

interface Shown {
  readonly state: string
  readonly applied: { readonly version: number } | null
  readonly error: { code: string; message: string; pool: string | null; user: string | null } | null
}

/** Keys of the pool, of its user, and of its only server. */
interface Change {
  readonly general?: object
  readonly pool?: object
  readonly user?: object
  readonly server?: object
}

function document(postgres: Postgres, change: Change = {}): object {
  return documentOf(postgres, { app: { password: 'app', server_password: 'app', ...change.user } }, change)
}

function documentOf(postgres: Postgres, users: object, { general, pool, server }: Change): object {
  return {
    ...common,
    general: { ...common.general, ...general },
    pools: {
      app: {
        database: 'postgres',
        servers: [{ host: '127.0.0.1', port: postgres.port, role: 'primary', ...server }],
        ...pool,
        users,
      },
    },
  }
}

/** Proxies that serve the document's pool, with password logins at the database. */
async function serving(change: Change = {}, options: { proxies?: { id: string }[]; sql?: string[] } = {}) {
  const world = await startWorld({
    postgres: { auth: 'scram-sha-256', sql: [...roleStatements, ...(options.sql ?? [])] },
    proxies: options.proxies ?? [{ id: 'proxy-1' }],
    document: (postgres) => document(postgres, change),
  })
  for (const proxy of world.proxies) await (await connect(proxy)).query('SELECT 1')
  return world
}

async function shown(control: World['control']): Promise<Shown[]> {
  const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies`)
  return (body as { proxies: Shown[] }).proxies
}

/** Resolves when every proxy has applied or refused the fleet's present version. */
async function settled(control: World['control'], version: number): Promise<Shown[]> {
  let last: Shown[] = []
  await until(
    async () => {
      last = await shown(control)
      return last.every(({ state, applied }) => state === 'failed' || applied?.version === version)
    },
    () => JSON.stringify(last),
  )
  return last
}

const verified = (): Change => ({
  pool: { server_tls_sslmode: 'verify-full', server_tls_ca_file: authority.caFile },
})

test.each([
  ['its port is wrong', () => ({ server: { port: 1 } }), /connect_refused/],
  ['its password is wrong', () => ({ user: { server_password: 'wrong' } }), /auth_failed.*28P01/],
  ['the server has no TLS', verified, /tls_failed/],
  ['its database does not exist', () => ({ pool: { database: 'nowhere' } }), /3D000/],
])('a version is refused under load if %s, and nothing is closed', async (_, change, reason) => {
  const { control, proxies, postgres } = await serving({}, { proxies: [{ id: 'proxy-1' }, { id: 'proxy-2' }] })
  const load = await Load.start(proxies, { clients: 8 })
  await until(() => load.transactions > 100)
  const before = await backends(postgres, ['app'])

  const version = await control.apply(fleet, document(postgres, change()))
  const proxiesAfter = await settled(control, version)
  const seen = load.transactions
  await until(() => load.transactions > seen + 100)
  await load.stop()

  for (const proxy of proxiesAfter) {
    expect(proxy).toMatchObject({ state: 'failed', applied: { version: version - 1 } })
    expect(proxy.error).toMatchObject({ code: 'cannot_serve', pool: 'app', user: 'app' })
    expect(proxy.error?.message).toMatch(reason)
    expect(proxy.error?.message).toContain('127.0.0.1')
  }
  expect(load.failures).toEqual([])
  const pids = (await backends(postgres, ['app'])).map(({ pid }) => pid)
  expect(before.map(({ pid }) => pid).filter((pid) => !pids.includes(pid))).toEqual([])
})

const otherSettings: Change = { pool: { server_max_protocol_version: '3.2' } }

test('a version is applied although its role is at its connection limit, and no client notices', async () => {
  const { control, proxies, postgres } = await serving(
    { pool: { pool_size: 2 } },
    { sql: ['ALTER ROLE app CONNECTION LIMIT 2'] },
  )
  const [proxy] = proxies as [(typeof proxies)[0]]
  const clients = [await connect(proxy), await connect(proxy)]
  for (const client of clients) await client.query('BEGIN')

  const version = await control.apply(fleet, document(postgres, { pool: { pool_size: 2, ...otherSettings.pool } }))
  const [shownProxy] = await settled(control, version)
  for (const client of clients) await client.query('COMMIT')
  const answers = await Promise.all(clients.map((client) => client.query('SELECT 1 AS one')))

  expect(shownProxy).toMatchObject({ error: null, applied: { version } })
  expect(answers.map(({ rows }) => rows as unknown)).toEqual([[{ one: 1 }], [{ one: 1 }]])
  await proxy.logged(/could not be tried.*53300/)
})

test('a version is applied although the database says 57P03, as one that starts or stops does', async () => {
  const { control, proxies, postgres } = await serving()
  const [proxy] = proxies as [(typeof proxies)[0]]
  const client = await connect(proxy)
  await client.query('BEGIN')
  // A smart shutdown waits for the session, and refuses others.
  process.kill(postgres.pid as number, 'SIGTERM')
  await until(async () => await refusesOthers(postgres))

  const version = await control.apply(fleet, document(postgres, otherSettings))
  const [shownProxy] = await settled(control, version)

  expect(shownProxy).toMatchObject({ error: null, applied: { version } })
  await client.query('COMMIT')
  await proxy.logged(/could not be tried.*57P03/)
})

async function refusesOthers(postgres: Postgres): Promise<boolean> {
  return await postgres.sql('SELECT 1').then(
    () => false,
    (error: { code?: string }) => error.code === '57P03',
  )
}

test('a version is applied while the database is down, and repairs what it is about', async () => {
  const { control, proxies, postgres } = await serving()
  const [proxy] = proxies as [(typeof proxies)[0]]
  const client = await connect(proxy)
  const other = await startPostgres({ auth: 'scram-sha-256', sql: roleStatements })
  await postgres.stop()
  await other.stop()

  const version = await control.apply(fleet, document(other))
  const [shownProxy] = await settled(control, version)
  await other.start()

  expect(shownProxy).toMatchObject({ error: null, applied: { version } })
  expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  await proxy.logged(/do not serve, as they do not now.*connect_refused/)
})

test('a refused version is applied as soon as its servers serve, without another offer', async () => {
  const { control, postgres } = await serving()

  const version = await control.apply(fleet, document(postgres, { user: { server_user: 'later' } }))
  const [refused] = await settled(control, version)
  await postgres.sql("CREATE ROLE later LOGIN PASSWORD 'app'")

  expect(refused).toMatchObject({ state: 'failed', error: { code: 'cannot_serve' } })
  await until(async () => {
    const [proxy] = await shown(control)
    return proxy?.state === 'in_sync' && proxy.applied?.version === version
  })
})

test('200 pools on one host are tried a few at a time, and leave no connections behind', async () => {
  const names = Array.from({ length: 200 }, (_, at) => `pool${at}`)
  const users = Object.fromEntries(names.map((name) => [name, { auth_type: 'trust' }]))
  const withUsers = (database: Postgres, pool: object = {}): object =>
    documentOf(database, users, { pool: { server_password: 'app', ...pool } })
  const { control, proxies, postgres } = await startWorld({
    postgres: {
      auth: 'password',
      maxConnections: 40,
      settings: { log_connections: 'all' },
      sql: [names.map((name) => `CREATE ROLE ${name} LOGIN PASSWORD 'app'`).join('; ')],
    },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => withUsers(database),
  })
  const [proxy] = proxies as [(typeof proxies)[0]]
  await (await connect(proxy, { user: 'pool7' })).query('SELECT 1')

  const version = await control.apply(fleet, withUsers(postgres, otherSettings.pool))
  const [shownProxy] = await settled(control, version)
  const left = await backends(postgres, names)

  expect(shownProxy).toMatchObject({ error: null, applied: { version } })
  expect(left.map(({ user }) => user)).toEqual(['pool7'])
  expect(postgres.log.filter((line) => line.includes('too many'))).toEqual([])
  // One for each pool, and the one before.
  const authorized = postgres.log.filter((line) => /connection authorized: user=pool\d+/.test(line))
  expect(authorized).toHaveLength(201)
})

test('with several workers each pool is tried by one of them', async () => {
  const several: Change = { general: { workers: 2 }, pool: { pool_size: 8 } }
  const { control, postgres, proxies } = await serving(several)
  const [proxy] = proxies as [(typeof proxies)[0]]
  const failures = (): number =>
    postgres.log.filter((line) => line.includes('password authentication failed for user "app"')).length

  const version = await control.apply(fleet, document(postgres, { ...several, user: { server_password: 'wrong' } }))
  // Counted at once: the proxy tries again after a while.
  await proxy.logged(/version rejected/)
  await until(
    () => failures() > 0,
    () => 'the failure is in the log of the database',
  )
  const tried = failures()
  const [refused] = await settled(control, version)

  expect(refused).toMatchObject({ state: 'failed', error: { code: 'cannot_serve' } })
  expect(tried).toBe(1)
})

test('a version that was refused is applied when it is forced, once and with the reason to see', async () => {
  const { control, proxies, postgres } = await serving()
  const [proxy] = proxies as [(typeof proxies)[0]]
  const wrong = document(postgres, { user: { server_password: 'wrong' } })
  const version = await control.apply(fleet, wrong)
  const [refused] = await settled(control, version)

  const answer = await control.call('PUT', `/v1/fleets/${fleet}/config?force=true`, wrong, {
    'if-match': `"v${version}"`,
  })
  const [applied] = await settled(control, version + 1)

  expect(refused).toMatchObject({ state: 'failed', error: { code: 'cannot_serve' } })
  expect(answer).toMatchObject({ status: 201, body: { version: version + 1, forced: true } })
  expect(applied).toMatchObject({ error: null, applied: { version: version + 1 } })
  await proxy.logged(/not tried before it is applied/)
})
