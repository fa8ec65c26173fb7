import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { beforeAll, describe as group, expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import {
  cancelRequest,
  cstring,
  gssEncRequest,
  int32,
  message,
  passwordMessage,
  query,
  sslRequest,
  startup,
  terminate,
} from '../../support/frontend-messages.ts'
import { transcript } from '../../support/oracle.ts'
import { lacks } from '../../support/postgres.ts'
import { errorFields, WireClient } from '../../support/wire.ts'
import type { Message } from '../../support/wire.ts'
import { compare, loginDirectly, loginTo, poolNames, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    sql: ['CREATE SCHEMA a', "ALTER ROLE app SET IntervalStyle = 'iso_8601'"],
    pools: (postgres) => ({
      app: {},
      latin: { users: { app: { server_user: 'latin' } } },
      umlaut: { users: { jürgen: {} } },
      unused: { servers: [{ host: '127.0.0.1', port: postgres.port }] },
    }),
  })
  await world.postgres.sql('CREATE ROLE latin LOGIN')
  await world.postgres.sql('CREATE ROLE "jürgen" LOGIN')
  await world.postgres.sql("ALTER ROLE latin SET client_encoding = 'LATIN1'")
})

const app = startup({ user: 'app', database: 'transaction5' })

test('1: SSLRequest is answered N and the plain startup goes on', async () => {
  const client = await WireClient.connect(world.engine)

  client.send(sslRequest)
  const answer = await client.readByte()
  client.send(app)
  const messages = await client.readUntil('Z')

  expect(answer).toBe('N')
  expect(messages[0]?.tag).toBe('R')
})

test('2: GSSENCRequest is answered N, and SSLRequest may follow', async () => {
  const client = await WireClient.connect(world.engine)

  client.send(gssEncRequest)
  const gss = await client.readByte()
  client.send(sslRequest)
  const ssl = await client.readByte()
  client.send(app)
  const messages = await client.readUntil('Z')

  expect(gss + ssl).toBe('NN')
  expect(messages.at(-1)?.tag).toBe('Z')
})

test.for([
  ['SSLRequest', sslRequest],
  ['GSSENCRequest', gssEncRequest],
] as const)('3: a second %s is refused', async ([, request]) => {
  const client = await WireClient.connect(world.engine)

  client.send(request)
  await client.readByte()
  client.send(request)
  const { messages } = await client.readToEnd()

  expect(sqlstates(messages)).toEqual(['08P01'])
})

/** Logs in with a startup packet of this version; gives what is negotiated and how long the cancel key is. */
async function negotiate(
  address: { host: string; port: number },
  version: number,
  database: string,
  options: Readonly<Record<string, string>> = {},
): Promise<{ negotiated: string | undefined; secretBytes: number | undefined }> {
  const client = await WireClient.connect(address)
  client.send(startup({ user: 'app', database, ...options }, version))
  const messages = await client.readUntil('Z')
  const secretBytes = client.key?.secret.length
  client.destroy()
  expect(messages.slice(1).map(({ tag }) => tag)).not.toContain('v')
  return { negotiated: messages[0]?.tag === 'v' ? messages[0].body.toString('hex') : undefined, secretBytes }
}

test.for([
  ['3.0', 0x00030000, {}],
  ['3.1', 0x00030001, {}],
  ['3.2', 0x00030002, {}],
  ['3.3', 0x00030003, {}],
  ['3.9999', 0x0003270f, {}],
  ['3.9999 with an option', 0x0003270f, { '_pq_.test_protocol_negotiation': '' }],
  ['3.2 with options', 0x00030002, { '_pq_.a': '1', '_pq_.b': '' }],
  ['3.0 with options', 0x00030000, { '_pq_.a': '1', '_pq_.b': '' }],
] as const)('7, 8, 9: protocol %s is negotiated as by PostgreSQL 18', async ([, version, options], { skip }) => {
  skip(lacks('protocol 3.2', 18))
  const wanted = await negotiate(world.postgres, version, 'app', options)

  const pooled = await negotiate(world.engine, version, 'transaction5', options)

  expect(pooled).toEqual(wanted)
})

test('7: protocol 3.9999 is negotiated down to 3.2, and the cancel key is long', async () => {
  expect(await negotiate(world.engine, 0x0003270f, 'transaction5')).toEqual({
    negotiated: '0003000200000000',
    secretBytes: 32,
  })
})

