import { expect, test } from 'vitest'
import {
  copyDone,
  execute,
  flush,
  functionCall,
  message,
  parse,
  query,
  startup,
  sync,
} from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import { errorFields, WireClient } from '../../support/wire.ts'
import { EngineInProcess, poolSpec } from './engine-in-process.ts'

const running = new EngineInProcess()
running.apply(1, [poolSpec({ port: 1 })])
const address = { host: '127.0.0.1', port: running.port }

function login(user = 'admin'): Promise<WireClient> {
  return WireClient.login(address, { user, database: 'pgbouncer' })
}

test('the greeting is PgBouncer’s', async () => {
  const client = await login()

  expect(Object.fromEntries(client.parameters)).toEqual({
    server_version: '1.25.2/bouncer',
    client_encoding: 'UTF8',
    server_encoding: 'UTF8',
    DateStyle: 'ISO',
    TimeZone: 'GMT',
    standard_conforming_strings: 'on',
    is_superuser: 'on',
  })
})

test('the database flotilla is the same console', async () => {
  const client = await WireClient.login(address, { user: 'admin', database: 'flotilla' })

  expect(await transcript(client, [{ send: [query('show timezone')], until: 'Z' }])).toEqual([
    'T timezone',
    'D 000100000003474d54',
    'C SHOW',
    'Z I',
  ])
})

test('an empty query is told from a command', async () => {
  const client = await login()

  expect(await transcript(client, [{ send: [query(' ; -- nothing\n;')], until: 'Z' }])).toEqual(['I', 'Z I'])
})

test('statements of one query are answered in order; the first error ends it', async () => {
  const client = await login()

  const lines = await transcript(client, [
    { send: [query('SHOW client_encoding; /* ! */ show DATESTYLE; NONSENSE; SHOW timezone')], until: 'Z' },
  ])

  expect(lines.map((line) => line.slice(0, 58))).toEqual([
    'T client_encoding',
    'D 00010000000455544638',
    'C SHOW',
    'T datestyle',
    'D 00010000000349534f',
    'C SHOW',
    `E ERROR 42601 invalid command 'NONSENSE', use SHOW HELP;`,
    'Z I',
  ])
})

test.for([
  [
    'SHOW POOLZ',
    `invalid command 'SHOW POOLZ', use SHOW HELP;`,
    'Did you mean SHOW POOLS? Use SHOW HELP to list the commands.',
  ],
  ['reloda', `invalid command 'reloda', use SHOW HELP;`, 'Did you mean RELOAD? Use SHOW HELP to list the commands.'],
  ['SELECT 1', `invalid command 'SELECT 1', use SHOW HELP;`, 'Use SHOW HELP to list the commands.'],
  [
    "SHOW 'POOLS'",
    `invalid command 'SHOW POOLS', use SHOW HELP;`,
    'Did you mean SHOW POOLS? Use SHOW HELP to list the commands.',
  ],
  ['SET', 'syntax error in SET', 'Use SET name = value.'],
] as const)('%j is refused with 42601 and a hint', async ([source, text, hint]) => {
  const client = await login()

  client.send(query(source))
  const [refusal] = await client.readUntil('Z')

  expect(errorFields(refusal!)).toMatchObject({ S: 'ERROR', C: '42601', M: text, H: hint })
})

test('a command of any length is shown cut in the refusal', async () => {
  const client = await login()

  client.send(query('x'.repeat(10_000)))
  const [refusal] = await client.readUntil('Z')

  expect(errorFields(refusal!)['M']).toBe(`invalid command '${'x'.repeat(60)}', use SHOW HELP;`)
})

test('SELECT reads like SHOW', async () => {
  const client = await login()

  const lines = await transcript(client, [{ send: [query('select Version')], until: 'Z' }])

  expect(lines[0]).toBe('T version')
})

test('the extended protocol is refused once, and everything up to Sync is passed over', async () => {
  const client = await login()

  const lines = await transcript(client, [
    { send: [parse('', 'SHOW POOLS'), flush, execute(''), query('SHOW timezone'), sync], until: 'Z' },
    { send: [sync, query('SHOW timezone')], until: 'Z', count: 2 },
  ])

  expect(lines).toEqual([
    'E ERROR 0A000 extended query protocol not supported by admin console',
    'Z I',
    'Z I',
    'T timezone',
    'D 000100000003474d54',
    'C SHOW',
    'Z I',
  ])
})

