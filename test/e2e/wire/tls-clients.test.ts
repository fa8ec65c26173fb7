/** TLS to clients: libpq's modes, node-postgres, direct TLS, and what must be refused. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import { Client } from 'pg'
import { beforeAll, describe as group, expect, test } from 'vitest'
import { Authority, replaceCertificate } from '../../support/certificates.ts'
import type { Certificate } from '../../support/certificates.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { startEngine, until } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { cancelRequest, cstring, int32, passwordMessage, sslRequest, startup } from '../../support/frontend-messages.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { hasProgram, runProgram } from '../../support/program.ts'
import { errorFields, WireClient } from '../../support/wire.ts'

const withoutPsql = !hasProgram('psql')

let postgres: Postgres
let authority: Authority
let localhost: Certificate
let web: Certificate

beforeAll(async () => {
  postgres = await startPostgres({ sql: ['CREATE ROLE app LOGIN', 'CREATE DATABASE app OWNER app'] })
  authority = await Authority.create()
  localhost = await authority.issue('localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  web = await authority.issue('app')
})

function document(mode: string, general: Document = {}): Document {
  const files = { client_tls_cert_file: localhost.certFile, client_tls_key_file: localhost.keyFile }
  return {
    general: { client_tls_sslmode: mode, ...(mode === 'disable' ? {} : files), ...general },
    pools: {
      app: {
        servers: [{ host: '127.0.0.1', port: postgres.port }],
        users: { app: { password: 'app', server_password: '' } },
      },
    },
    admin_users: { admin: { password: 'admin' } },
  }
}

const engines = new Map<string, Promise<Engine>>()

/** One engine per mode for the whole file. */
async function engineWith(mode: string): Promise<Engine> {
  const verifying = mode.startsWith('verify') ? { client_tls_ca_file: authority.caFile } : {}
  const engine = engines.get(mode) ?? startEngine(document(mode, verifying))
  engines.set(mode, engine)
  return await engine
}

async function psql(engine: Engine, sslmode: string, more = '', sql = 'SELECT 1'): Promise<string> {
  const { stdout, stderr, code } = await runProgram(
    'psql',
    ['-XAtc', sql, `host=127.0.0.1 port=${engine.port} user=app dbname=app sslmode=${sslmode} ${more}`],
    { PGPASSWORD: 'app' },
  )
  return code === 0 ? stdout.trim() : stderr
}

function outcomeOf(answer: string): string {
  if (/does not support SSL|TLS is required/.test(answer)) return 'refused'
  if (!answer.includes('You are connected')) return answer
  return answer.includes('SSL connection') ? 'TLS' : 'plain'
}

/** How psql comes in, by its own mode (columns) and the proxy's. */
const plainAndTls = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full']
const matrix: Record<string, readonly ('plain' | 'TLS' | 'refused')[]> = {
  disable: ['plain', 'plain', 'plain', 'refused', 'refused', 'refused'],
  allow: ['plain', 'plain', 'TLS', 'TLS', 'TLS', 'TLS'],
  prefer: ['plain', 'plain', 'TLS', 'TLS', 'TLS', 'TLS'],
  require: ['refused', 'TLS', 'TLS', 'TLS', 'TLS', 'TLS'],
}

