/**
 * The newest libpq itself, which knows what Debian's does not: what comes of a connection string must be the same through
 * a proxy in transaction mode as at PostgreSQL, word for word where it fails.
 */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { beforeAll, describe as group, expect, test } from 'vitest'
import { Authority } from '../support/certificates.ts'
import { atEndOfFile } from '../support/cleanup.ts'
import { startEngine } from '../support/engine.ts'
import type { Document, Engine } from '../support/engine.ts'
import { freePort } from '../support/free-port.ts'
import { lacks, startPostgres } from '../support/postgres.ts'
import type { Postgres } from '../support/postgres.ts'
import { runProgram } from '../support/program.ts'
import { newestLibpq, newestPython } from './python.ts'

if (newestLibpq === undefined) process.stdout.write('skipped: psycopg-binary with its libpq is not installed here\n')

/** RFC 5802, section 3: what a client needs of a password, and what PostgreSQL keeps of it. */
const salted = pbkdf2Sync('secret', 'salt', 4096, 32, 'sha256')
const [clientKey, serverKey] = ['Client Key', 'Server Key'].map((key) =>
  createHmac('sha256', salted).update(key).digest(),
)
const storedKey = createHash('sha256')
  .update(clientKey as Buffer)
  .digest('base64')
const verifier = `SCRAM-SHA-256$4096:${btoa('salt')}$${storedKey}:${serverKey?.toString('base64')}`

/** Who logs in how: by the proxy's configuration, and by rules of PostgreSQL. */
const hba = ['host all old all md5', 'host all clear all password', 'host all trusted all trust']
const users = {
  app: { password: 'secret' },
  old: { password: 'secret', auth_type: 'md5' },
  clear: { password: 'secret', auth_type: 'plain' },
  trusted: { auth_type: 'trust' },
  keys: { password: verifier, server_auth: 'passthrough' },
}
const sql = [
  'CREATE DATABASE app',
  "CREATE ROLE app LOGIN PASSWORD 'secret'",
  "CREATE ROLE clear LOGIN PASSWORD 'secret'",
  'CREATE ROLE trusted LOGIN',
  `CREATE ROLE keys LOGIN PASSWORD '${verifier}'`,
  "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'secret'",
]

let authority: Authority
let postgres: Postgres
let secure: Engine
let plain: Engine
/** Connection strings for the two. */
let direct: Tap
let pooled: Tap

function document(general: Document, ...servers: readonly Postgres[]): Document {
  return {
    general,
    admin_users: { admin: { password: 'admin' } },
    defaults: { pool_mode: 'transaction', pool_size: 2 },
    pools: { app: { servers: servers.map(({ host, port }) => ({ host, port })), users } },
  }
}

interface Tap {
  readonly port: number
  /** How the connections began that came by. */
  readonly began: string[]
}

