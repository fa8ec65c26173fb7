import { createHmac, pbkdf2Sync } from 'node:crypto'
import { beforeAll, expect, test } from 'vitest'
import { Authority } from '../../support/certificates.ts'
import { startEngine } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { query } from '../../support/frontend-messages.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { LoginRefused, WireClient } from '../../support/wire.ts'

let postgres: Postgres
let engine: Engine
let document: Document & { readonly pools: Readonly<Record<string, object>> }

beforeAll(async () => {
  postgres = await startPostgres({
    auth: 'scram-sha-256',
    hba: ['host all old 127.0.0.1/32 md5', 'host all plain 127.0.0.1/32 password'],
    sql: [
      "CREATE ROLE app LOGIN PASSWORD 'secret'",
      "CREATE ROLE plain LOGIN PASSWORD 'secret'",
      "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'secret'",
      'CREATE DATABASE app',
    ],
  })
  const stored = await verifierOf('app')
  await postgres.sql("CREATE ROLE salted LOGIN PASSWORD 'secret'")
  const former = await verifierOf('salted')
  await postgres.sql("ALTER ROLE salted PASSWORD 'secret'")
  const shared = { database: 'app', servers: [{ host: '127.0.0.1', port: postgres.port }], server_auth: 'passthrough' }
  const asked = { ...shared, auth_user: 'postgres', auth_database: 'postgres' }
  const ruled = { ...shared, auth_type: 'hba', users: { app: { password: stored } } }
  document = {
    general: { client_plain_allowed: 'on', auth_hba: rules, login_backoff_after: 0 },
    defaults: { pool_size: 3 },
    pools: {
      stored: { ...shared, users: { app: { password: stored } } },
      minimum: { ...shared, min_pool_size: 2, users: { app: { password: stored } } },
      salted: { ...shared, users: { salted: { password: former } } },
      asked: { ...asked, users: { app: {}, plain: {} } },
      md5: { ...asked, auth_type: 'md5', users: { old: {}, app: {} } },
      rotated: { ...asked, pool_mode: 'session', users: { rotated: {} } },
      plain: { ...shared, auth_type: 'plain', users: { app: { password: stored } } },
      'asked-plain': { ...asked, auth_type: 'plain', users: { app: {}, old: {} } },
      'ruled-password': ruled,
      'ruled-md5': ruled,
      'ruled-scram': ruled,
      'ruled-trust': ruled,
      replaced: {
        ...shared,
        pool_mode: 'session',
        query_wait_timeout: '2s',
        pool_size: 10,
        users: { app: { password: stored, previous_password: 'former' } },
      },
      // Where the password is known, it is used.
      known: { ...shared, users: { app: { password: 'secret' } } },
    },
  }
  engine = await startEngine(document)
})

const rules = `
host ruled-password all all          password
host ruled-md5      all all          md5
host ruled-scram    all all          scram-sha-256
host ruled-trust    all 127.0.0.1/32 trust
host ruled-trust    all 127.0.0.2/32 password
`

async function verifierOf(role: string): Promise<string> {
  const { rows } = await postgres.sql('SELECT rolpassword FROM pg_authid WHERE rolname = $1', [role])
  return (rows[0] as { rolpassword: string }).rolpassword
}

async function login(user: string, database: string, password = 'secret', from?: string): Promise<string> {
  try {
    const client = await WireClient.connect(engine, from)
    await client.login({ user, password, database })
    const answer = await currentUser(client)
    client.destroy()
    return answer
  } catch (error) {
    if (error instanceof LoginRefused) return error.message
    throw error
  }
}

async function currentUser(client: WireClient): Promise<string> {
  client.send(query('SELECT current_user'))
  const answers = await client.readUntil('Z')
  const row = answers.find(({ tag }) => tag === 'D')
  return row === undefined ? answers.map(({ tag }) => tag).join('') : row.body.subarray(6).toString()
}

test.for([
  ['a stored SCRAM verifier', 'stored', 'app'],
  ['a SCRAM verifier from auth_query', 'asked', 'app'],
  ['an md5 hash from auth_query', 'md5', 'old'],
  ['a SCRAM verifier where md5 is configured', 'md5', 'app'],
  ['a stored SCRAM verifier and a password in clear', 'plain', 'app'],
  ['a SCRAM verifier from auth_query and a password in clear', 'asked-plain', 'app'],
  ['an md5 hash from auth_query and a password in clear', 'asked-plain', 'old'],
  ['a rule that asks for the password in clear', 'ruled-password', 'app'],
  ['a rule that asks for md5 and a SCRAM verifier', 'ruled-md5', 'app'],
  ['a rule that asks for SCRAM', 'ruled-scram', 'app'],
  ['the password itself', 'known', 'app'],
] as const)('with %s, what a client has proven itself by opens its servers', async ([, database, user]) => {
  const guessed = await login(user, database, 'guess')
  const right = await login(user, database)

  expect(guessed).toBe(`28P01 password authentication failed for user "${user}"`)
  expect(right).toBe(user)
})

test('a client that a rule trusts passes on nothing, and takes nothing away from who has proven himself', async () => {
  const trusted = async (): Promise<string> => await login('app', 'ruled-trust', '', '127.0.0.1')
  const before = await trusted()
  const proven = await login('app', 'ruled-trust', 'secret', '127.0.0.2')
  const after = await trusted()
  await engine.apply({ ...document, pools: { ...document.pools, other: document.pools['known'] as object } })
  const later = await trusted()

  expect(before).toContain('28P01')
  expect([proven, after, later]).toEqual(['app', 'app', 'app'])
})

