import net from 'node:net'
import { once } from 'node:events'
import { beforeAll, describe, expect, test } from 'vitest'
import { LoginRefused, serverLogin } from '../../../../proxy/engine/auth/server-login.ts'
import type { Credentials, ServerLogin } from '../../../../proxy/engine/auth/server-login.ts'
import { startPostgres } from '../../../support/postgres.ts'
import type { Postgres } from '../../../support/postgres.ts'
import { serverFirst } from '../../../../proxy/engine/auth/scram.ts'
import { Dialogue, int32, message } from './exchange.ts'
import { verifierOf } from './verifier.ts'

const password = 'pénçil, "quoted" \\ and blank '

function credentials(changes: Partial<Credentials> = {}): Credentials {
  return { user: 'app', database: 'postgres', password, saltedKeys: new Map(), ...changes }
}

function begin(changes: Partial<Credentials> = {}): Dialogue<ServerLogin> {
  const dialogue = new Dialogue((conversation) => serverLogin(conversation, credentials(changes)))
  return dialogue
}

/** Logs in over a real connection and stays until `use` is done. */
async function login<Result>(
  postgres: Postgres,
  changes: Partial<Credentials>,
  use: (login: ServerLogin) => Promise<Result>,
): Promise<Result> {
  const socket = net.connect(postgres.port, postgres.host)
  await once(socket, 'connect')
  try {
    const dialogue = begin(changes)
    for (;;) {
      socket.write(dialogue.sent)
      dialogue.sent = Buffer.alloc(0)
      const [bytes] = (await once(socket, 'data')) as [Buffer]
      // Byte by byte: an exchange must not depend on how its messages were cut.
      for (const byte of bytes) dialogue.push(Uint8Array.of(byte))
      if (dialogue.result !== undefined) return await use(dialogue.result)
    }
  } finally {
    socket.destroy()
  }
}

describe.each(['trust', 'password', 'md5', 'scram-sha-256'] as const)('PostgreSQL asking for %s', (auth) => {
  let postgres: Postgres

  beforeAll(async () => {
    postgres = await startPostgres({ auth })
    await postgres.sql(`CREATE ROLE app LOGIN PASSWORD '${password.replaceAll("'", "''")}'`)
  })

  test('lets us in, names its parameters and gives the key of this very session', async () => {
    await login(postgres, {}, async ({ parameters, backendKey }) => {
      const { rows } = await postgres.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'app'")

      expect(rows).toEqual([{ pid: backendKey?.pid }])
      expect(backendKey?.secret.length).toBe(4)
      expect(backendKey?.secret.every((byte) => byte === 0xee)).toBe(false)
      expect(parameters.get('server_version')).toMatch(/^18/)
      expect(parameters.get('integer_datetimes')).toBe('on')
    })
  })

  test.skipIf(auth === 'trust')('refuses a wrong password, with its own words', async () => {
    const error: unknown = await login(postgres, { password: 'wrong' }, async () => null).catch((thrown) => thrown)

    expect(error).toBeInstanceOf(LoginRefused)
    expect(error).toMatchObject({ sqlstate: '28P01', message: 'password authentication failed for user "app"' })
  })

  test.skipIf(auth === 'trust')('is told from a password that is not configured', async () => {
    await expect(login(postgres, { password: null }, async () => null)).rejects.toMatchObject({
      sqlstate: '28P01',
      message: 'the server requested the password of user "app", which is not known',
    })
  })

  test('refuses a database that is not there', async () => {
    await expect(login(postgres, { database: 'nowhere' }, async () => null)).rejects.toMatchObject({
      sqlstate: '3D000',
      message: 'database "nowhere" does not exist',
    })
  })
})