async function startTap(port: number): Promise<Tap> {
  const began: string[] = []
  const server = createServer((near) => {
    const far = connect({ host: '127.0.0.1', port })
    near.once('data', (bytes) => began.push(kindOf(bytes)))
    near.pipe(far).pipe(near)
    near.on('error', () => far.destroy())
    far.on('error', () => near.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  atEndOfFile(() => void server.close())
  return { port: (server.address() as AddressInfo).port, began }
}

/** Codes in the place of a protocol version: "Message Formats" in the manual. */
const kinds: Readonly<Record<number, string>> = { 80877102: 'CancelRequest', 80877103: 'SSLRequest' }

function kindOf(bytes: Buffer): string {
  if (bytes[0] === 0x16) return 'TLS'
  const kind = kinds[bytes.readInt32BE(4)] ?? `startup ${bytes.readInt16BE(4)}.${bytes.readInt16BE(6)}`
  return kind === 'CancelRequest' ? `${kind} of ${bytes.readInt32BE(0)} bytes` : kind
}

/** What a connection says for itself, or what libpq says instead. */
interface Found {
  readonly user: string
  readonly standby: 't' | 'f'
  readonly protocol: number
  readonly tls: string | null
  readonly alpn: string | null
  readonly canceled?: readonly [string, string]
}

type Outcome = Found | string

/** What libpq finds with each of `conninfos` at `ports`, of which the first is the default. */
async function found(conninfos: readonly string[], ...ports: readonly [number, ...number[]]): Promise<Outcome[]> {
  const named = conninfos.map((conninfo) =>
    conninfo.replaceAll(/PORT(\d)/g, (_, index) => String(ports[Number(index)])),
  )
  const { stdout, stderr } = await runProgram(
    newestPython,
    [join(import.meta.dirname, 'libpq-connects.py'), newestLibpq as string, ...named],
    environment(ports[0]),
  )
  expect(stderr).toBe('')
  return stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { value: Outcome }).value)
    .map((value) => (typeof value === 'string' ? withoutPorts(value) : value))
}

function environment(port: number): Record<string, string> {
  return {
    PGHOST: '127.0.0.1',
    PGPORT: String(port),
    PGUSER: 'app',
    PGPASSWORD: 'secret',
    PGDATABASE: 'app',
    PGSSLROOTCERT: authority.caFile,
  }
}

const withoutPorts = (text: string): string => text.replaceAll(/port \d+/g, 'port PORT')

/** The same at PostgreSQL and at the proxy; what was found, and how each connection for it began. */
async function sameOfBoth(conninfos: readonly string[]): Promise<{ outcomes: Outcome[]; began: string[] }> {
  direct.began.length = 0
  pooled.began.length = 0
  const wanted = await found(conninfos, direct.port)
  const outcomes = await found(conninfos, pooled.port)
  expect(outcomes).toEqual(wanted)
  expect(pooled.began).toEqual(direct.began)
  return { outcomes, began: [...pooled.began] }
}

const app = { user: 'app', standby: 'f', protocol: 30000, tls: null, alpn: null }
const overTls = { ...app, tls: 'TLSv1.3', alpn: 'postgresql' }
const failure = (text: string): string => `connection to server at "127.0.0.1", port PORT failed: ${text}`

group.skipIf(newestLibpq === undefined || lacks('direct TLS and protocol 3.2', 18))(
  'libpq 18',
  { timeout: 60_000 },
  () => {
    beforeAll(async () => {
      authority = await Authority.create()
      const names = ['DNS:localhost', 'IP:127.0.0.1']
      postgres = await startPostgres({
        auth: 'scram-sha-256',
        hba,
        settings: await authority.postgresSettings(names),
        sql,
      })
      const { certFile, keyFile } = await authority.issue('proxy', names)
      const tls = { client_tls_sslmode: 'allow', client_tls_cert_file: certFile, client_tls_key_file: keyFile }
      secure = await startEngine(document(tls, postgres))
      plain = await startEngine(document({ client_plain_allowed: 'on' }, postgres))
      direct = await startTap(postgres.port)
      pooled = await startTap(secure.port)
    })

    test('5: comes in by direct TLS with ALPN, and checks the certificate', async () => {
      const { outcomes, began } = await sameOfBoth([
        'sslmode=require sslnegotiation=direct',
        'sslmode=verify-full sslnegotiation=direct',
        'sslmode=verify-full sslnegotiation=direct host=elsewhere hostaddr=127.0.0.1',
        'sslmode=require sslnegotiation=direct sslrootcert=/nonexistent ssl_max_protocol_version=TLSv1.2',
        'sslmode=require sslnegotiation=postgres',
      ])

      expect(outcomes).toEqual([
        overTls,
        overTls,
        expect.stringContaining('does not match host name "elsewhere"'),
        { ...overTls, tls: 'TLSv1.2' },
        overTls,
      ])
      expect(began).toEqual(['TLS', 'TLS', 'TLS', 'TLS', 'SSLRequest'])
    })

    test('5: is refused at once where the proxy does no TLS, and comes in where it insists on none', async () => {
      const modes = ['sslmode=require sslnegotiation=direct', 'sslmode=require', 'sslmode=prefer']

      const outcomes = await found(modes, plain.port)

      expect(outcomes).toEqual([
        // What OpenSSL calls an answer that is not TLS; libpq adds that the server may not support any version of it.
        expect.stringContaining('SSL error: wrong version number'),
        failure('server does not support SSL, but SSL was required'),
        app,
      ])
      expect((await plain.snapshot()).refused).toEqual({ '08P01': 1 })
    })

    test('20: binds SCRAM to the channel, and refuses every login that is not bound', async () => {
      const { outcomes } = await sameOfBoth(
        [
          'sslmode=require',
          'sslmode=require sslnegotiation=direct',
          'sslmode=disable',
          'sslmode=require user=old',
          'sslmode=require user=clear',
          'sslmode=require user=trusted',
          'sslmode=require password=wrong',
        ].map((conninfo) => `${conninfo} channel_binding=require`),
      )

      const unbound = failure("channel binding required but not supported by server's authentication request")
      expect(outcomes).toEqual([
        overTls,
        overTls,
        failure('channel binding required, but SSL not in use'),
        unbound,
        unbound,
        failure('channel binding required, but server authenticated client without channel binding'),
        failure('FATAL:  password authentication failed for user "app"'),
      ])
    })

    test('22: asks for the way in that require_auth names, and takes no other', async () => {
      const methods = ['scram-sha-256', 'md5', 'password', 'none', '!none', '!scram-sha-256', 'md5,scram-sha-256']
      const names = Object.keys(users)

      const { outcomes } = await sameOfBoth(
        methods.flatMap((method) => names.map((user) => `sslmode=require user=${user} require_auth=${method}`)),
      )

      const whoCameIn = methods.map((method, index) => [
        method,
        ...names.filter((_, user) => typeof outcomes[index * names.length + user] === 'object'),
      ])
      expect(whoCameIn).toEqual([
        ['scram-sha-256', 'app', 'keys'],
        ['md5', 'old'],
        ['password', 'clear'],
        ['none', 'trusted'],
        ['!none', 'app', 'old', 'clear', 'keys'],
        ['!scram-sha-256', 'old', 'clear', 'trusted'],
        ['md5,scram-sha-256', 'app', 'old', 'keys'],
      ])
    })

    test('22: comes in by SCRAM keys alone, as postgres_fdw passes them on, where the verifier is the same', async () => {
      const keys = `scram_client_key=${clientKey?.toString('base64')} scram_server_key=${serverKey?.toString('base64')}`

      const { outcomes } = await sameOfBoth([
        `sslmode=disable user=keys ${keys}`,
        `sslmode=require channel_binding=require user=keys ${keys}`,
        `sslmode=disable user=app ${keys}`,
      ])

      expect(outcomes).toEqual([
        { ...app, user: 'keys' },
        { ...overTls, user: 'keys' },
        failure('FATAL:  password authentication failed for user "app"'),
      ])
    })

    test('9: speaks protocol 3.2 where it may', async () => {
      const { outcomes, began } = await sameOfBoth([
        'sslmode=disable',
        'sslmode=disable max_protocol_version=latest',
        'sslmode=disable min_protocol_version=3.2',
        'sslmode=require min_protocol_version=3.2 max_protocol_version=3.2',
      ])

      const newest = { ...app, protocol: 30002 }
      expect(outcomes).toEqual([app, newest, newest, { ...overTls, protocol: 30002 }])
      expect(began).toEqual(['startup 3.0', 'startup 3.2', 'startup 3.2', 'SSLRequest'])
    })

    const version = (number: string): string => `min_protocol_version=${number} max_protocol_version=${number}`

    test('9, 84: cancels with short and long keys, as the client itself is connected', async () => {
      const { outcomes, began } = await sameOfBoth(
        ['sslmode=disable', 'sslmode=require', 'sslmode=require sslnegotiation=direct'].flatMap((mode) =>
          ['3.0', '3.2'].map((number) => `${mode} ${version(number)} application_name=canceled`),
        ),
      )

      expect(outcomes.map((outcome) => typeof outcome === 'object' && outcome.canceled)).toEqual(
        Array.from({ length: 6 }, () => ['57014', 'after the cancel']),
      )
      // The client, who looks whether its query runs, and the cancel request.
      expect(Array.from({ length: 6 }, (_, way) => began.slice(way * 3, way * 3 + 3))).toEqual([
        ['startup 3.0', 'startup 3.0', 'CancelRequest of 16 bytes'],
        ['startup 3.2', 'startup 3.0', 'CancelRequest of 44 bytes'],
        ['SSLRequest', 'startup 3.0', 'SSLRequest'],
        ['SSLRequest', 'startup 3.0', 'SSLRequest'],
        ['TLS', 'startup 3.0', 'TLS'],
        ['TLS', 'startup 3.0', 'TLS'],
      ])
      expect(began).toHaveLength(18)
    })

    test('15: is told of a bad option what PostgreSQL tells, with detail and hint', async () => {
      const { outcomes } = await sameOfBoth(
        ['-c search_path=a\\\\ b,c', '-c IntervalStyle=short', '-c work_mem=1XB', '-c nothing=1'].map(
          (options) => `sslmode=disable options='${options}'`,
        ),
      )

      expect(outcomes[0]).toContain('DETAIL:  List syntax is invalid.')
      expect(outcomes[1]).toContain('HINT:  Available values')
      expect(outcomes[2]).toContain('HINT:  Valid units')
      expect(outcomes[3]).toContain('unrecognized configuration parameter')
    })

    test('76: finds a session of the kind it asks for among proxies, and passes over a host that is dead', async () => {
      const standby = await startPostgres({ auth: 'scram-sha-256', sql })
      await standby.restartAsStandby()
      const reading = await startEngine(document({ client_plain_allowed: 'on' }, standby))
      const dead = await freePort()
      const hosts = (...ports: readonly number[]): string =>
        `sslmode=disable host=${ports.map(() => '127.0.0.1').join(',')} port=${ports.map((port) => `PORT${port}`).join(',')}`
      const sessions = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby']
      const conninfos = [
        ...sessions.map((session) => `${hosts(2, 1, 0)} target_session_attrs=${session}`),
        ...Array.from({ length: 10 }, () => `${hosts(2, 0, 0)} load_balance_hosts=random`),
        `${hosts(0, 0)} target_session_attrs=standby`,
      ]

      const [wanted, outcomes] = await Promise.all([
        found(conninfos, postgres.port, standby.port, dead),
        found(conninfos, plain.port, reading.port, dead),
      ])

      expect(outcomes).toEqual(wanted)
      const [primary, other] = [app, { ...app, standby: 't' }]
      const refusal = failure('server is not in hot standby mode')
      expect(outcomes.slice(0, sessions.length)).toEqual([other, primary, other, primary, other, other])
      expect(outcomes.slice(sessions.length, -1)).toEqual(Array(10).fill(primary))
      expect(outcomes.at(-1)).toBe(`${refusal}\n${refusal}`)
    })

    test('55: closes by Close what it has prepared too much of, on 16 connections over two servers', async () => {
      const program = [join(import.meta.dirname, 'psycopg-prepares.py')]
      const before = (await secure.pool('app')).totals

      const wanted = await runProgram(newestPython, program, environment(postgres.port))
      const outcome = await runProgram(newestPython, program, {
        ...environment(secure.port),
        CONSOLE: 'dbname=pgbouncer user=admin password=admin sslmode=disable',
      })

      expect(wanted).toMatchObject({ code: 0, stderr: '' })
      expect(outcome).toEqual(wanted)
      const facts = wanted.stdout.trim().split('\n')
      expect(facts.slice(-2).map((line) => JSON.parse(line) as unknown)).toEqual([
        { fact: 'messages', value: { Parse: 60, ParseComplete: 60, Close: 26, CloseComplete: 26 } },
        { fact: 'kept', value: Array(16).fill(4) },
      ])
      const { totals } = await secure.pool('app')
      const [prepared, sent] = (['client_parse_count', 'server_parse_count'] as const).map(
        (count) => totals[count] - before[count],
      )
      // Each client prepares 30 times; what it executes without a name is not counted. On each of two servers a text is prepared once
      // for all of them, and again when the last one had closed it.
      expect(prepared).toBe(16 * 30)
      expect(sent).toBeLessThanOrEqual(2 * 30)
    })
  },
)