test('8: unknown protocol options are named in NegotiateProtocolVersion, and login goes on', async () => {
  const { negotiated, secretBytes } = await negotiate(world.engine, 0x00030000, 'transaction5', {
    '_pq_.a': '1',
    '_pq_.b': '',
  })

  const names = Buffer.concat([cstring('_pq_.a'), cstring('_pq_.b')]).toString('hex')
  expect(negotiated).toBe(`0003000000000002${names}`)
  expect(secretBytes).toBe(4)
})

test.for([0x00020000, 0x00040000, 0x7fff0000])('10: protocol version %i is refused with 0A000', async (version) => {
  const client = await WireClient.connect(world.engine)

  client.send(startup({ user: 'app', database: 'transaction5' }, version))
  const { messages } = await client.readToEnd()

  expect(sqlstates(messages)).toEqual(['0A000'])
  expect(errorFields(messages[0] as Message)['M']).toContain('unsupported frontend protocol')
})

group('11: a startup packet of impossible length', () => {
  test.for(['00 00 00 07', '00 00 00 00', '00 00 27 11', '7f ff ff ff', 'ff ff ff ff', '80 00 00 00', '47 45 54 20'])(
    '%s ends the connection at once',
    async (length) => {
      const client = await WireClient.connect(world.engine)
      const begun = performance.now()

      client.send(length, Buffer.alloc(100))
      const { messages } = await client.readToEnd()

      expect(messages).toEqual([])
      expect(performance.now() - begun).toBeLessThan(1000)
    },
  )

  test('costs no memory, 10,000 times over, though no client closes its side', async () => {
    const before = world.engine.rssBytes()
    let peak = before

    for (let round = 0; round < 20; round++) {
      const sockets = await Promise.all(Array.from({ length: 500 }, () => halfOpen()))
      for (const socket of sockets) socket.write(Buffer.from('7fffffff00030000', 'hex'))
      await Promise.all(sockets.map((socket) => once(socket, 'end')))
      peak = Math.max(peak, world.engine.rssBytes())
      for (const socket of sockets) socket.destroy()
    }

    expect(peak - before).toBeLessThan(24 * 1024 * 1024)
    expect((await world.engine.snapshot()).clientsLogin).toBe(0)
  })
})

test('12: a startup packet byte by byte is read whole', async () => {
  const client = await WireClient.connect(world.engine)

  for (const byte of app) {
    client.send(Buffer.from([byte]))
    await world.engine.snapshot() // the engine's loop has turned
  }
  const messages = await client.readUntil('Z')

  expect(messages.at(-1)?.tag).toBe('Z')
})

test('13: a startup packet without user is refused with 28000', async () => {
  const client = await WireClient.connect(world.engine)

  client.send(startup({ database: 'transaction5' }))
  const { messages } = await client.readToEnd()

  expect(sqlstates(messages)).toEqual(['28000'])
})

test('13: without database it is the user’s', async () => {
  const client = await WireClient.connect(world.engine)

  client.send(startup({ user: 'app' }))
  const messages = await client.readUntil('Z')

  expect(messages.at(-1)?.tag).toBe('Z')
})

test('13: an unknown database is refused with 3D000', async () => {
  await expect(loginTo(world, 'nothing')).rejects.toMatchObject({ sqlstate: '3D000' })
})

const shown =
  'application_name client_encoding DateStyle extra_float_digits IntervalStyle search_path statement_timeout TimeZone ' +
  'work_mem standard_conforming_strings my.own'
// A parameter of one's own that was never set is NULL, and after a RESET of any session empty.
const showAll = query(
  `SELECT name, coalesce(current_setting(name, true), '') FROM string_to_table('${shown}', ' ') AS t(name)`,
)

test.for<[string, Record<string, string>]>([
  ['nothing', {}],
  ['options with -c', { options: '-c search_path=a -c statement_timeout=5s' }],
  ['options with -cname and --name', { options: '-csearch_path=a,public --work-mem=1MB  --statement_timeout=7' }],
  ['options with escaped blanks and backslashes', { options: '-c search_path=a,\\ public -c my.own=a\\\\b\\ \\ c' }],
  ['9 KB of options', { options: `-c my.own=${'x'.repeat(9000)}` }],
  ['an encoding', { client_encoding: 'latin1' }],
  ['a time zone and a date style', { TimeZone: 'Asia/Tokyo', DateStyle: 'German' }],
  ['an application name with quotes', { application_name: `a'b"c\\d;DROP TABLE x; --$1` }],
  ['an application name of 256 bytes', { application_name: 'n'.repeat(256) }],
  ['an application name that is not ASCII', { application_name: 'Größe 日本' }],
  [
    'what JDBC sends',
    { extra_float_digits: '2', client_encoding: 'UTF8', DateStyle: 'ISO', TimeZone: 'Europe/Berlin' },
  ],
  ['a search path', { search_path: 'a' }],
  ['an own parameter', { 'my.own': "it's" }],
  ['an empty application name', { application_name: '' }],
  ['replication that is off', { replication: 'false' }],
])('14: a client that gives %s has the settings of a direct one', async ([, parameters]) => {
  const answers = await compare(world, [{ send: [showAll], until: 'Z' }], { login: { parameters } })

  expect(answers).toContain('C SELECT 11')
})