test('a function call is refused, and what belongs to COPY is passed over', async () => {
  const client = await login()

  const lines = await transcript(client, [{ send: [copyDone, functionCall(1598, [])], until: 'Z' }])

  expect(lines).toEqual(['E ERROR 0A000 function calls are not supported by the admin console', 'Z I'])
})

test.for([
  { what: 'a message type that does not exist', bytes: message('y'), text: 'invalid frontend message type 121' },
  { what: 'a startup packet', bytes: startup({ user: 'admin' }), text: 'invalid frontend message type 0' },
  { what: 'a message that is too long', bytes: query('x'.repeat(20_000)), text: 'invalid message length' },
  {
    what: 'a query without its NUL',
    bytes: message('Q', Buffer.from('SHOW POOLS')),
    text: 'invalid string in message',
  },
])('$what ends the session with 08P01', async ({ bytes, text }) => {
  const client = await login()

  client.send(bytes)
  const { messages } = await client.readToEnd()

  expect(messages.map(describe)).toEqual([`E FATAL 08P01 ${text}`])
})

test('SET of what drivers set is accepted, of what runs only from an admin', async () => {
  const client = await login('monitor')

  const lines = await transcript(client, [
    { send: [query("SET extra_float_digits = 3; SET SESSION client_encoding TO 'LATIN1'")], until: 'Z' },
    { send: [query('SET pool_size = 100')], until: 'Z' },
  ])

  expect(lines).toEqual([
    'N NOTICE 00000 SET ignored',
    'C SET',
    'N NOTICE 00000 SET ignored',
    'C SET',
    'Z I',
    'E ERROR 42501 admin access needed',
    'Z I',
  ])
  client.destroy()
  await running.until(() =>
    [...running.engine.context.clients].every((one) => !('right' in one) || one.right === 'admin'),
  )
})

test('a session’s application_name is shown, from its start and when it is set', async () => {
  const client = await WireClient.login(address, {
    user: 'monitor',
    database: 'pgbouncer',
    parameters: { application_name: 'exporter' },
  })
  const console = await running.console()
  const named = async (): Promise<unknown> => {
    const { rows } = await console.query<Record<string, unknown>>('SHOW CLIENTS')
    return rows.find((row) => row['user'] === 'monitor')?.['application_name']
  }

  const before = await named()
  client.send(query("SET application_name = 'it''s mine'"))
  await client.readUntil('Z')

  expect(before).toBe('exporter')
  expect(await named()).toBe("it's mine")
  client.destroy()
})

test('SHOW HELP is a notice that lists every command', async () => {
  const client = await login()

  client.send(query('SHOW HELP'))
  const [notice, ...rest] = await client.readUntil('Z')
  const fields = errorFields(notice!)

  expect(rest.map(describe)).toEqual(['C SHOW', 'Z I'])
  expect(fields).toMatchObject({ S: 'NOTICE', M: 'Console usage' })
  expect(fields['D']).toContain('SHOW POOL_VERSIONS')
  expect(fields['D']).toContain('RELOAD')
})

test('RELOAD waits for the agent, and later requests wait for RELOAD', async () => {
  const client = await login()
  const before = running.posted.length

  client.send(query('RELOAD'), query('SHOW timezone'))
  await running.until(() => running.posted.length > before)
  const order = running.posted.at(-1)
  const early = client.unread
  running.engine.receive({ type: 'reloaded', id: order?.type === 'reload' ? order.id : -1, error: null })

  expect(early).toBe(0)
  expect((await client.readUntil('Z', 2)).map(describe)).toEqual([
    'C RELOAD',
    'Z I',
    'T timezone',
    'D 000100000003474d54',
    'C SHOW',
    'Z I',
  ])
})

