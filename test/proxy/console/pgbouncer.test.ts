/** Side by side with the PgBouncer of this machine: what it answers, we answer, newer columns and rows aside. */
import { spawn } from 'node:child_process'
import { chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { postgresUser } from '../../../cli/start/embedded-postgres.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import { bind, execute, parse, query, sync } from '../../support/frontend-messages.ts'
import { freePort } from '../../support/free-port.ts'
import { startPostgres } from '../../support/postgres.ts'
import { hasProgram } from '../../support/program.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { errorFields, LoginRefused, WireClient } from '../../support/wire.ts'
import type { Message } from '../../support/wire.ts'
import { EngineInProcess, poolSpec } from './engine-in-process.ts'

const program = '/usr/sbin/pgbouncer'

const int4 = 23
const int8 = 20

/** Of SHOW MEM, which 1.18 shows as int4. */
const widened = new Set(['used', 'free', 'memtotal'])

/** Columns of 1.18 that 1.25 calls otherwise. */
const renamed: Readonly<Record<string, string>> = { reserve_pool: 'reserve_pool_size' }

const shows =
  'ACTIVE_SOCKETS CLIENTS CONFIG DATABASES DNS_HOSTS DNS_ZONES LISTS MEM POOLS SERVERS SOCKETS STATS STATS_AVERAGES STATS_TOTALS TOTALS USERS VERSION'.split(
    ' ',
  )

/** One after the other; each is answered with an error or a tag by both. */
const statements = `
PAUSE nowhere | RESUME app | RESUME | RESUME nowhere | DISABLE | ENABLE | DISABLE nowhere | ENABLE nowhere
KILL nowhere | RECONNECT nowhere | WAIT_CLOSE nowhere | PAUSE pgbouncer | RECONNECT app blog | SHUTDOWN LATER
SHOW NOPE | NOPE | RELOAD nowhere | SUSPEND now | SELECT 1 | PAUSE app | RESUME app | DISABLE app | ENABLE app
RECONNECT app | WAIT_CLOSE app | KILL app | RESUME app | PAUSE | PAUSE | RESUME | SUSPEND | RESUME | SHOW HELP
pause  app ; | resume "app"`
  .split(/[|\n]/)
  .map((statement) => statement.trim())
  .filter((statement) => statement !== '')

describe.skipIf(!hasProgram(program))('beside PgBouncer', () => {
  const running = new EngineInProcess()
  let theirs: WireClient
  let ours: WireClient

  beforeAll(async () => {
    running.apply(1, [poolSpec({ port: 1 })])
    const port = await startPgbouncer()
    theirs = await WireClient.login({ host: '127.0.0.1', port }, { user: 'admin', database: 'pgbouncer' })
    ours = await WireClient.login({ host: '127.0.0.1', port: running.port }, { user: 'admin', database: 'pgbouncer' })
  })

  test.for(shows)('SHOW %s has its columns, with their types and in their order', async (what) => {
    const wanted = (await columns(theirs, what)).map(([name, type]) => [
      renamed[name] ?? name,
      widened.has(name) && type === int4 ? int8 : type,
    ])
    const present = await columns(ours, what)

    const names = new Set(wanted.map(([name]) => name))
    expect(wanted.length).toBeGreaterThan(0)
    expect(present.filter(([name]) => names.has(name))).toEqual(wanted)
  })

  test('statements are answered with the same tags and the same errors, in the same words', async () => {
    for (const client of [theirs, ours]) await answer(client, 'RESUME')
    for (const statement of statements) {
      expect([statement, await answer(ours, statement)]).toEqual([statement, await answer(theirs, statement)])
    }
  })

  test('who comes when max_client_conn is reached is told so in the same words', async () => {
    const refusal = async ({ socket }: WireClient): Promise<string> => {
      const port = socket.remotePort as number
      const login = WireClient.login({ host: '127.0.0.1', port }, { user: 'web', database: 'app' })
      return await login.then(
        () => 'let in',
        (error: unknown) =>
          error instanceof LoginRefused ? error.message.slice(error.sqlstate.length) : String(error),
      )
    }

    for (const client of [theirs, ours]) await answer(client, 'SET max_client_conn = 1')
    const [wanted, refused] = [await refusal(theirs), await refusal(ours)]
    for (const client of [theirs, ours]) await answer(client, 'SET max_client_conn = 100')

    expect(wanted).toContain('max_client_conn')
    expect(refused).toBe(wanted)
  })
})

describe.skipIf(!hasProgram(program))('beside PgBouncer, before one PostgreSQL', () => {
  test('bytes, transactions and logins are counted alike in SHOW STATS', async () => {
    const postgres = await startPostgres({ sql: ['CREATE ROLE app_rw LOGIN'] })
    const running = new EngineInProcess()
    running.apply(1, [poolSpec({ port: postgres.port, serverUser: 'app_rw' })])
    const database = `host=127.0.0.1 port=${postgres.port} dbname=postgres user=app_rw pool_mode=transaction`
    const ports = [await startPgbouncer(database), running.port]

    const [theirs, ours] = await Promise.all(ports.map(statisticsOfSession))

    expect(theirs?.['total_received']).toBeGreaterThan(0)
    expect(theirs?.['total_sent']).toBeGreaterThan(theirs?.['total_received'] ?? 0)
    expect(ours).toEqual(theirs)
  })
})

/** What SHOW STATS has of the database after a first client has asked for long answers and prepared nothing. */
async function statisticsOfSession(port: number): Promise<Record<string, number>> {
  const address = { host: '127.0.0.1', port }
  const client = await WireClient.login(address, { user: 'web', database: 'app' })
  for (const sql of ['BEGIN', "SELECT repeat('x', 5000)", 'COMMIT', 'SELECT 1']) {
    client.send(query(sql))
    await client.readUntil('Z')
  }
  client.send(parse('', 'SELECT 1'), bind('', ''), execute(''), sync)
  await client.readUntil('Z')
  const console = await WireClient.login(address, { user: 'admin', database: 'pgbouncer' })
  console.send(query('SHOW STATS'))
  const messages = await console.readUntil('Z')
  const names = columnsOf(messages).map(([name]) => name)
  const row =
    messages
      .filter(({ tag }) => tag === 'D')
      .map(valuesOf)
      .find(([name]) => name === 'app') ?? []
  const wanted = ['total_xact_count', 'total_received', 'total_sent']
  return Object.fromEntries(wanted.map((name) => [name, Number(row[names.indexOf(name)])]))
}

/** The values of a DataRow as text. */
function valuesOf({ body }: Message): string[] {
  const values: string[] = []
  for (let at = 2; at < body.length;) {
    const length = body.readInt32BE(at)
    values.push(body.toString('utf8', at + 4, at + 4 + length))
    at += 4 + length
  }
  return values
}

async function startPgbouncer(database = 'host=127.0.0.1 port=1'): Promise<number> {
  const port = await freePort()
  const folder = await tempFolder()
  const { uid, gid } = postgresUser()
  if (uid !== undefined && gid !== undefined) await chown(folder, uid, gid)
  const file = join(folder, 'pgbouncer.ini')
  const settings = [
    '[databases]',
    `app = ${database}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = any',
    'admin_users = admin',
  ]
  await writeFile(file, settings.join('\n'))
  const child = spawn(program, [file], {
    stdio: 'ignore',
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  })
  atEndOfFile(() => void child.kill())
  await until(async () => {
    const client = await WireClient.connect({ host: '127.0.0.1', port }).catch(() => null)
    client?.destroy()
    return client !== null
  })
  return port
}

async function columns(client: WireClient, what: string): Promise<[name: string, type: number][]> {
  client.send(query(`SHOW ${what}`))
  return columnsOf(await client.readUntil('Z'))
}

function columnsOf(messages: readonly Message[]): [name: string, type: number][] {
  const body = messages.find(({ tag }) => tag === 'T')?.body ?? Buffer.alloc(0)
  const found: [string, number][] = []
  for (let at = 2; at < body.length;) {
    const end = body.indexOf(0, at)
    found.push([body.toString('utf8', at, end), body.readUInt32BE(end + 7)])
    at = end + 19
  }
  return found
}

/** The tag of CommandComplete, or severity and text of an error. */
async function answer(client: WireClient, statement: string): Promise<string> {
  client.send(query(statement))
  for (const message of await client.readUntil('Z')) {
    if (message.tag === 'C') return message.body.toString('utf8', 0, message.body.length - 1)
    if (message.tag !== 'E') continue
    const { S, M } = errorFields(message)
    return `${S}: ${M}`
  }
  return 'nothing'
}
