import { hash } from 'node:crypto'
import { beforeAll, describe as group, expect, test } from 'vitest'
import { startEngine } from '../../support/engine.ts'
import type { Engine } from '../../support/engine.ts'
import { int32, query } from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { hasProgram, runProgram } from '../../support/program.ts'
import { errorFields, WireClient } from '../../support/wire.ts'
import { verifierText } from '../../proxy/engine/auth/verifier.ts'

const serverMethods = ['trust', 'password', 'md5', 'scram-sha-256'] as const
const clientMethods = ['trust', 'plain', 'md5', 'scram-sha-256'] as const

const longPassword = 'token-'.repeat(350) // 2,100 bytes, like the tokens of cloud providers

/** SASLprep (RFC 4013) turns each into something else than its bytes, or leaves it as it is because it must not. */
const peculiarPasswords = {
  composed: 'pa\u00dfw\u00f6rd-\u00e9',
  decomposed: 'e\u0301',
  'with a no-break space': 'a\u00a0b',
  'with a soft hyphen': 'a\u00adb',
  'with a ligature': '\ufb01sh',
  'of a control character, which SASLprep forbids': 'a\u0007b',
  'with quotes and commas': `=,"'\\,n=`,
}

/** RFC 7677 section 3: user "user", password "pencil". */
const verifier =
  'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU='

let servers: Record<(typeof serverMethods)[number], Postgres>
let engine: Engine

beforeAll(async () => {
  const started = await Promise.all(
    serverMethods.map(async (auth) => {
      const postgres = await startPostgres({
        auth,
        settings: { max_connections: 30 },
        sql: [
          "CREATE ROLE app LOGIN PASSWORD 'secret'",
          'CREATE DATABASE app OWNER app',
          ...(auth === 'scram-sha-256' ? scramRoles : []),
          `CREATE ROLE token LOGIN PASSWORD '${auth === 'password' ? longPassword : 'x'}'`,
        ],
      })
      return [auth, postgres] as const
    }),
  )
  servers = Object.fromEntries(started) as typeof servers
  engine = await startEngine({
    general: { client_plain_allowed: 'on', login_backoff_after: 0 },
    defaults: { pool_size: 2 },
    pools: { ...matrix(), ...peculiar(), ...further() },
  })
})

/** What users of the pool "verifiers" are known by: numbers of iterations. */
const iterationCounts = [1, 4096, 100_000]

const scramRoles = [
  ...Object.values(peculiarPasswords).map(
    (password, i) => `CREATE ROLE peculiar${i} LOGIN PASSWORD E'${escaped(password)}'`,
  ),
  "CREATE ROLE n\u00e9 LOGIN PASSWORD 'secret'",
  `CREATE ROLE once LOGIN PASSWORD '${verifierText('secret', 1)}'`,
  `CREATE ROLE often LOGIN PASSWORD '${verifierText('secret', 100_000)}'`,
]

function escaped(password: string): string {
  return password.replaceAll('\\', '\\\\').replaceAll("'", "\\'")
}

/** A pool for each pair of methods: "md5-to-trust". */
function matrix(): Record<string, unknown> {
  return Object.fromEntries(
    clientMethods.flatMap((client) =>
      serverMethods.map((server) => [
        `${client}-to-${server}`,
        {
          auth_type: client,
          database: 'app',
          servers: [address(server)],
          users: { app: { password: 'secret' } },
        },
      ]),
    ),
  )
}

function peculiar(): Record<string, unknown> {
  const users = Object.values(peculiarPasswords).map((password, i) => [`peculiar${i}`, { password }])
  return { peculiar: { database: 'app', servers: [address('scram-sha-256')], users: Object.fromEntries(users) } }
}

function further(): Record<string, unknown> {
  return {
    iterations: {
      database: 'app',
      servers: [address('scram-sha-256')],
      users: { once: { password: 'secret' }, often: { password: 'secret' } },
    },
    verifier: {
      database: 'app',
      servers: [address('scram-sha-256')],
      users: { user: { password: verifier, server_user: 'app', server_password: 'secret' } },
    },
    'md5-hash': {
      database: 'app',
      auth_type: 'md5',
      servers: [address('md5')],
      server_password: 'secret',
      users: {
        app: { password: `md5${hash('md5', 'secretapp', 'hex')}` },
        user: { password: verifier, server_user: 'app' },
      },
    },
    token: { database: 'app', servers: [address('password')], users: { token: { password: longPassword } } },
    'plain-token': {
      database: 'app',
      auth_type: 'plain',
      servers: [address('password')],
      users: { token: { password: longPassword } },
    },
    verifiers: {
      database: 'app',
      servers: [address('scram-sha-256')],
      server_user: 'app',
      server_password: 'secret',
      users: Object.fromEntries(
        ['scram-sha-256', 'plain'].flatMap((auth_type) =>
          iterationCounts.map((count) => [
            `${auth_type} ${count}`,
            { auth_type, password: verifierText(peculiarPasswords.composed, count) },
          ]),
        ),
      ),
    },
    derived: {
      auth_type: 'plain',
      servers: [address('trust')],
      users: { app: { password: verifierText('secret', 50_000), server_password: '' } },
    },
    'n\u00e9': {
      database: 'app',
      servers: [address('scram-sha-256')],
      users: { 'n\u00e9': { password: 'secret' } },
    },
    'wrong-password': {
      database: 'app',
      servers: [address('scram-sha-256')],
      users: { app: { password: 'secret', server_password: 'guess' } },
    },
    'no-password': {
      database: 'app',
      servers: [address('scram-sha-256')],
      users: { app: { password: 'secret', server_password: '' } },
    },
  }
}

