import { describe, expect, test } from 'vitest'
import { resetSession } from '../../../../proxy/engine/session/session-state.ts'
import type { CloseCause } from '../../../../proxy/io/io.ts'
import type { PoolValues } from '../../../../shared/config/keys.ts'
import { cancelRequest, int32, message, query, startup, terminate } from '../../../support/frontend-messages.ts'
import {
  authenticationOk,
  commandComplete,
  dataRow,
  errorResponse,
  noticeResponse,
  parameterStatus,
  ready,
} from '../../../support/scripted-server.ts'
import type { ScriptedSocket } from '../../../support/scripted-io.ts'
import { answers, requests, ScriptedWorld, serverGreeting, serverKey } from './scripted-world.ts'

const one = query('SELECT 1')
const done = Buffer.concat([commandComplete('SELECT 1'), ready()])

describe('login', () => {
  test('starts with the user and the database of the server, and nothing else', () => {
    const world = new ScriptedWorld()
    world.client()

    const server = world.dialed()
    server.open()

    expect(server.remote).toEqual({ host: '10.0.0.9', port: 5432 })
    expect(server.taken()).toEqual(startup({ user: 'app', database: 'postgres' }))
  })

  test('its answers may arrive byte by byte', () => {
    const world = new ScriptedWorld()
    const client = world.client()
    const server = world.dialed()
    server.open()

    for (const byte of serverGreeting) server.receive(Buffer.from([byte]))

    expect(answers(client)).toEqual(['R 00000000', 'S server_version 18.0', 'S client_encoding UTF8', 'K', 'Z I'])
    expect(world.pool()).toMatchObject({ serversIdle: 1, clientsIdle: 1 })
  })

  test('that is not complete after connect_timeout ends the connection', () => {
    const world = new ScriptedWorld({ connect_timeout: '5s' })
    world.client()
    const server = world.dialed()
    server.open()
    server.receive(authenticationOk)

    world.io.pass(4999)
    const before = server.ended
    world.io.pass(1)

    expect([before, server.ended]).toEqual([null, 'close'])
    expect(world.disconnects).toMatchObject([{ cause: 'connect_timeout', state: 'login' }])
  })

  test.for([
    ['28P01', 'auth_failed'],
    ['28000', 'auth_failed'],
    ['3D000', 'terminated'],
    ['57P03', 'terminated'],
  ] as const)('refused with %s ends it with the cause %s', ([sqlstate, cause]) => {
    const world = new ScriptedWorld()
    world.client()
    const server = world.dialed()
    server.open()

    server.receive(errorResponse('FATAL', sqlstate, 'no'))

    expect(world.disconnects).toMatchObject([{ cause, sqlstate, message: 'no', state: 'login' }])
    expect(server.ended).toBe('close')
  })
})