test.for(poolNames)('14: %s greets with the parameters of PostgreSQL', async (pool) => {
  const direct = await loginDirectly(world)

  const client = await loginTo(world, pool)

  expect(Object.fromEntries(client.parameters)).toEqual(Object.fromEntries(direct.parameters))
})

test.for(poolNames)('14: the greeting of %s tells what the client asked for', async (pool) => {
  const parameters = { application_name: 'x', TimeZone: 'Asia/Tokyo', client_encoding: 'LATIN1', DateStyle: 'German' }
  const direct = await loginDirectly(world, { parameters })

  const client = await loginTo(world, pool, { parameters })

  expect(Object.fromEntries(client.parameters)).toEqual(Object.fromEntries(direct.parameters))
})

test('14: an encoding that the role has by default is the client’s too', async () => {
  const direct = await loginDirectly(world, { user: 'latin' })
  const pooled = await loginTo(world, 'latin')

  expect(pooled.parameters.get('client_encoding')).toBe(direct.parameters.get('client_encoding'))
  expect(await transcript(pooled, [{ send: [query('SHOW client_encoding')], until: 'Z' }])).toEqual(
    await transcript(direct, [{ send: [query('SHOW client_encoding')], until: 'Z' }]),
  )
})

test('15: an unknown parameter is refused with the error of PostgreSQL', async () => {
  const refusals = await Promise.all(
    [loginDirectly, ...poolNames.map((pool) => (w: World, o: object) => loginTo(w, pool, o))].map((login) =>
      login(world, { parameters: { no_such_thing: '1' } }).then(String, String),
    ),
  )

  expect(refusals[0]).toContain('42704')
  expect(new Set(refusals).size).toBe(1)
})

test.for(poolNames)(
  '15: a bad value is refused with the error of PostgreSQL, and harms no other client: %s',
  async (pool) => {
    const parameters = { TimeZone: 'Mars/Olympus' }
    const direct = await loginDirectly(world, { parameters }).then(String, String)

    const refusal = await loginTo(world, pool, { parameters }).then(String, String)
    const other = await loginTo(world, pool)
    const answers = await transcript(other, [{ send: [query('SHOW TimeZone')], until: 'Z' }])
    other.destroy()

    expect(refusal).toBe(direct)
    expect(answers[1]).toMatch(/^D 0001/)
  },
)

test.for([
  ['a list that is none', '-c search_path=a\\ b,c'],
  ['a value that does not exist', '-c IntervalStyle=short'],
  ['a unit that does not exist', '-c work_mem=1XB'],
])('15: what PostgreSQL adds to its error about %s is told too', async ([, options]) => {
  const refusal = async (server: { host: string; port: number }, database: string): Promise<unknown> => {
    const client = await WireClient.connect(server)
    client.send(startup({ user: 'app', database, options: options as string }))
    const {
      F: _file,
      L: _line,
      R: _routine,
      ...fields
    } = errorFields((await client.readToEnd()).messages.at(-1) as Message)
    // PostgreSQL 14 gives the parameter's name as it was spelled, and the proxy asks for it in small letters.
    return { ...fields, M: fields.M?.toLowerCase() }
  }

  const direct = await refusal(world.postgres, 'app')

  expect(await refusal(world.engine, 'transaction1')).toEqual(direct)
  expect(Object.keys(direct as object)).toEqual(expect.arrayContaining([expect.stringMatching(/^[DH]$/)]))
})

test.for(['-x', '-c', '-c search_path', '--search_path', 'search_path=a'])(
  '14: options that cannot be understood are refused, as PostgreSQL does it: %s',
  async (options) => {
    const sqlstate = (login: Promise<WireClient>) =>
      login.then(
        () => 'let in',
        (error: { sqlstate: string }) => error.sqlstate,
      )
    const direct = await sqlstate(loginDirectly(world, { parameters: { options } }))

    const pooled = await sqlstate(loginTo(world, 'transaction1', { parameters: { options } }))

    expect(pooled).toBe(direct)
  },
)

