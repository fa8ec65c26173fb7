/** The same rules, maps and visitors: what PostgreSQL does by its pg_hba.conf the proxy does by auth_hba. */
import { writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { Client } from 'pg'
import { beforeAll, describe as group, expect, test } from 'vitest'
import { Authority } from '../../support/certificates.ts'
import type { Certificate } from '../../support/certificates.ts'
import { startEngine } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'

const rules = String.raw`
host      all       postgres        127.0.0.1/32           trust
hostnossl app       all             127.0.0.2/32           reject
host      app       plain           all                    password
host      app       md5             127.0.0.0 255.0.0.0    md5
host      "app"     scram,"plus"    127.0.0.0/8            scram-sha-256
hostssl   app       mapped          all                    cert  map=people
hostssl   app       named           all                    cert
hostssl   app       verified        all                    trust clientcert=verify-ca
hostssl   app       fully           all                    trust clientcert=verify-full
host      sameuser  own             all                    trust
host      app       trusted         127.0.0.1/32           trust
`
const maps = String.raw`
people    alice                     mapped
people    /^(.*)@example\.com$      \1
`
const roles = ['plain', 'md5', 'scram', 'mapped', 'named', 'verified', 'fully', 'own', 'trusted', 'loner']

let postgres: Postgres
let engine: Engine
let authority: Authority
let server: Certificate
const certificates = new Map<string, Certificate>()

beforeAll(async () => {
  authority = await Authority.create()
  server = await authority.issue('localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  for (const name of ['alice', 'mapped@example.com', 'named', 'another']) {
    certificates.set(name, await authority.issue(name))
  }
  const [hbaFile, identFile] = [join(authority.folder, 'hba.conf'), join(authority.folder, 'ident.conf')]
  await writeFile(hbaFile, rules)
  await writeFile(identFile, maps)
  postgres = await startPostgres({
    settings: {
      ...(await authority.postgresSettings(['DNS:localhost', 'IP:127.0.0.1'], authority.caFile)),
      hba_file: hbaFile,
      ident_file: identFile,
    },
    sql: [
      'CREATE DATABASE app',
      'CREATE DATABASE own',
      ...roles.map((role) => `CREATE ROLE ${role} LOGIN PASSWORD 'secret'`),
      "SET password_encryption = md5; ALTER ROLE md5 PASSWORD 'secret'",
    ],
  })
  engine = await startEngine(document(rules))
})

function document(hba: string, general: Document = {}, keys: Document = {}): Document {
  const users = Object.fromEntries(roles.map((role) => [role, { password: 'secret' }]))
  const pool = (database: string): object => ({
    database,
    auth_type: 'hba',
    servers: [{ host: '127.0.0.1', port: postgres.port }],
    server_user: 'postgres',
    server_password: '',
    users,
    ...keys,
  })
  return {
    general: {
      auth_hba: hba,
      auth_ident: maps,
      client_plain_allowed: 'on',
      login_backoff_after: 0,
      client_tls_sslmode: 'prefer',
      client_tls_cert_file: server.certFile,
      client_tls_key_file: server.keyFile,
      client_tls_ca_file: authority.caFile,
      ...general,
    },
    pools: { app: pool('app'), own: pool('own') },
  }
}

interface Visit {
  readonly user: string
  readonly database?: string
  readonly password?: string
  readonly from?: string
  /** Common name of the certificate that is shown, "" for none; absent for no TLS. */
  readonly tls?: string
}

/** How the login ended: "in", or SQLSTATE and message. */
async function outcome(at: { port: number }, visit: Visit): Promise<string> {
  const { user, database = 'app', password = 'secret', from = '127.0.0.1', tls } = visit
  const shown = certificates.get(tls ?? '')
  const client = new Client({
    host: '127.0.0.1',
    port: at.port,
    user,
    database,
    password,
    stream: () => comingFrom(from),
    ssl: tls === undefined ? false : { rejectUnauthorized: false, ...(shown && { cert: shown.cert, key: shown.key }) },
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query('SELECT 1')
    return 'in'
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return (
      `${code} ${message}`
        .replace(/pg_hba.conf|auth_hba/, '(rules)')
        // PostgreSQL names the method of the rule, though it is the certificate that it did not like.
        .replace('"trust" auth', 'certificate auth')
    )
  } finally {
    await client.end().catch(() => undefined)
  }
}

function comingFrom(localAddress: string): Socket {
  const socket = new Socket()
  const connect = socket.connect.bind(socket)
  // node-postgres calls it with port and host.
  socket.connect = ((port: number, host: string) => connect({ port, host, localAddress })) as typeof socket.connect
  return socket
}

group('PostgreSQL and the proxy agree on', () => {
  test.for<[name: string, visit: Visit, expected: RegExp]>([
    ['a password in clear', { user: 'plain' }, /^in$/],
    ['a wrong password in clear', { user: 'plain', password: 'guess' }, /^28P01 password authentication failed/],
    ['md5', { user: 'md5' }, /^in$/],
    ['md5 with a wrong password', { user: 'md5', password: 'guess' }, /^28P01/],
    ['SCRAM', { user: 'scram' }, /^in$/],
    ['SCRAM from another address', { user: 'scram', from: '127.0.0.3' }, /^in$/],
    ['SCRAM with a wrong password', { user: 'scram', password: 'guess' }, /^28P01/],
    [
      'an address that is turned away',
      { user: 'scram', from: '127.0.0.2' },
      /^28000 .*rejects connection for host "127.0.0.2"/,
    ],
    ['the same address with TLS', { user: 'scram', from: '127.0.0.2', tls: '' }, /^in$/],
    [
      'an address without a rule',
      { user: 'trusted', from: '127.0.0.3' },
      /^28000 no \(rules\) entry for host "127.0.0.3"/,
    ],
    ['a user without a rule', { user: 'loner' }, /^28000 no .* user "loner", database "app", no encryption$/],
    ['a user without a rule, with TLS', { user: 'loner', tls: '' }, /^28000 no .* database "app", SSL encryption$/],
    ['a trusted address', { user: 'trusted' }, /^in$/],
    ['sameuser', { user: 'own', database: 'own' }, /^in$/],
    ['sameuser for another user', { user: 'plain', database: 'own' }, /^28000 no /],
    ['a certificate for the user', { user: 'named', tls: 'named' }, /^in$/],
    [
      'a certificate for another user',
      { user: 'named', tls: 'alice' },
      /^28000 certificate authentication failed for user "named"$/,
    ],
    ['no certificate', { user: 'named', tls: '' }, /^28000 connection requires a valid client certificate$/],
    ['no TLS for a certificate', { user: 'named' }, /^28000 no /],
    ['a certificate that a map leads from', { user: 'mapped', tls: 'alice' }, /^in$/],
    ['a certificate that an expression leads from', { user: 'mapped', tls: 'mapped@example.com' }, /^in$/],
    [
      'a certificate that no map leads from',
      { user: 'mapped', tls: 'named' },
      /^28000 certificate authentication failed/,
    ],
    ['clientcert=verify-ca with any certificate', { user: 'verified', tls: 'another' }, /^in$/],
    ['clientcert=verify-ca without', { user: 'verified', tls: '' }, /^28000 connection requires a valid client/],
    ['clientcert=verify-full with another name', { user: 'fully', tls: 'alice' }, /^28000 /],
  ])('%s', async ([, visit, expected]) => {
    const wanted = await outcome(postgres, visit)

    expect(wanted).toMatch(expected)
    expect(await outcome(engine, visit)).toBe(wanted)
  })
})

test.for([
  ['host all all all password', /^28P01/],
  ['host all all all md5', /^28P01/],
  ['host all all all scram-sha-256', /^28P01/],
  ['host all all 127.0.0.2/32 trust', /^28000 no/],
  ['host all all all reject', /^28000 .* rejects/],
  ['hostssl all all all cert', /^28000 certificate/],
] as const)('with "%s" an unknown user is rejected like a known one', async ([rule, expected]) => {
  const own = await startEngine(document(rule))
  const visit = { password: 'guess', ...(rule.startsWith('hostssl') ? { tls: 'alice' } : {}) }

  const known = await outcome(own, { user: 'scram', ...visit })
  const unknown = await outcome(own, { user: 'stranger', ...visit })

  expect(known).toMatch(expected)
  expect(unknown).toBe(known.replace('"scram"', '"stranger"'))
})

test('new rules apply to new clients, and leave connected ones alone', async () => {
  const own = await startEngine(document('host all all all trust'))
  const client = new Client({ host: '127.0.0.1', port: own.port, user: 'own', database: 'own' })
  await client.connect()

  const { kept } = await own.apply(document('host all all all reject'))
  const { rows } = await client.query('SELECT 1 AS one')
  await client.end()

  expect(rows).toEqual([{ one: 1 }])
  expect(kept).toBe(roles.length * 2)
  expect(await outcome(own, { user: 'own', database: 'own' })).toMatch(/^28000 .* rejects connection/)
})

test('a password in clear is requested over TLS only, unless it is allowed without', async () => {
  const strict = await startEngine(document('host all all all password', { client_plain_allowed: 'off' }))

  expect(await outcome(strict, { user: 'plain' })).toMatch(/^28000 cleartext passwords require TLS/)
  expect(await outcome(strict, { user: 'plain', tls: '' })).toBe('in')
})

group('auth_type = "cert"', () => {
  test('is for whose certificate has the name of the user, without a password and without rules', async () => {
    const own = await startEngine(document('', {}, { auth_type: 'cert' }))

    expect(await outcome(own, { user: 'named', tls: 'named' })).toBe('in')
    expect(await outcome(own, { user: 'named', tls: 'alice' })).toMatch(/^28000 certificate authentication failed/)
    expect(await outcome(own, { user: 'named', tls: '' })).toMatch(/^28000 connection requires a valid client/)
    expect(await outcome(own, { user: 'named' })).toMatch(/^28000 connection requires a valid client/)
    // Vouched for, but there is no such user.
    expect(await outcome(own, { user: 'alice', tls: 'alice' })).toMatch(/^28000 certificate authentication failed/)
  })

  test.for(['prefer', 'verify-full'])('follows a map, where client_tls_sslmode is %s', async (mode) => {
    const keys = { auth_type: 'cert', auth_ident_map: 'people' }
    const own = await startEngine(document('', { client_tls_sslmode: mode }, keys))

    expect(await outcome(own, { user: 'mapped', tls: 'alice' })).toBe('in')
    expect(await outcome(own, { user: 'named', tls: 'alice' })).toMatch(/^28000 certificate authentication failed/)
  })
})