describe('a server that does what we cannot answer', () => {
  const request = (kind: number, rest: Uint8Array | string = ''): Buffer =>
    message('R', Buffer.concat([int32(kind), Buffer.from(rest)]))

  test.each([
    [2, 'Kerberos V5'],
    [7, 'GSSAPI'],
    [9, 'SSPI'],
    [99, 'authentication method 99'],
  ])('authentication request %i is refused by the name of the method', (kind, name) => {
    expect(() => begin().push(request(kind))).toThrow(
      expect.objectContaining({ sqlstate: '0A000', message: `the server requested ${name}, which is not supported` }),
    )
  })

  test('offering only other SASL mechanisms is refused by their names', () => {
    expect(() => begin().push(request(10, 'SCRAM-SHA-512\0OTHER\0\0'))).toThrow('supports only SCRAM-SHA-512, OTHER')
  })

  test.each([
    ['no authentication at all', Buffer.concat([message('Z', 'I')])],
    ['a second authentication', Buffer.concat([request(0), request(0)])],
    ['an empty authentication request', message('R', '')],
    ['a salt of three bytes', request(5, 'abc')],
    ['a short backend key', Buffer.concat([request(0), message('K', 'abc')])],
    ['a row', Buffer.concat([request(0), message('D', '\0\0')])],
    ['an unexpected challenge', request(11, 'r=a,s=AAAA,i=1')],
  ])('%s is a typed error', (_what, bytes) => {
    expect(() => begin().push(bytes)).toThrow(expect.objectContaining({ name: 'SqlError' }))
  })

  test('AuthenticationOk without the proof of the server is not believed', () => {
    const dialogue = begin()
    dialogue.push(request(10, 'SCRAM-SHA-256\0\0'))

    expect(() => dialogue.push(request(0))).toThrow('expected AuthenticationSASLContinue')
  })

  test('a server that only pretends to know the password gets no session', () => {
    const dialogue = begin()
    dialogue.sent = Buffer.alloc(0)
    dialogue.push(request(10, 'SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0'))
    const nonce = /r=(.*)$/.exec(dialogue.takeSent('p').toString())?.[1] ?? ''
    dialogue.push(request(11, serverFirst(verifierOf('guess', Buffer.alloc(16)), `${nonce}more`)))
    expect(dialogue.takeSent('p').toString()).toMatch(/^c=biws,r=.*,p=/)

    expect(() => dialogue.push(request(12, `v=${Buffer.alloc(32).toString('base64')}`))).toThrow('could not prove')
  })

  test.each(['', 'S', 'SFATAL', 'SFATAL\0', 'SFATAL\0C28000\0Mgo away'])(
    'an error cut short (%j) is an error',
    (cut) => {
      expect(() => begin().push(message('E', cut))).toThrow(LoginRefused)
    },
  )

  test('notices on the way are passed over', () => {
    const dialogue = begin()
    const notice = message('N', 'SNOTICE\0VNOTICE\0C00000\0Mhello\0\0')

    dialogue.push(Buffer.concat([notice, request(0), notice, message('Z', 'I')]))

    expect(dialogue.result).toEqual({ parameters: new Map(), backendKey: null })
  })
})

test('the startup packet asks for protocol 3.0, the user and the database, and for nothing else', () => {
  expect(begin({ user: 'u', database: 'd' }).sent.toString('latin1')).toBe(
    '\0\0\0\x1b\0\x03\0\0user\0u\0database\0d\0\0',
  )
})

describe('the channel of a server', () => {
  const channel = Buffer.from('hash of its certificate')
  const offer = (...mechanisms: string[]): Buffer =>
    message('R', Buffer.concat([int32(10), Buffer.from(`${mechanisms.join('\0')}\0\0`)]))

  test.for([
    [
      'bound to, where the server offers it',
      channel,
      ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'],
      'SCRAM-SHA-256-PLUS',
      'p=tls-server-end-point,,',
    ],
    ['missed aloud, where the server does not offer it', channel, ['SCRAM-SHA-256'], 'SCRAM-SHA-256', 'y,,'],
    ['not spoken of without TLS', null, ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'], 'SCRAM-SHA-256', 'n,,'],
  ] as const)('is %s', ([, given, mechanisms, mechanism, header]) => {
    const dialogue = begin({ channel: given })
    dialogue.sent = Buffer.alloc(0)

    dialogue.push(offer(...mechanisms))

    const sent = dialogue.takeSent('p').toString('latin1')
    expect(sent.startsWith(`${mechanism}\0`)).toBe(true)
    expect(sent.slice(mechanism.length + 5)).toContain(`${header}n=,r=`)
  })
})