describe('the end of a socket', () => {
  const ends: readonly (readonly [CloseCause['kind'], string | null, string, string])[] = [
    ['eof', null, 'closed', 'closed'],
    ['reset', 'ECONNRESET', 'reset', 'reset'],
    ['keepalive', 'ETIMEDOUT', 'keepalive_timeout', 'connect_timeout'],
    ['unacked', 'ETIMEDOUT', 'user_timeout', 'connect_timeout'],
    ['error', 'EPROTO', 'reset', 'reset'],
  ]

  test.for(ends)('by %s (%s) is the cause %s, during the login %s', ([kind, errno, , cause]) => {
    const world = new ScriptedWorld()
    world.client()

    world.dialed().lose({ kind, errno })

    expect(world.disconnects).toMatchObject([{ cause, errno, state: 'login', client_hurt: false }])
  })

  test.for(ends)('by %s (%s) while idle is the cause %s', ([kind, errno, cause]) => {
    const world = new ScriptedWorld()
    const { server } = world.greeted()
    world.io.pass(2500)

    server.lose({ kind, errno })

    expect(world.disconnects).toMatchObject([
      { cause, errno, state: 'idle', client_hurt: false, connection_age_ms: 2500, idle_ms: 2500 },
    ])
    expect(world.pool()).toMatchObject({ serversIdle: 0 })
    world.check()
  })

  test('during a query is an error for its client, which gets it once', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    client.receive(one)

    server.lose({ kind: 'reset', errno: 'ECONNRESET' })

    expect(answers(client)).toEqual([expect.stringMatching(/^E FATAL 08006 server connection lost/)])
    expect(client.ended).toBe('end')
    expect(world.disconnects).toMatchObject([{ cause: 'reset', state: 'active', client_hurt: true }])
    world.check()
  })

  test('after its FATAL error is "terminated", and the error is the last that its client gets', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    client.receive(one)

    server.receive(errorResponse('FATAL', '57P01', 'terminating connection due to administrator command'))
    server.lose({ kind: 'eof', errno: null })

    expect(answers(client)).toEqual(['E FATAL 57P01 terminating connection due to administrator command'])
    expect(world.disconnects).toMatchObject([{ cause: 'terminated', sqlstate: '57P01', client_hurt: true }])
  })

  test('inside of a message ends the client without another byte', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    client.receive(one)
    const long = message('D', Buffer.from([0, 1]), int32(30_000), Buffer.alloc(30_000))

    server.receive(long.subarray(0, 20_000))
    server.lose({ kind: 'reset', errno: 'ECONNRESET' })

    expect(client.taken()).toEqual(long.subarray(0, 20_000))
    expect(client.ended).toBe('close')
  })
})

describe('an idle server', () => {
  const allowed: readonly (readonly [string, Buffer])[] = [
    ['a notice', noticeResponse('hello')],
    ['a parameter', parameterStatus('TimeZone', 'UTC')],
    ['a notification', message('A', int32(1), Buffer.from('channel\0payload\0'))],
  ]

  test.for(allowed)('102: may send %s, in pieces too', ([, bytes]) => {
    const world = new ScriptedWorld()
    const { server } = world.greeted()

    server.receive(bytes.subarray(0, 3))
    server.receive(bytes.subarray(3), bytes)

    expect(server.ended).toBeNull()
    expect(world.pool()).toMatchObject({ serversIdle: 1 })
  })

  test.for<readonly [string, Buffer, string]>([
    ['a FATAL error', errorResponse('FATAL', '57P01', 'bye'), 'terminated'],
    ['an ERROR', errorResponse('ERROR', '22012', 'what'), 'protocol_error'],
    ['a row', dataRow('1'), 'protocol_error'],
    ['ReadyForQuery', ready(), 'protocol_error'],
    ['a length below 4', Buffer.from('4e00000003', 'hex'), 'protocol_error'],
    ['a length beyond what is kept', Buffer.from('4e7fffffff', 'hex'), 'protocol_error'],
  ])('103: is closed after %s', ([, bytes, cause]) => {
    const world = new ScriptedWorld()
    const { server } = world.greeted()

    server.receive(bytes)

    expect(server.ended).toBe('close')
    expect(world.disconnects).toMatchObject([{ cause, state: 'idle' }])
    expect(world.pool()).toMatchObject({ serversIdle: 0 })
  })

  test('a parameter that it reports is in the greeting of the next client', () => {
    const world = new ScriptedWorld()
    const { server } = world.greeted()

    server.receive(parameterStatus('server_version', '18.1'))

    expect(answers(world.client())).toContain('S server_version 18.1')
  })

  test('closed by plan it gets a Terminate, and its end is no disconnect', () => {
    const world = new ScriptedWorld({ idle_timeout: '10m' })
    const { server } = world.greeted()

    world.io.pass(11 * 60_000)

    expect([server.taken(), server.ended]).toEqual([terminate, 'end'])
    expect(world.disconnects).toEqual([])
    expect(world.pool().closed).toEqual({ idle: 1 })
  })
})