function address(method: (typeof serverMethods)[number]): { host: string; port: number } {
  return { host: '127.0.0.1', port: servers[method].port }
}

test.for(clientMethods.flatMap((client) => serverMethods.map((server) => [client, server] as const)))(
  '22: a client that logs in by %s is served by a server that asks for %s',
  async ([client, server]) => {
    const database = `${client}-to-${server}`
    const right = await WireClient.login(engine, { user: 'app', password: 'secret', database })
    right.send(query('SELECT current_user'))
    const answers = await right.readUntil('Z')
    const wrong = await WireClient.login(engine, { user: 'app', password: 'guess', database }).then(
      () => 'let in',
      (error: { sqlstate: string }) => error.sqlstate,
    )

    expect(answers.map(({ tag }) => tag).join('')).toBe('TDCZ')
    expect(wrong).toBe(client === 'trust' ? 'let in' : '28P01')
  },
)

group('18: a client that guesses', () => {
  test.for(['plain', 'md5', 'scram-sha-256'] as const)(
    'cannot tell an unknown user from a wrong password with %s',
    async (method) => {
      const database = `${method}-to-trust`
      const known = await refusal({ user: 'app', password: 'guess', database })
      const unknown = await refusal({ user: 'stranger', password: 'guess', database })

      expect(unknown.map((line) => line.replace('stranger', 'app'))).toEqual(known)
    },
  )

  test.for(['app', 'stranger'])('cannot tell whether a database exists, as %s', async (user) => {
    const existing = await Promise.all(
      ['plain', 'md5', 'scram-sha-256'].map((method) =>
        refusal({ user, password: 'guess', database: `${method}-to-trust` }),
      ),
    )

    const missing = await refusal({ user, password: 'guess', database: 'nowhere' })

    expect(existing).toContainEqual(missing)
  })

  test('gets the same salt for an unknown user each time', async () => {
    const [first, second, other] = await Promise.all(
      ['stranger', 'stranger', 'another'].map((user) => salt({ user, database: 'scram-sha-256-to-trust' })),
    )

    expect(first).toBe(second)
    expect(first).not.toBe(other)
  })

  test.for([
    ['SCRAM', 'scram-sha-256-to-trust'],
    ['a password in clear that has to be derived', 'derived'],
  ])('waits as long for an unknown user as for a wrong password, by %s', async ([, database = '']) => {
    const times = { app: [] as number[], stranger: [] as number[] }
    for (let i = 0; i < 20; i++) {
      for (const user of ['app', 'stranger'] as const) {
        const begun = performance.now()
        await refusal({ user, password: 'guess', database })
        times[user].push(performance.now() - begun)
      }
    }

    expect(median(times.stranger) / median(times.app)).toBeGreaterThan(0.5)
    expect(median(times.stranger) / median(times.app)).toBeLessThan(2)
  })
})

test
  .skipIf(!hasProgram('psql'))
  .for(Object.entries(peculiarPasswords).map(([name, password], i) => [name, password, `peculiar${i}`] as const))(
  '19: a password %s opens client and server',
  async ([, password, user]) => {
    const url = `postgresql://${user}@127.0.0.1:${engine.port}/peculiar`
    const { stdout } = await runProgram('psql', [url, '-Atc', 'SELECT current_user'], { PGPASSWORD: password })

    expect(stdout).toBe(`${user}\n`)
  },
)

test.for(['once', 'often'])('19: a server may ask for any number of iterations: %s', async (user) => {
  const client = await WireClient.login(engine, { user, password: 'secret', database: 'iterations' })

  client.send(query('SELECT 1'))

  expect((await client.readUntil('Z')).map(({ tag }) => tag).join('')).toBe('TDCZ')
})