test('a RELOAD that failed is answered with F0000 and the agent’s words', async () => {
  const client = await login()
  const before = running.posted.length

  client.send(query('RELOAD;'))
  await running.until(() => running.posted.length > before)
  const order = running.posted.at(-1)
  const error = 'pools.app.servers[0].host: "db.invalid" cannot be resolved'
  running.engine.receive({ type: 'reloaded', id: order?.type === 'reload' ? order.id : -1, error })

  expect((await client.readUntil('Z')).map(describe)).toEqual([`E ERROR F0000 ${error}`, 'Z I'])
})

test('of a client that left during its RELOAD, nothing more is run', async () => {
  const client = await login()
  const before = running.posted.length
  client.send(query('RELOAD; RELOAD'))
  await running.until(() => running.posted.length > before)
  const order = running.posted.at(-1)
  const sessions = running.engine.context.clients.size

  client.destroy()
  await running.until(() => running.engine.context.clients.size < sessions)
  running.engine.receive({ type: 'reloaded', id: order?.type === 'reload' ? order.id : -1, error: null })

  expect(running.posted.slice(before)).toEqual([order])
})

test('who may only look is refused what changes something', async () => {
  const client = await login('monitor')
  const before = running.posted.length

  const lines = await transcript(client, [{ send: [query('RELOAD')], until: 'Z' }])

  expect(lines).toEqual(['E ERROR 42501 admin access needed', 'Z I'])
  expect(running.posted.length).toBe(before)
})

test('who is not a console user is refused as with a wrong password', async () => {
  const stranger = WireClient.login(address, { user: 'web', password: 'guess', database: 'pgbouncer' })

  await expect(stranger).rejects.toMatchObject({ sqlstate: '28P01' })
})

test.for([
  { what: 'long answers', command: 'SHOW DISCONNECTS', count: 1 },
  { what: 'short answers', command: 'SHOW CONFIG', count: 3000 },
])('a client that does not read gets no more than a few of its $what queued', async ({ command, count }) => {
  fillDisconnects()
  const one = await transcript(await login(), [{ send: [query(command)], until: 'Z' }])
  const rows = one.filter((line) => line.startsWith('D')).length
  const client = await login()
  const session = [...running.engine.context.clients].find(
    ({ socket }) => socket.remote.port === client.socket.localPort,
  )
  client.socket.pause()

  client.send(...Array.from({ length: count }, () => query(command)))
  await running.until(() => (session?.socket.queuedBytes ?? 0) > 0)
  // Each of these answers takes a turn of the loop or more.
  const step = { send: [query('SHOW timezone')], until: 'Z' }
  const other = await transcript(
    await login(),
    Array.from({ length: 50 }, () => step),
  )
  const queuedBytes = session?.socket.queuedBytes ?? 0
  client.socket.resume()
  const answers = await client.readUntil('Z', count)

  expect(other.at(-1)).toBe('Z I')
  expect(queuedBytes).toBeLessThan(100_000)
  expect(answers.filter(({ tag }) => tag === 'D')).toHaveLength(count * rows)
})

/** Far more than what the kernel takes for a client that does not read. */
function fillDisconnects(): void {
  for (let pid = 1; pid <= 1000; pid++) {
    running.operated.disconnects.add(0, {
      pool: 'app',
      user: 'web',
      host: 'db',
      port: 5432,
      role: 'primary',
      backend_pid: pid,
      cause: 'terminated',
      errno: null,
      sqlstate: '57P01',
      message: 'm'.repeat(16_000),
      state: 'idle',
      connection_age_ms: 1,
      idle_ms: 1,
      client_hurt: false,
      pool_hash: 'a'.repeat(64),
    })
  }
}

test('a stopping engine tells its console clients', async () => {
  const stopped = new EngineInProcess()
  stopped.apply(1, [])
  const client = await WireClient.login(
    { host: '127.0.0.1', port: stopped.port },
    { user: 'admin', database: 'pgbouncer' },
  )

  stopped.engine.receive({ type: 'stop', mode: 'drain', timeoutMs: 1000 })
  const { messages } = await client.readToEnd()

  expect(messages.map(describe)).toEqual(['E FATAL 57P01 the proxy is shutting down'])
})