group.skipIf(withoutPsql)('psql', () => {
  for (const [mode, outcomes] of Object.entries(matrix)) {
    for (const [index, sslmode] of plainAndTls.entries()) {
      const outcome = outcomes[index] as string
      test(`with sslmode=${sslmode} is ${outcome} where client_tls_sslmode is ${mode}`, async () => {
        const engine = await engineWith(mode)

        const answer = await psql(engine, sslmode, `sslrootcert=${authority.caFile}`, '\\conninfo')

        expect(outcomeOf(answer)).toBe(outcome)
      })
    }
  }

  test('checks our host name with verify-full', async () => {
    const elsewhere = `host=elsewhere hostaddr=127.0.0.1 sslrootcert=${authority.caFile}`

    expect(await psql(await engineWith('require'), 'verify-full', elsewhere)).toContain('does not match host name')
  })

  test('binds its SCRAM exchange to the channel', async () => {
    expect(await psql(await engineWith('require'), 'require', 'channel_binding=require')).toBe('1')
  })

  test('shows its certificate where the proxy verifies, and its name is the user with verify-full', async () => {
    const own = `sslcert=${web.certFile} sslkey=${web.keyFile}`
    const other = await authority.issue('other')
    const others = `sslcert=${other.certFile} sslkey=${other.keyFile}`

    expect(await psql(await engineWith('verify-ca'), 'require', own)).toBe('1')
    expect(await psql(await engineWith('verify-ca'), 'require', others)).toBe('1')
    expect(await psql(await engineWith('verify-ca'), 'require', 'sslcert=/nonexistent')).toContain(
      'certificate required',
    )
    expect(await psql(await engineWith('verify-full'), 'require', own)).toBe('1')
    expect(await psql(await engineWith('verify-full'), 'require', others)).toContain(
      "the certificate's common name does not match",
    )
  })

  test('is shown with protocol and cipher in SHOW CLIENTS', async () => {
    const { stdout } = await runProgram(
      'psql',
      [
        '-XAtc',
        'SHOW CLIENTS',
        `host=127.0.0.1 port=${(await engineWith('require')).port} user=admin dbname=pgbouncer sslmode=require`,
      ],
      { PGPASSWORD: 'admin' },
    )

    expect(stdout).toMatch(/\|TLSv1\.3\/TLS_AES_256_GCM_SHA384\/ECDH=/)
  })
})

test('node-postgres logs in over TLS, and checks the certificate', async () => {
  const engine = await engineWith('require')
  const client = new Client({
    host: '127.0.0.1',
    port: engine.port,
    user: 'app',
    password: 'app',
    database: 'app',
    ssl: { ca: await authority.caPem(), servername: 'localhost' },
  })

  await client.connect()
  const { rows } = await client.query("SELECT repeat('x', 3000000) AS text")
  await client.end()

  expect((rows[0] as { text: string }).text).toHaveLength(3_000_000)
})

function direct(engine: Engine, options: ConnectionOptions = {}): TLSSocket {
  const socket = connectTls({
    host: '127.0.0.1',
    port: engine.port,
    rejectUnauthorized: false,
    ALPNProtocols: ['postgresql'],
    ...options,
  })
  socket.on('error', () => undefined)
  atEndOfFile(() => void socket.destroy())
  return socket
}

async function firstBytes(socket: TLSSocket): Promise<Buffer> {
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  return chunk
}

group('5: direct TLS', () => {
  test('with ALPN "postgresql" goes straight to the startup packet', async () => {
    const socket = direct(await engineWith('require'))
    await once(socket, 'secureConnect')

    socket.write(startup({ user: 'app', database: 'app' }))
    const answer = await firstBytes(socket)

    expect(socket.alpnProtocol).toBe('postgresql')
    expect(answer.toString('latin1', 9)).toBe('SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0')
  })

  test('without ALPN is refused', async () => {
    const socket = direct(await engineWith('require'), { ALPNProtocols: [] })

    expect((await firstBytes(socket)).toString()).toContain('without ALPN protocol')
  })

  test('with the ALPN of another protocol is refused in the handshake', async () => {
    const socket = direct(await engineWith('require'), { ALPNProtocols: ['http/1.1'] })
    const [error] = (await once(socket, 'error')) as [Error]

    expect(String(error)).toContain('no application protocol')
  })

  test('is refused where TLS is not offered', async () => {
    const socket = connect({ host: '127.0.0.1', port: (await engineWith('disable')).port })
    atEndOfFile(() => void socket.destroy())
    socket.write(Buffer.from('1603010005', 'hex'))
    const [answer] = (await once(socket, 'data')) as [Buffer]

    expect(answer.toString()).toContain('TLS is not enabled')
  })
})

test('client_tls_min_protocol refuses what is older', async () => {
  const engine = await startEngine(document('require', { client_tls_min_protocol: 'TLSv1.3' }))
  const [error] = (await once(direct(engine, { maxVersion: 'TLSv1.2' }), 'error')) as [Error]
  const older = direct(await engineWith('require'), { maxVersion: 'TLSv1.2' })
  await once(older, 'secureConnect')

  expect(String(error)).toContain('protocol version')
  expect(older.getProtocol()).toBe('TLSv1.2')
})

test('4: plaintext sent together with SSLRequest is refused, not acted upon', async () => {
  const client = await WireClient.connect(await engineWith('prefer'))

  client.send(sslRequest, startup({ user: 'app', database: 'app' }))
  const { messages } = await client.readToEnd()

  expect(messages.map(errorFields)).toMatchObject([{ C: '08P01', M: 'received unencrypted data after SSL request' }])
})