test.for(['scram-sha-256', 'plain'].flatMap((type) => iterationCounts.map((count) => `${type} ${count}`)))(
  '19: a verifier of any number of iterations knows its password, which is not ASCII: %s',
  async (user) => {
    const client = await WireClient.login(engine, { user, password: peculiarPasswords.composed, database: 'verifiers' })
    const refused = WireClient.login(engine, { user, password: peculiarPasswords.decomposed, database: 'verifiers' })

    await expect(refused).rejects.toMatchObject({ sqlstate: '28P01' })
    client.send(query('SELECT 1'))
    expect((await client.readUntil('Z')).map(({ tag }) => tag).join('')).toBe('TDCZ')
  },
)

test.for(['plain', 'md5', 'scram-sha-256'])('19: an empty password is rejected: %s', async (method) => {
  for (const user of ['app', 'stranger']) {
    const refused = WireClient.login(engine, { user, password: '', database: `${method}-to-trust` })

    await expect(refused).rejects.toMatchObject({ sqlstate: '28P01' })
  }
})

group('28: a user whose name is not ASCII', () => {
  const login = { user: 'n\u00e9', password: 'secret', parameters: { client_encoding: 'LATIN1' } }
  const steps = [{ send: [query('SELECT current_user, session_user')], until: 'Z' }]

  test('is served as without a proxy, in another encoding', async () => {
    const direct = await WireClient.login(servers['scram-sha-256'], { ...login, database: 'app' })
    const proxied = await WireClient.login(engine, login)
    const wanted = await transcript(direct, steps)

    expect(wanted.join('\n')).toContain(Buffer.from('n\u00e9', 'latin1').toString('hex'))
    expect(await transcript(proxied, steps)).toEqual(wanted)
  })

  test('is refused as without a proxy when the name itself comes in that encoding', async () => {
    const packet = Buffer.from(`user\0n\u00e9\0database\0app\0client_encoding\0LATIN1\0\0`, 'latin1')
    const head = Buffer.concat([int32(packet.length + 8), int32(196_608)])

    for (const place of [servers.trust, engine]) {
      const client = await WireClient.connect(place)
      client.send(head, packet)
      const { messages } = await client.readToEnd()

      expect(messages.map((message) => errorFields(message)['S']).at(-1)).toBe('FATAL')
    }
  })
})

test.for([
  ['a SCRAM verifier', 'verifier', 'user', 'pencil'],
  ['a SCRAM verifier where md5 is configured', 'md5-hash', 'user', 'pencil'],
  ['an md5 hash', 'md5-hash', 'app', 'secret'],
] as const)('%s is enough to know a client by', async ([, database, user, password]) => {
  const client = await WireClient.login(engine, { user, password, database })
  const refused = WireClient.login(engine, { user, password: 'pen', database })

  await expect(refused).rejects.toMatchObject({ sqlstate: '28P01' })
  client.send(query('SELECT 1'))
  expect((await client.readUntil('Z')).map(({ tag }) => tag).join('')).toBe('TDCZ')
})

test.for(['token', 'plain-token'])('27: a password of 2,100 bytes opens client and server: %s', async (database) => {
  const client = await WireClient.login(engine, { user: 'token', password: longPassword, database })

  client.send(query('SELECT 1'))

  expect((await client.readUntil('Z')).map(({ tag }) => tag).join('')).toBe('TDCZ')
})

test.for(['wrong-password', 'no-password'])(
  'a server that refuses the login tells its clients so: %s',
  async (database) => {
    const refused = await WireClient.login(engine, { user: 'app', password: 'secret', database }).then(
      () => 'let in',
      (error: { sqlstate: string }) => error.sqlstate,
    )
    const lost = await engine.lostUntil(({ pool }) => pool === database)

    expect(refused).toBe('28P01')
    expect(lost).toMatchObject({ cause: 'auth_failed', sqlstate: '28P01', state: 'login' })
    expect(JSON.stringify(lost)).not.toContain('guess')
  },
)

type Login = { user: string; password: string; database: string }

/** All messages of a login that fails; the data of the challenge, which is random, left out. */
async function refusal({ user, password, database }: Login): Promise<string[]> {
  const client = await WireClient.connect(engine)
  const messages: string[] = []
  const read = client.read.bind(client)
  client.read = async () => {
    const message = await read()
    messages.push(
      describe(message)
        .replace(/^R 00000005.*/, 'R 00000005')
        .replace(/^R 0000000b.*/, 'R 0000000b'),
    )
    return message
  }
  await client.login({ user, password, database }).catch(() => undefined)
  client.destroy()
  return messages
}

/** The salt of the challenge. */
async function salt({ user, database }: Omit<Login, 'password'>): Promise<string> {
  let found = ''
  const client = await WireClient.connect(engine)
  const read = client.read.bind(client)
  client.read = async () => {
    const message = await read()
    found ||= /,s=([^,]+),/.exec(message.body.toString())?.[1] ?? ''
    return message
  }
  await client.login({ user, password: 'guess', database }).catch(() => undefined)
  client.destroy()
  return found
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}
