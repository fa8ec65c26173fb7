/** TLS to servers: six modes against a PostgreSQL with and one without TLS, cancels, and what is never weakened. */
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { Client } from 'pg'
import { beforeAll, describe as group, expect, test } from 'vitest'
import { Authority } from '../../support/certificates.ts'
import type { Certificate } from '../../support/certificates.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { startEngine, until } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { cancelRequest, query } from '../../support/frontend-messages.ts'
import { lacks, startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { errorFields, WireClient } from '../../support/wire.ts'

let authority: Authority
let own: Certificate
/** With TLS for 127.0.0.1 and localhost; `app` logs in with SCRAM. */
let secure: Postgres
/** Without TLS. */
let plain: Postgres

const sql = ["CREATE ROLE app LOGIN PASSWORD 'app'", 'CREATE DATABASE app OWNER app']

beforeAll(async () => {
  authority = await Authority.create()
  own = await authority.issue('app')
  const settings = await authority.postgresSettings(['DNS:localhost', 'IP:127.0.0.1'], authority.caFile)
  secure = await startPostgres({ auth: 'scram-sha-256', settings, sql })
  plain = await startPostgres({ auth: 'scram-sha-256', sql })
})

function documentTo({ port }: { port: number }, keys: Record<string, string>): Document {
  const users = { app: { auth_type: 'trust', server_password: 'app' } }
  return { pools: { app: { ...keys, query_wait_timeout: '1s', servers: [{ host: '127.0.0.1', port }], users } } }
}

async function engineTo(server: { port: number }, keys: Record<string, string>): Promise<Engine> {
  return await startEngine(documentTo(server, keys))
}

async function ask<Row extends object>(engine: Engine, text: string): Promise<Row[]> {
  const client = new Client({ host: '127.0.0.1', port: engine.port, user: 'app', database: 'app' })
  await client.connect()
  try {
    return (await client.query<Row>(text)).rows
  } finally {
    await client.end()
  }
}

/** Whether the session of a query is TLS; or the error that the client got. */
async function outcome(engine: Engine): Promise<string> {
  try {
    const rows = await ask<{ ssl: boolean }>(engine, 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
    return rows[0]?.ssl === true ? 'TLS' : 'plain'
  } catch (error) {
    return String(error)
  }
}

const modes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const

function keysOf(mode: string, more: Record<string, string> = {}): Record<string, string> {
  const ca = mode.startsWith('verify') ? { server_tls_ca_file: authority.caFile } : {}
  return { server_tls_sslmode: mode, ...ca, ...more }
}

test.for(modes.map((mode, index) => [mode, index < 2 ? 'plain' : 'TLS'] as const))(
  'server_tls_sslmode %s to a server that can do TLS is %s',
  async ([mode, expected]) => {
    expect(await outcome(await engineTo(secure, keysOf(mode)))).toBe(expected)
  },
)

test.for(modes.slice(0, 3))(
  'server_tls_sslmode %s goes on in plaintext where the server cannot do TLS',
  async (mode) => {
    expect(await outcome(await engineTo(plain, keysOf(mode)))).toBe('plain')
  },
)

test.for(modes.slice(3))('server_tls_sslmode %s never falls back to plaintext', async (mode) => {
  const engine = await engineTo(plain, keysOf(mode))

  const answer = await outcome(engine)
  const lost = await engine.lostUntil(({ cause }) => cause === 'tls_failed')

  expect(answer).toContain(`does not support TLS, which server_tls_sslmode = "${mode}" requires`)
  expect(lost.message).toContain('does not support TLS')
})

test('a certificate of an authority that is not trusted is refused with the reason of OpenSSL', async () => {
  const { caFile } = await Authority.create('Stranger')
  const engine = await engineTo(secure, keysOf('verify-ca', { server_tls_ca_file: caFile }))

  await outcome(engine)
  const lost = await engine.lostUntil(({ cause }) => cause === 'tls_failed')

  expect(lost.message).toContain('TLS failed: certificate verify failed: self-signed certificate')
})

group('a certificate that is for another host', () => {
  let elsewhere: Postgres

  beforeAll(async () => {
    elsewhere = await startPostgres({ settings: await authority.postgresSettings(['DNS:elsewhere']), sql })
  })

  test('is refused with verify-full', async () => {
    const engine = await engineTo(elsewhere, keysOf('verify-full'))

    await outcome(engine)
    const lost = await engine.lostUntil(({ cause }) => cause === 'tls_failed')

    expect(lost.message).toContain('IP address mismatch')
  })

  test('is taken with verify-ca', async () => {
    expect(await outcome(await engineTo(elsewhere, keysOf('verify-ca')))).toBe('TLS')
  })
})

test('allow takes TLS where the server refuses plaintext', async () => {
  const settings = await authority.postgresSettings(['IP:127.0.0.1'])
  const picky = await startPostgres({ settings, sql, hba: ['hostnossl all app all reject'] })

  expect(await outcome(await engineTo(picky, keysOf('allow')))).toBe('TLS')
  expect(await outcome(await engineTo(picky, keysOf('disable')))).toContain('no encryption')
})

test('our certificate is shown to a server that asks for one', async () => {
  const keys = { server_tls_cert_file: own.certFile, server_tls_key_file: own.keyFile }
  const engine = await engineTo(secure, keysOf('verify-full', keys))

  const rows = await ask<{ client_dn: string }>(
    engine,
    'SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
  )

  expect(rows).toEqual([{ client_dn: '/CN=app' }])
})

test('direct TLS reaches PostgreSQL 18 without a request', async ({ skip }) => {
  skip(lacks('direct TLS', 17))
  expect(await outcome(await engineTo(secure, keysOf('require', { server_tls_negotiation: 'direct' })))).toBe('TLS')
})

test('6: direct TLS to a server that does not know it fails with a reason', async () => {
  // As PostgreSQL 16: the first bytes are no startup packet, and the connection ends.
  const server = createServer((socket) => socket.once('data', () => socket.end()))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEndOfFile(() => void server.close())
  const { port } = server.address() as AddressInfo
  const engine = await engineTo({ port }, keysOf('require', { server_tls_negotiation: 'direct' }))

  await outcome(engine)
  const lost = await engine.lostUntil(({ cause }) => cause === 'tls_failed')

  expect(lost.message).toContain('TLS failed')
})

test('plaintext that a server sends with its S is refused', async () => {
  const server = createServer((socket) => {
    socket.once('data', () => socket.write('SE'))
    socket.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEndOfFile(() => void server.close())
  const { port } = server.address() as AddressInfo
  const engine = await engineTo({ port }, keysOf('prefer'))

  await outcome(engine)
  const lost = await engine.lostUntil(({ cause }) => cause === 'tls_failed')

  expect(lost.message).toContain('plaintext after accepting TLS')
})

/** Passes connections on to `port`, and keeps the first bytes of each. */
async function listening(port: number): Promise<{ port: number; firsts: Buffer[] }> {
  const firsts: Buffer[] = []
  const server = createServer((near) => {
    const far = connect({ host: '127.0.0.1', port })
    near.once('data', (bytes) => firsts.push(bytes))
    near.pipe(far).pipe(near)
    for (const socket of [near, far]) socket.on('error', () => near.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEndOfFile(() => void server.close())
  return { port: (server.address() as AddressInfo).port, firsts }
}

test.for([
  ['postgres', /^0000000804d2162f$/],
  ['direct', /^1603/],
] as const)(
  '84: a cancel request reaches the server over TLS, negotiated as %s',
  async ([how, beginning], { skip }) => {
    skip(how === 'direct' && lacks('direct TLS', 17))
    const network = await listening(secure.port)
    const engine = await engineTo(network, keysOf('verify-full', { server_tls_negotiation: how }))
    const client = await WireClient.login(engine, { user: 'app' })
    client.send(query('SELECT pg_sleep(60)'))
    await until(async () => (await secure.activeQueries('SELECT pg_sleep(60)')) === 1)

    const canceling = await WireClient.connect(engine)
    canceling.send(cancelRequest(client.key?.pid ?? 0, client.key?.secret ?? Buffer.alloc(4)))
    const answers = await client.readUntil('Z')

    expect(answers.filter(({ tag }) => tag === 'E').map((error) => errorFields(error)['C'])).toEqual(['57014'])
    expect(network.firsts).toHaveLength(2)
    for (const bytes of network.firsts) expect(bytes.toString('hex')).toMatch(beginning)
  },
)

test('a large result comes whole over TLS on both sides of the pool', async () => {
  const engine = await engineTo(secure, keysOf('verify-full'))

  const rows = await ask<{ text: string }>(engine, "SELECT repeat('x', 5000000) AS text")

  expect(rows[0]?.text).toHaveLength(5_000_000)
})

test('another mode rebuilds the pool, and its servers are secured from then on', async () => {
  const engine = await engineTo(secure, keysOf('disable'))
  expect(await outcome(engine)).toBe('plain')

  const { rebuilt } = await engine.apply(documentTo(secure, keysOf('verify-full')))

  expect(rebuilt).toBe(1)
  expect(await outcome(engine)).toBe('TLS')
})
