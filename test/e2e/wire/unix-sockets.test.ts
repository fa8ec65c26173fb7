/** Unix sockets on either side: of PostgreSQL, and of the proxy's clients. */
import { chmod, chown, stat, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { once } from 'node:events'
import { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { postgresUser } from '../../../cli/start/embedded-postgres.ts'
import { Authority } from '../../support/certificates.ts'
import { startEngine, until } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { cancelRequest, gssEncRequest, sslRequest, startup } from '../../support/frontend-messages.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startProxyFromFile } from '../../support/processes.ts'
import { hasProgram, runProgram } from '../../support/program.ts'
import { tempFolder } from '../../support/temp-folder.ts'

const withoutPsql = !hasProgram('psql')

let postgres: Postgres
let serverFolder: string
let clientFolder: string
let document: Document
let engine: Engine

beforeAll(async () => {
  serverFolder = await tempFolder()
  clientFolder = await tempFolder()
  await chmod(serverFolder, 0o755)
  const { uid, gid } = postgresUser()
  if (uid !== undefined && gid !== undefined) await chown(serverFolder, uid, gid)
  postgres = await startPostgres({
    settings: { unix_socket_directories: serverFolder },
    hba: ['local all all trust'],
    sql: ["CREATE ROLE app LOGIN PASSWORD 'secret'", 'CREATE DATABASE app OWNER app'],
  })
  const { certFile, keyFile } = await (await Authority.create()).issue('localhost')
  const section = { database: 'app', users: { app: {} }, servers: [{ host: serverFolder, port: postgres.port }] }
  document = {
    general: {
      client_tls_sslmode: 'require',
      client_tls_cert_file: certFile,
      client_tls_key_file: keyFile,
    },
    admin_users: { admin: { auth_type: 'trust' } },
    defaults: { auth_type: 'trust' },
    pools: {
      app: section,
      secured: { ...section, server_tls_sslmode: 'require' },
      asked: {
        ...section,
        users: { '*': {} },
        server_tls_sslmode: 'require',
        auth_type: 'scram-sha-256',
        auth_user: 'postgres',
        server_password: '',
        auth_database: 'postgres',
      },
      nowhere: { ...section, servers: [{ host: join(serverFolder, 'nothing'), port: 5432 }] },
    },
  }
  engine = await startEngine(document, { unix: { dir: clientFolder, mode: 0o777 } })
})

async function login(database = 'app', user = 'app'): Promise<Client> {
  const client = new Client({ host: clientFolder, port: engine.port, user, database })
  await client.connect()
  return client
}

test.skipIf(withoutPsql)('84: psql -h FOLDER works, and needs no TLS where it is required of others', async () => {
  const psql = async (host: string): Promise<{ stdout: string; stderr: string }> =>
    await runProgram('psql', ['-XAt', '-h', host, '-p', String(engine.port), '-U', 'app', 'app', '-c', 'SELECT 42'], {
      PGSSLMODE: 'disable',
    })

  const [byFolder, byTcp] = [await psql(clientFolder), await psql(engine.host)]

  expect(byFolder.stdout).toBe('42\n')
  expect(byTcp.stderr).toContain('TLS is required')
})

test('84: the server is reached by its own Unix socket', async () => {
  const client = await login()

  const { rows } = await client.query<{ addr: string | null }>(
    'SELECT client_addr AS addr FROM pg_stat_activity WHERE pid = pg_backend_pid()',
  )
  await client.end()

  expect(rows).toEqual([{ addr: null }])
})

test('84: TLS is not asked of a Unix socket of a server, whatever the mode, as in libpq', async () => {
  const client = await login('secured')

  const { rows } = await client.query<{ ssl: boolean }>('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
  await client.end()

  expect(rows).toEqual([{ ssl: false }])
})

test('84: nor is it asked of the Unix socket that auth_query goes to', async () => {
  const asked = { host: clientFolder, port: engine.port, user: 'app', password: 'secret', database: 'asked' }
  const client = new Client(asked)

  await client.connect()
  const { rows } = await client.query('SELECT 42 AS a')
  await client.end()

  expect(rows).toEqual([{ a: 42 }])
})

test.for([
  ['SSLRequest', sslRequest],
  ['GSSENCRequest', gssEncRequest],
] as const)('84: %s over a Unix socket is answered N', async ([, request]) => {
  const socket = connect(join(clientFolder, `.s.PGSQL.${engine.port}`))

  socket.write(request)
  await once(socket, 'readable')
  const answer = String(socket.read(1))
  socket.write(startup({ user: 'app', database: 'app' }))
  await once(socket, 'readable')
  const tag = String(socket.read(1))
  socket.destroy()

  expect([answer, tag]).toEqual(['N', 'R'])
})

test('84: direct TLS over a Unix socket is refused', async () => {
  const socket = connect(join(clientFolder, `.s.PGSQL.${engine.port}`))

  socket.write(Buffer.from('160301', 'hex'))
  const [answer] = (await once(socket, 'data')) as [Buffer]
  socket.destroy()

  expect(answer.toString()).toContain('08P01')
})

test('84: a cancel over a Unix socket hits its query, by the Unix socket of the server', async () => {
  const client = await login()
  const running = client.query('SELECT pg_sleep(600)').catch((error: { code: string }) => error.code)
  await until(async () => (await postgres.activeQueries('SELECT pg_sleep%')) === 1)
  // What the types of pg do not tell.
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }

  const secret = Buffer.alloc(4)
  secret.writeInt32BE(secretKey)
  const socket = connect(join(clientFolder, `.s.PGSQL.${engine.port}`))
  socket.write(cancelRequest(processID, secret))
  await once(socket.resume(), 'close')

  expect(await running).toBe('57014')
  await client.end()
})

test('84: the console shows "unix" and the port, as PgBouncer does', async () => {
  const client = await login()
  await client.query('BEGIN')
  const operator = await login('pgbouncer', 'admin')

  const shown = async (what: string): Promise<unknown> => {
    const { rows } = await operator.query<Record<string, unknown>>(`SHOW ${what}`)
    const { addr, port, local_addr, local_port, tls } = rows.find((row) => row['user'] === 'app') ?? {}
    return { addr, port, local_addr, local_port, tls }
  }
  const [clients, servers] = [await shown('CLIENTS'), await shown('SERVERS')]
  await Promise.all([operator.end(), client.end()])

  expect(clients).toEqual({ addr: 'unix', port: engine.port, local_addr: 'unix', local_port: engine.port, tls: '' })
  expect(servers).toMatchObject({ addr: 'unix', port: postgres.port, local_addr: 'unix' })
})

test('a Unix socket that is not there is a server that refuses, and is tried again', async () => {
  const client = new Client({ host: clientFolder, port: engine.port, user: 'app', database: 'nowhere' })
  client.on('error', () => undefined)
  const connected = client.connect().catch(() => undefined)

  const lost = await engine.lostUntil(({ pool }) => pool === 'nowhere')
  await until(() => engine.lost.filter(({ pool }) => pool === 'nowhere').length > 1)
  const { pools } = document as { pools: Record<string, object> }
  await engine.apply({ ...document, pools: { app: pools['app'], secured: pools['secured'] } })
  await connected

  expect(lost).toMatchObject({ cause: 'connect_refused', errno: 'ENOENT', host: join(serverFolder, 'nothing') })
})

test('84: unix_socket_dir is served with unix_socket_mode under the port of the proxy, which takes the file with it', async () => {
  const folder = await tempFolder()
  const file = join(folder, 'proxy.toml')
  const text = `
[general]
unix_socket_dir = "${folder}"
unix_socket_mode = "0711"
[defaults]
auth_type = "trust"
[pools.app]
servers = [{ host = "${serverFolder}", port = ${postgres.port} }]
[pools.app.users.app]
`
  await writeFile(file, text)

  const proxy = await startProxyFromFile(file)
  const client = new Client({ host: folder, port: proxy.port, user: 'app', database: 'app' })
  await client.connect()
  const { rows } = await client.query('SELECT 42 AS a')
  await client.end()
  const { mode } = await stat(join(folder, `.s.PGSQL.${proxy.port}`))
  await proxy.stop()

  expect(rows).toEqual([{ a: 42 }])
  expect(mode & 0o777).toBe(0o711)
  expect(existsSync(join(folder, `.s.PGSQL.${proxy.port}`))).toBe(false)
})