describe('a server between two clients', () => {
  /** A transaction of the first client, then a query of the second one, which needs the only server. */
  function twoClients(
    tags: readonly string[],
    { status = 'I', ...values }: { status?: 'I' | 'T' } & Partial<PoolValues> = {},
  ) {
    const world = new ScriptedWorld({ pool_size: 1, ...values })
    const { client, server } = world.greeted()
    const other = world.client()
    other.taken()
    client.receive(query('first'))
    server.taken()
    server.receive(...tags.map(commandComplete), ready(status))
    other.receive(query('second'))
    return { world, client, server, other }
  }

  test('goes to the next one after ReadyForQuery "I"', () => {
    const { server } = twoClients(['SELECT 1'])

    expect(requests(server)).toEqual(['Q second'])
  })

  test('stays with its client in a transaction', () => {
    const { world, server } = twoClients(['BEGIN'], { status: 'T' })

    expect(requests(server)).toEqual([])
    expect(world.pool()).toMatchObject({ clientsWaiting: 1, serversActive: 1 })
  })

  test('stays with its client after a SET of which no text tells the name', () => {
    const { world, server } = twoClients(['SET'])

    expect(requests(server)).toEqual([])
    expect(world.pool()).toMatchObject({ clientsWaiting: 1, serversActive: 1 })
  })

  const reset = resetSession.map((sql) => `Q ${sql}`)

  test.for([
    [['SELECT 1'], reset],
    [['BEGIN', 'SELECT 1', 'COMMIT'], reset],
  ] as const)('under isolation "strict" %j is followed by %j', ([tags, expected]) => {
    const { server } = twoClients(tags, { isolation: 'strict' })

    expect(requests(server).filter((line) => line !== 'Q second')).toEqual(expected)
  })

  test('that is being reset serves no client before the answer, and is closed if the reset fails', () => {
    const { world, server, other } = twoClients(['SELECT 1'], { isolation: 'strict' })
    const sent = requests(server)

    server.receive(errorResponse('ERROR', '42501', 'permission denied'), ready(), commandComplete('SELECT 1'), ready())

    expect(sent).toEqual(reset)
    expect(server.ended).not.toBeNull()
    expect(world.disconnects).toMatchObject([{ cause: 'reset_failed', sqlstate: '42501', client_hurt: false }])
    const next = world.server()
    expect(requests(next)).toEqual(['Q second'])
    next.receive(done)
    expect(answers(other)).toEqual(['C SELECT 1', 'Z I'])
  })

  test('that keeps a LISTEN stays with its client', () => {
    const { world, client, server } = twoClients(['LISTEN'])
    const probe = requests(server)

    server.receive(row('t'), commandComplete('SELECT 1'), ready())
    client.receive(query('third'))

    expect(probe).toEqual(['Q SELECT EXISTS (SELECT FROM pg_catalog.pg_listening_channels())'])
    expect(requests(server)).toEqual(['Q third'])
    expect(world.pool()).toMatchObject({ clientsWaiting: 1 })
  })
})

/** One boolean column. */
function row(value: 't' | 'f'): Buffer {
  return message('D', Buffer.from([0, 1]), int32(1), Buffer.from(value))
}

describe('a client that leaves', () => {
  test('in a transaction takes its server with it', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    client.receive(query('BEGIN'))
    server.receive(commandComplete('BEGIN'), ready('T'))

    client.lose({ kind: 'eof', errno: null })

    expect(server.ended).not.toBeNull()
    expect(world.pool().closed).toEqual({ client_gone: 1 })
    world.check()
  })

  test('during a query cancels it, with the key of its server', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    client.receive(one)

    client.lose({ kind: 'reset', errno: 'ECONNRESET' })
    const request = world.dialed()
    request.open()

    expect(server.ended).not.toBeNull()
    expect(request.remote).toEqual({ host: '10.0.0.9', port: 5432 })
    expect(request.taken()).toEqual(cancelRequest(serverKey.pid, int32(serverKey.secret)))
  })

  test('between transactions leaves it to others', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    client.receive(one)
    server.receive(done)

    client.lose({ kind: 'eof', errno: null })

    expect(server.ended).toBeNull()
    expect(world.pool()).toMatchObject({ serversIdle: 1, clientsIdle: 0 })
  })
})

