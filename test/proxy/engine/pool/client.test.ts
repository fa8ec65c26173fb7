import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  copyData,
  copyDone,
  execute,
  flush,
  message,
  parse,
  query,
  sync,
  terminate,
} from '../../../support/frontend-messages.ts'
import { commandComplete, dataRow, errorResponse, ready } from '../../../support/scripted-server.ts'
import { answers, requests, ScriptedWorld } from './scripted-world.ts'

const one = query('SELECT 1')
const done = Buffer.concat([commandComplete('SELECT 1'), ready()])

describe('greeting', () => {
  test('waits for the first server, whose parameters it has; later clients are greeted without one', () => {
    const world = new ScriptedWorld()
    const first = world.client()
    const early = answers(first)
    world.server()

    const second = world.client()

    const greeting = ['S server_version 18.0', 'S client_encoding UTF8', 'K', 'Z I']
    expect([early, answers(first)]).toEqual([['R 00000000'], greeting])
    expect(answers(second)).toEqual(['R 00000000', ...greeting])
    expect(world.undialed).toBe(0)
  })

  test('carries a cancel key of the proxy, not the key of the server', () => {
    const world = new ScriptedWorld()
    const first = world.client()
    world.server()
    const second = world.client()

    const keys = [first, second].map((client) => {
      const bytes = client.taken()
      const at = bytes.indexOf(Buffer.from('4b0000000c', 'hex'))
      return bytes.readInt32BE(at + 5)
    })

    expect(new Set(keys).size).toBe(2)
    expect(keys.every((pid) => pid > 2 ** 22)).toBe(true)
  })
})

describe('requests', () => {
  const session = Buffer.concat([one, parse('', 'SELECT 2'), execute(''), sync, query('SELECT 3')])

  test('36: reach the server whole and in order, wherever their bytes are cut', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(session.length), { maxLength: 12 }), (places) => {
        const world = new ScriptedWorld({ max_prepared_statements: 0 })
        const { client, server } = world.greeted()
        server.taken()

        let from = 0
        for (const to of [...places.sort((a, b) => a - b), session.length]) {
          client.receive(session.subarray(from, to))
          from = to
        }

        expect(server.taken()).toEqual(session)
        world.check()
      }),
    )
  })

  test('answers reach the client whole and in order, wherever their bytes are cut', () => {
    const bytes = Buffer.concat([dataRow('a'), dataRow('b'.repeat(20_000)), commandComplete('SELECT 2'), ready('I')])

    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(bytes.length), { maxLength: 12 }), (places) => {
        const world = new ScriptedWorld()
        const { client, server } = world.greeted()
        client.receive(one)

        let from = 0
        for (const to of [...places.sort((a, b) => a - b), bytes.length]) {
          server.receive(bytes.subarray(from, to))
          from = to
        }

        expect(client.taken()).toEqual(bytes)
        expect(world.pool()).toMatchObject({ serversIdle: 1, clientsIdle: 1 })
      }),
      { numRuns: 50 },
    )
  })

  test.for<readonly [string, Buffer]>([
    ['Flush', flush],
    ['CopyData', copyData('row')],
    ['CopyDone', copyDone],
    ['a long CopyData', copyData(Buffer.alloc(40_000))],
  ])('outside of a transaction %s alone takes no server', ([, bytes]) => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    server.taken()

    client.receive(bytes.subarray(0, bytes.length >> 1))
    client.receive(bytes.subarray(bytes.length >> 1))
    const sent = server.taken()
    client.receive(one)

    expect(sent.length).toBe(0)
    expect(requests(server)).toEqual(['Q SELECT 1'])
  })

  test('a request takes no server before it has arrived as a whole', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()

    client.receive(one.subarray(0, -1))
    const before = world.pool()
    client.receive(one.subarray(-1))

    expect(before).toMatchObject({ serversIdle: 1, clientsIdle: 1 })
    expect(requests(server)).toEqual(['Q SELECT 1'])
  })

  test.for<readonly [string, string, string]>([
    ['a type that no client sends', '5a0000000549', 'invalid frontend message type 90'],
    ['a type that does not exist', '0100000004', 'invalid frontend message type 1'],
    ['a length below 4', '5100000003', 'invalid message length'],
  ])('%s ends the client', ([, hex, text]) => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()

    client.receive(Buffer.from(hex, 'hex'))

    expect(answers(client)).toEqual([`E FATAL 08P01 ${text}`])
    expect([client.ended, server.ended]).toEqual(['end', null])
    expect(world.pool()).toMatchObject({ clientsIdle: 0, serversIdle: 1 })
  })

  test('Terminate between transactions leaves the server; after a query it is passed on', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    const other = world.client()

    client.receive(terminate)
    const idle = server.ended
    other.receive(one, terminate)

    expect([idle, client.ended, other.ended]).toEqual([null, 'close', 'close'])
    expect(requests(server)).toEqual(['Q SELECT 1', 'X'])
    expect(server.ended).toBe('end')
    world.check()
  })
})