/** TLS after SSLRequest; what the wire carries inside of it. */
async function upgraded(engine: Engine): Promise<TLSSocket> {
  const plain = connect({ host: '127.0.0.1', port: engine.port })
  atEndOfFile(() => void plain.destroy())
  plain.write(sslRequest)
  await once(plain, 'data')
  const socket = connectTls({ socket: plain, rejectUnauthorized: false })
  socket.on('error', () => undefined)
  await once(socket, 'secureConnect')
  return socket
}

test('3: a second SSLRequest inside of TLS is refused', async () => {
  const socket = await upgraded(await engineWith('require'))

  socket.write(sslRequest)

  expect((await firstBytes(socket)).toString()).toContain('encryption was requested twice')
})

test('20: a client that says y although PLUS was offered is refused', async () => {
  const socket = await upgraded(await engineWith('require'))
  socket.write(startup({ user: 'app', database: 'app' }))
  await firstBytes(socket)
  const first = Buffer.from('y,,n=,r=abcdefgh')

  socket.write(passwordMessage(cstring('SCRAM-SHA-256'), int32(first.length), first))

  expect((await firstBytes(socket)).toString()).toContain('SCRAM channel binding negotiation error')
})

test('84: a cancel request is taken over TLS, over direct TLS and in plaintext', async () => {
  const engine = await engineWith('require')
  const ways = [async () => await upgraded(engine), async () => await Promise.resolve(direct(engine)), plainCancel]
  async function plainCancel(): Promise<ReturnType<typeof connect>> {
    return await Promise.resolve(connect({ host: '127.0.0.1', port: engine.port }))
  }
  for (const way of ways) {
    const client = new Client({
      host: '127.0.0.1',
      port: engine.port,
      user: 'app',
      password: 'app',
      database: 'app',
      ssl: { rejectUnauthorized: false },
    })
    await client.connect()
    const refused = client.query('SELECT pg_sleep(60)').catch((error: unknown) => error)
    await until(async () => (await postgres.activeQueries('SELECT pg_sleep(60)')) === 1)
    // What node-postgres keeps of BackendKeyData.
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }

    const canceling = await way()
    canceling.write(cancelRequest(processID, int32(secretKey)))

    expect(await refused).toMatchObject({ code: '57014' })
    await client.end()
    canceling.destroy()
  }
})

test('a stalled handshake ends at client_login_timeout', async () => {
  const engine = await startEngine(document('require', { client_login_timeout: '200ms' }))
  const client = await WireClient.connect(engine)

  client.send(sslRequest)
  await client.readByte()

  expect((await client.readToEnd()).messages).toEqual([])
  expect((await engine.snapshot()).clientsLogin).toBe(0)
})

test('a new certificate is presented to new clients, and connected ones stay', async () => {
  const own = await authority.issue('localhost', ['DNS:localhost'])
  const files = { client_tls_cert_file: own.certFile, client_tls_key_file: own.keyFile }
  const engine = await startEngine(document('require', files))
  const former = await upgraded(engine)
  former.write(startup({ user: 'app', database: 'app' }))
  const before = former.getPeerCertificate().serialNumber

  await replaceCertificate(own, await authority.issue('localhost', ['DNS:localhost']))
  await engine.apply(document('require', files))
  const latter = await upgraded(engine)
  const first = Buffer.from('n,,n=,r=abcdefgh')
  former.write(passwordMessage(cstring('SCRAM-SHA-256'), int32(first.length), first))

  expect(latter.getPeerCertificate().serialNumber).not.toBe(before)
  expect((await firstBytes(former)).length).toBeGreaterThan(0)
})

test.for([
  [
    { client_tls_cert_file: '/nonexistent/cert.pem' },
    'client_tls_cert_file = "/nonexistent/cert.pem": could not be read',
  ],
  [{ client_tls_ciphers: 'NONSENSE' }, 'client_tls_ciphers: could not use the cipher list'],
] as const)('a version with %o is refused with key and reason, and what runs goes on', async ([general, reason]) => {
  const engine = await engineWith('require')

  await expect(engine.apply(document('require', general))).rejects.toThrow(reason)
  expect(await psqlOrSkip(engine)).toBe('1')
})

async function psqlOrSkip(engine: Engine): Promise<string> {
  return withoutPsql ? '1' : await psql(engine, 'require')
}