describe('a cancel request on its way', () => {
  function canceling() {
    const world = new ScriptedWorld({ pool_size: 1 })
    const client = world.client()
    const server = world.server()
    const greeting = client.taken()
    const at = greeting.indexOf('K')
    const key = { pid: greeting.readInt32BE(at + 5), secret: greeting.subarray(at + 9, at + 13) }
    client.receive(one)
    const asker = world.cancel(key)
    const request = world.dialed()
    request.open()
    server.receive(done)
    client.taken()
    server.taken()
    client.receive(query('next'))
    return { world, client, server, asker, request }
  }

  test('keeps the server from every client until it has arrived', () => {
    const { world, server, asker, request } = canceling()
    const held = { ...world.pool() }
    const sent = requests(server)

    request.lose({ kind: 'eof', errno: null })

    expect(held).toMatchObject({ clientsWaiting: 1, serversIdle: 0 })
    expect(sent).toEqual([])
    expect(requests(server)).toEqual(['Q next'])
    expect(ended(asker)).toBe(true)
  })

  test('87: that its server never takes ends after cancel_wait_timeout, and no client gets that server', () => {
    const { world, client, server, asker, request } = canceling()

    world.io.pass(9999)
    const before = [ended(asker), ended(server)]
    world.io.pass(1)

    expect(before).toEqual([false, false])
    expect([ended(asker), ended(request), ended(server)]).toEqual([true, true, true])
    expect(requests(server)).toEqual(['X'])
    const next = world.server()
    expect(requests(next)).toEqual(['Q next'])
    next.receive(done)
    expect(answers(client).slice(-2)).toEqual(['C SELECT 1', 'Z I'])
    world.check()
  })
})

function ended(socket: ScriptedSocket): boolean {
  return socket.ended !== null
}

describe('server_check_query', () => {
  /** A server that has rested for server_check_delay, and a client that wants it then. */
  function checked() {
    const world = new ScriptedWorld({
      pool_size: 1,
      server_check_query: 'SELECT 7',
      server_check_delay: '30s',
      connect_timeout: '5s',
    })
    const { client, server } = world.greeted()
    world.io.pass(29_000)
    const early = requests(server)
    world.io.pass(1000)
    client.receive(one)
    return { world, client, server, early }
  }

  test('tests a server that has rested, and clients wait for the answer', () => {
    const { world, client, server, early } = checked()
    const before = requests(server)

    server.receive(dataRow('7'), done)
    const after = requests(server)
    server.receive(done)
    world.io.pass(5000)

    expect([early, before, after]).toEqual([[], ['Q SELECT 7'], ['Q SELECT 1']])
    expect(answers(client)).toEqual(['C SELECT 1', 'Z I'])
    expect(server.ended).toBeNull()
  })

  test('without an answer within connect_timeout the server is closed, and another one serves', () => {
    const { world, server } = checked()

    world.io.pass(4999)
    const before = server.ended
    world.io.pass(1)

    expect(before).toBeNull()
    expect(world.disconnects).toMatchObject([{ cause: 'health_check' }])
    expect(server.ended).not.toBeNull()
    expect(requests(world.server())).toEqual(['Q SELECT 1'])
  })

  test('with an error the server is closed', () => {
    const { world, server } = checked()

    server.receive(errorResponse('ERROR', '25006', 'read only'), ready())

    expect(world.disconnects).toMatchObject([{ cause: 'health_check', sqlstate: '25006' }])
  })
})