describe('a peer that does not read', () => {
  test('a server: its client is not read until the server has taken everything', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    client.receive(query('BEGIN'))
    server.receive(commandComplete('BEGIN'), ready('T'))
    server.taken()
    server.fill()

    client.receive(query('first'))
    client.receive(query('second'))
    const held = requests(server)
    server.drain()

    expect(held).toEqual(['Q first'])
    expect(requests(server)).toEqual(['Q second'])
  })

  test('a client: its server is not read until the client has taken everything', () => {
    const world = new ScriptedWorld()
    const { client, server } = world.greeted()
    client.receive(one)
    client.taken()
    client.fill()

    server.receive(dataRow('1'))
    server.receive(dataRow('2'))
    const held = answers(client).length
    client.drain()

    expect(held).toBe(1)
    expect(answers(client).length).toBe(1)
  })
})

test('a client that has not read its last answer gets no server for its next request', () => {
  const world = new ScriptedWorld()
  const { client, server } = world.greeted()
  client.receive(one)
  client.fill()
  server.receive(done)
  server.taken()

  client.receive(query('next'))
  const held = requests(server)
  const idle = world.pool()
  client.drain()

  expect(held).toEqual([])
  expect(idle).toMatchObject({ serversIdle: 1 })
  expect(requests(server)).toEqual(['Q next'])
})

describe('a cancel request', () => {
  function keyed(world: ScriptedWorld) {
    const client = world.client()
    const server = world.server()
    const greeting = client.taken()
    const at = greeting.indexOf(Buffer.from('4b0000000c', 'hex'))
    return { client, server, key: { pid: greeting.readInt32BE(at + 5), secret: greeting.subarray(at + 9, at + 13) } }
  }

  test('81: for a client that waits is answered by the proxy, and its next query is served', () => {
    const world = new ScriptedWorld({ pool_size: 1, query_wait_notify: '0ms' })
    const { client, server, key } = keyed(world)
    const other = world.client()
    other.receive(query('BEGIN'))
    server.receive(commandComplete('BEGIN'), ready('T'))
    client.receive(query('canceled'))
    server.taken()

    const asker = world.cancel(key)
    const canceled = answers(client)
    other.receive(query('COMMIT'))
    server.receive(commandComplete('COMMIT'), ready())
    client.receive(one)

    expect(canceled).toEqual(['E ERROR 57014 canceling statement due to user request', 'Z I'])
    expect(asker.ended).not.toBeNull()
    expect(requests(server)).toEqual(['Q COMMIT', 'Q SELECT 1'])
    expect(world.undialed).toBe(0)
  })

  test('82: for a client that does nothing has no effect', () => {
    const world = new ScriptedWorld()
    const { client, server, key } = keyed(world)

    const asker = world.cancel(key)
    client.receive(one)
    server.receive(done)

    expect(asker.ended).not.toBeNull()
    expect(world.undialed).toBe(0)
    expect(answers(client)).toEqual(['C SELECT 1', 'Z I'])
  })

  test.for<readonly [string, (key: { pid: number; secret: Buffer }) => { pid: number; secret: Buffer }]>([
    ['another process id', ({ pid, secret }) => ({ pid: pid + 1, secret })],
    ['another secret', ({ pid }) => ({ pid, secret: Buffer.alloc(4) })],
    ['a longer secret', ({ pid, secret }) => ({ pid, secret: Buffer.concat([secret, secret]) })],
  ])('83: with %s reaches no server', ([, change]) => {
    const world = new ScriptedWorld()
    const { client, key } = keyed(world)
    client.receive(one)

    const asker = world.cancel(change(key))

    expect(asker.ended).not.toBeNull()
    expect(world.undialed).toBe(0)
  })
})