test('16: a startup packet of 10,000 bytes is taken, one of 10,001 is not', async () => {
  const bytes = (length: number) => {
    const empty = startup({ user: 'app', database: 'transaction5', 'my.own': '' }).length
    return startup({ user: 'app', database: 'transaction5', 'my.own': 'x'.repeat(length - empty) })
  }
  const client = await WireClient.connect(world.engine)
  const refused = await WireClient.connect(world.engine)

  client.send(bytes(10_000))
  refused.send(bytes(10_001))

  expect((await client.readUntil('Z')).at(-1)?.tag).toBe('Z')
  expect((await refused.readToEnd()).messages).toEqual([])
})

test('17: a thousand probes that connect and close leave no trace', async () => {
  const before = await world.engine.snapshot()
  const lines = world.engine.log.length

  for (let round = 0; round < 10; round++) {
    const sockets = await Promise.all(Array.from({ length: 100 }, () => halfOpen()))
    for (const socket of sockets) socket.destroy()
  }
  await until(async () => (await world.engine.snapshot()).clientsLogin === 0)

  const after = await world.engine.snapshot()
  expect(after.clients).toBe(before.clients)
  expect(after.refused).toEqual(before.refused)
  expect(world.engine.log.length).toBe(lines)
})

test.for([
  ['Terminate, as node-postgres sends it when it is ended before it has connected', terminate],
  ['a query', query('SELECT 1')],
  ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ['a cancel request without a secret', cancelRequest(1, Buffer.alloc(0))],
] as const)(
  '%s before the startup packet ends the connection without an answer, as PostgreSQL does',
  async ([, bytes]) => {
    const [direct, pooled] = [await WireClient.connect(world.postgres), await WireClient.connect(world.engine)]
    for (const client of [direct, pooled]) client.send(bytes)

    const answers = [(await direct.readToEnd()).messages, (await pooled.readToEnd()).messages]

    expect(answers).toEqual([[], []])
  },
)

test('a startup packet whose text is not ended is refused', async () => {
  const client = await WireClient.connect(world.engine)

  client.send(Buffer.concat([int32(16), int32(0x00030000), Buffer.from('userabcd')]))
  const { messages } = await client.readToEnd()

  expect(sqlstates(messages)).toEqual(['08P01'])
})

const afterLogin: readonly (readonly [string, Uint8Array])[] = [
  ['a startup packet', app],
  ['SSLRequest', sslRequest],
  ['GSSENCRequest', gssEncRequest],
  ['a message of an unknown type', message('y')],
  ['a message of an unknown type with an impossible length', Buffer.from('7900000000', 'hex')],
  ['a password', passwordMessage(cstring('secret'))],
  ['one byte of an unknown type', Buffer.from('y')],
]

test.for(afterLogin)('%s after the login is answered at once, as by PostgreSQL', async ([, bytes]) => {
  const answers = await compare(world, [{ send: [bytes], until: 'E' }])

  expect(answers).toEqual([expect.stringMatching(/^E FATAL 08P01 invalid frontend message type \d+$/)])
})

test.for(afterLogin)('%s in a transaction is answered at once, as by PostgreSQL', async ([, bytes]) => {
  const answers = await compare(world, [
    { send: [query('BEGIN')], until: 'Z' },
    { send: [bytes], until: 'E' },
  ])

  expect(answers).toHaveLength(3)
})

async function halfOpen(): Promise<Socket> {
  const socket = connect({ host: world.engine.host, port: world.engine.port, allowHalfOpen: true })
  socket.on('error', () => undefined)
  socket.resume()
  await once(socket, 'connect')
  return socket
}

function sqlstates(messages: readonly Message[]): (string | undefined)[] {
  return messages.filter(({ tag }) => tag === 'E').map((message) => errorFields(message)['C'])
}

test('28: a user’s name is UTF-8, whatever encoding the client asks for; other bytes are refused', async () => {
  const asked = { user: 'jürgen', parameters: { client_encoding: 'LATIN1' } }
  const steps = [{ send: [query('SELECT current_user, octet_length(current_user)')], until: 'Z' }]
  const direct = await loginDirectly(world, asked)
  const pooled = await loginTo(world, 'umlaut', asked)
  const inLatin1 = Buffer.from(
    startup({ user: 'j\u0001rgen', database: 'umlaut' }).map((byte) => (byte === 1 ? 0xfc : byte)),
  )
  const stranger = await WireClient.connect(world.engine)
  stranger.send(inLatin1)
  const { messages } = await stranger.readToEnd()

  const answers = await transcript(pooled, steps)

  expect(answers).toEqual(await transcript(direct, steps))
  expect(messages.map(({ tag }) => tag)).toEqual(['E'])
  expect(errorFields(messages[0] as Message)['C']).toBe('08P01')
  for (const client of [direct, pooled]) client.destroy()
})