test('of two passwords the former lets in, and servers are opened with the other as soon as that is known', async () => {
  const first = await login('app', 'replaced', 'former')
  const seconds: WireClient[] = []
  const served: string[] = []
  do {
    const second = await WireClient.login(engine, { user: 'app', password: 'secret', database: 'replaced' })
    seconds.push(second)
    served.push(await currentUser(second))
  } while ((await engine.poolUntil('replaced', ({ serversLogin }) => serversLogin === 0)).serversIdle > 0)
  // In session mode it needs a server of its own.
  const again = await login('app', 'replaced', 'former')
  const guessed = await login('app', 'replaced', 'guess')
  for (const second of seconds) second.destroy()

  expect(first).toContain('28P01')
  expect(served).toEqual(seconds.map(() => 'app'))
  expect(again).toBe('app')
  expect(guessed).toBe('28P01 password authentication failed for user "app"')
})

test('servers for min_pool_size are opened after the first client has logged in', async () => {
  const before = await engine.pool('minimum')
  await login('app', 'minimum')
  const after = await engine.poolUntil('minimum', ({ serversIdle }) => serversIdle === 2)

  expect(before).toMatchObject({ serversIdle: 0, serversLogin: 0, closed: {} })
  expect(after.closed).toEqual({})
})

test.for([
  [
    'has another salt',
    'salted',
    'salted',
    `28P01 the server's SCRAM verifier differs in salt or iterations from the one used by the client (server_auth = "passthrough")`,
  ],
  [
    'asks for the password itself',
    'asked',
    'plain',
    '28P01 the server requested the password of user "plain", which is not known',
  ],
] as const)('a server that %s is an error to the client and to operators', async ([, database, user, expected]) => {
  const refused = await login(user, database)
  const lost = await engine.lostUntil((server) => server.pool === database && server.user === user)

  expect(refused).toBe(expected)
  expect(lost).toMatchObject({ cause: 'auth_failed', sqlstate: '28P01', message: expected.slice('28P01 '.length) })
})

test('a role gets another password: old sessions live, the new one opens servers at once, the old one nothing', async () => {
  await postgres.sql("CREATE ROLE rotated LOGIN PASSWORD 'first'")
  const session = await WireClient.login(engine, { user: 'rotated', password: 'first', database: 'rotated' })
  const before = await currentUser(session)

  await postgres.sql("ALTER ROLE rotated PASSWORD 'second'")
  const second = await WireClient.login(engine, { user: 'rotated', password: 'second', database: 'rotated' })
  const first = await login('rotated', 'rotated', 'first')

  // In session mode each has a server of its own, so the second was opened with the new keys.
  expect([before, await currentUser(session), await currentUser(second)]).toEqual(['rotated', 'rotated', 'rotated'])
  expect(first).toBe('28P01 password authentication failed for user "rotated"')
})

test('keys outlive a rebuild, and are shown nowhere', async () => {
  await login('app', 'stored')
  const session = await WireClient.login(engine, { user: 'app', password: 'secret', database: 'stored' })
  const stored = { ...document.pools['stored'], server_tls_sslmode: 'prefer' }
  const outcome = await engine.apply({ ...document, pools: { ...document.pools, stored } })
  const after = await currentUser(session)
  const [, head = ''] = (await verifierOf('app')).split('$')
  const [iterations, salt = ''] = head.split(':')
  const salted = pbkdf2Sync('secret', Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256')
  const clientKey = createHmac('sha256', salted).update('Client Key').digest()
  const shown = JSON.stringify([await engine.snapshot(), engine.log, engine.lost])

  expect(outcome.rebuilt).toBe(1)
  expect(after).toBe('app')
  for (const encoding of ['base64', 'hex', 'latin1'] as const) expect(shown).not.toContain(clientKey.toString(encoding))
  expect(shown).not.toContain(salt)
})

test.for(['allow', 'require', 'verify-full'])(
  'auth_query and the keys of clients go over TLS where servers want it: %s',
  async (mode) => {
    const authority = await Authority.create()
    const secure = await startPostgres({
      auth: 'scram-sha-256',
      hba: ['hostnossl all asker,app 127.0.0.1/32 reject'],
      settings: await authority.postgresSettings(['IP:127.0.0.1'], authority.caFile),
      sql: ["CREATE ROLE app LOGIN PASSWORD 'secret'", "CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'asks'"],
    })
    const own = await startEngine({
      pools: {
        app: {
          database: 'postgres',
          servers: [{ host: '127.0.0.1', port: secure.port }],
          server_tls_sslmode: mode,
          ...(mode === 'verify-full' ? { server_tls_ca_file: authority.caFile } : {}),
          auth_user: 'asker',
          auth_password: 'asks',
          server_auth: 'passthrough',
          users: { app: {} },
        },
      },
    })

    const client = await WireClient.login(own, { user: 'app', password: 'secret' })
    const user = await currentUser(client)
    const { rows } = await secure.sql(
      "SELECT usename, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename IN ('app', 'asker') ORDER BY 1",
    )

    expect(user).toBe('app')
    expect(rows).toEqual([
      { usename: 'app', ssl: true },
      { usename: 'asker', ssl: true },
    ])
  },
)