describe('101: limits in time', () => {
  const begin = (client: { receive(bytes: Buffer): void }, server: { receive(bytes: Buffer): void }): void => {
    client.receive(query('BEGIN'))
    server.receive(Buffer.concat([commandComplete('BEGIN'), ready('T')]))
  }

  test('query_timeout ends a query that takes longer, cancels it, and no other client', () => {
    const world = new ScriptedWorld({ query_timeout: '200ms' })
    const { client, server } = world.greeted()
    const other = world.client()
    other.taken()
    client.receive(one)
    world.io.pass(100)
    other.receive(query('later'))
    const second = world.server()

    world.io.pass(99)
    const before = [client.ended, other.ended]
    world.io.pass(1)

    expect(before).toEqual([null, null])
    expect(answers(client)).toEqual(['E FATAL 57014 query timeout'])
    expect([other.ended, second.ended]).toEqual([null, null])
    expect(server.ended).not.toBeNull()
    expect(world.dialed().remote).toEqual(server.remote)
    expect(world.pool().closed).toEqual({ query_timeout: 1 })
  })

  test('query_timeout begins anew with each query', () => {
    const world = new ScriptedWorld({ query_timeout: '200ms' })
    const { client, server } = world.greeted()

    for (let round = 0; round < 5; round++) {
      client.receive(one)
      world.io.pass(150)
      server.receive(done)
      world.io.pass(150)
    }

    expect(client.ended).toBeNull()
  })

  test('transaction_timeout ends a transaction however busy it is', () => {
    const world = new ScriptedWorld({ transaction_timeout: '300ms' })
    const { client, server } = world.greeted()
    begin(client, server)
    for (let round = 0; round < 29; round++) {
      world.io.pass(10)
      client.receive(one)
      server.receive(commandComplete('SELECT 1'), ready('T'))
    }
    client.taken()
    const before = client.ended

    world.io.pass(10)

    expect(before).toBeNull()
    expect(answers(client)).toEqual(['E FATAL 25P04 transaction timeout'])
    expect(server.ended).not.toBeNull()
  })

  test('idle_transaction_timeout counts from the last answer, and only in a transaction', () => {
    const world = new ScriptedWorld({ idle_transaction_timeout: '150ms' })
    const { client, server } = world.greeted()
    world.io.pass(1000)
    begin(client, server)
    world.io.pass(149)
    client.receive(one)
    world.io.pass(1000)
    server.receive(commandComplete('SELECT 1'), ready('T'))
    client.taken()

    world.io.pass(149)
    const before = client.ended
    world.io.pass(1)

    expect(before).toBeNull()
    expect(answers(client)).toEqual(['E FATAL 25P03 idle transaction timeout'])
    expect(server.ended).not.toBeNull()
  })

  test('client_idle_timeout ends an idle client, and leaves its server', () => {
    const world = new ScriptedWorld({ client_idle_timeout: '150ms' })
    const { client, server } = world.greeted()
    world.io.pass(100)
    client.receive(one)
    server.receive(done)
    client.taken()

    world.io.pass(149)
    const before = client.ended
    world.io.pass(1)

    expect(before).toBeNull()
    expect(answers(client)).toEqual(['E FATAL 57P05 client_idle_timeout'])
    expect(server.ended).toBeNull()
  })
})

test('an error of the server in a transaction is passed on, and the client stays', () => {
  const world = new ScriptedWorld()
  const { client, server } = world.greeted()
  client.receive(query('BEGIN; SELECT 1/0'))

  server.receive(commandComplete('BEGIN'), errorResponse('ERROR', '22012', 'division by zero'), ready('E'))
  client.receive(query('ROLLBACK'))
  server.receive(commandComplete('ROLLBACK'), ready())

  expect(answers(client)).toEqual(['C BEGIN', 'E ERROR 22012 division by zero', 'Z E', 'C ROLLBACK', 'Z I'])
  expect(requests(server)).toEqual(['Q BEGIN; SELECT 1/0', 'Q ROLLBACK'])
  expect(world.pool()).toMatchObject({ clientsIdle: 1, serversIdle: 1 })
})

test('a message of a type that only a login has ends the client', () => {
  const world = new ScriptedWorld()
  const { client } = world.greeted()

  client.receive(message('p', Buffer.from('secret\0')))

  expect(answers(client)).toEqual([expect.stringMatching(/^E FATAL 08P01 /)])
})
