import { describe, expect, test } from 'vitest'
import { query } from '../../../support/frontend-messages.ts'
import { commandComplete, errorResponse, ready } from '../../../support/scripted-server.ts'
import { answers, requests, ScriptedWorld } from './scripted-world.ts'

const done = Buffer.concat([commandComplete('SELECT 1'), ready()])

describe('the waiting line', () => {
  test('is served in the order of arrival, one transaction each', () => {
    const world = new ScriptedWorld({ pool_size: 1 })
    const { client, server } = world.greeted()
    const others = [world.client(), world.client(), world.client()]
    client.receive(query('first'))
    for (const [at, other] of others.entries()) other.receive(query(`waits ${at}`))

    const served: string[][] = []
    for (let turn = 0; turn < 4; turn++) {
      served.push(requests(server))
      server.receive(done)
    }

    expect(served).toEqual([['Q first'], ['Q waits 0'], ['Q waits 1'], ['Q waits 2']])
    expect(world.undialed).toBe(0)
  })

  test('loses a client that leaves, and nothing reaches a server for it', () => {
    const world = new ScriptedWorld({ pool_size: 1 })
    const { client, server } = world.greeted()
    const [gone, next] = [world.client(), world.client()]
    client.receive(query('first'))
    gone.receive(query('gone'))
    next.receive(query('next'))
    server.taken()

    gone.lose({ kind: 'eof', errno: null })
    server.receive(done)

    expect(requests(server)).toEqual(['Q next'])
    world.check()
  })

  test('ends after the query_wait_timeout of a version that came meanwhile', () => {
    const world = new ScriptedWorld({ pool_size: 1, query_wait_timeout: '10m', query_wait_notify: '0ms' })
    const { client } = world.greeted()
    client.receive(query('BEGIN'))
    const other = world.client()
    other.taken()
    other.receive(query('SELECT 1'))

    world.apply({ pool_size: 1, query_wait_timeout: '2s', query_wait_notify: '0ms' })
    world.io.pass(1999)
    const before = answers(other)
    world.io.pass(1)

    expect(before).toEqual([])
    expect(answers(other)).toEqual([expect.stringMatching(/^E FATAL \w{5} query_wait_timeout/)])
  })

  test('ends for a client after query_wait_timeout', () => {
    const world = new ScriptedWorld({ pool_size: 1, query_wait_timeout: '2s', query_wait_notify: '0ms' })
    const { client, server } = world.greeted()
    const other = world.client()
    other.taken()
    client.receive(query('first'))
    other.receive(query('waits'))

    world.io.pass(1999)
    const before = other.ended
    world.io.pass(1)

    expect(before).toBeNull()
    expect(answers(other)).toEqual([expect.stringMatching(/^E FATAL \w{5} query_wait_timeout/)])
    expect([client.ended, server.ended]).toEqual([null, null])
  })

  test('is announced once, after query_wait_notify', () => {
    const world = new ScriptedWorld({ pool_size: 1, query_wait_notify: '3s' })
    const { client } = world.greeted()
    const [other, later] = [world.client(), world.client()]
    const told = (): number[] => [other, later].map((one) => answers(one).length)
    told()
    client.receive(query('first'))
    other.receive(query('waits'))

    world.io.pass(2999)
    const before = told()
    later.receive(query('waits too'))
    world.io.pass(1)
    const then = told()
    world.io.pass(10_000)

    expect([before, then]).toEqual([
      [0, 0],
      [1, 0],
    ])
    expect(told()).toEqual([0, 1])
  })
})

describe('servers', () => {
  test('are never more than pool_size, and an idle one is used before another is opened', () => {
    const world = new ScriptedWorld({ pool_size: 3 })
    const { server } = world.greeted()
    const clients = Array.from({ length: 8 }, () => world.client())
    clients[0]!.receive(query('alone'))
    server.receive(done)
    const opened = world.io.dialed.length

    for (const client of clients) client.receive(query('together'))
    world.server()
    world.server()

    expect(opened).toBe(1)
    expect(world.io.dialed).toHaveLength(3)
    expect(world.pool()).toMatchObject({ serversActive: 3, clientsWaiting: 5 })
  })

  test('min_pool_size are opened once a client has come, and stay when others are closed', () => {
    const world = new ScriptedWorld({ min_pool_size: 2, pool_size: 5, idle_timeout: '1m', server_lifetime: '0ms' })
    world.greeted()
    world.io.pass(1000)
    const second = world.server()
    world.io.pass(10 * 60_000)

    expect(second.ended).toBeNull()
    expect(world.pool()).toMatchObject({ serversIdle: 2, closed: {} })
    expect(world.undialed).toBe(0)
  })

  const starting = errorResponse('FATAL', '57P03', 'the database system is starting up')

  test('after failed logins the next attempt waits, twice as long each time, up to server_login_retry', () => {
    const world = new ScriptedWorld({ server_login_retry: '3s', query_wait_timeout: '0ms' })
    world.client()
    const pauses: number[] = []

    for (let attempt = 0; attempt < 8; attempt++) {
      const server = world.dialed()
      server.open()
      server.receive(starting)
      let pauseMs = 0
      for (; world.undialed === 0; pauseMs += 100) world.io.pass(100)
      pauses.push(pauseMs)
    }

    expect(pauses).toEqual([100, 200, 400, 800, 1600, 3000, 3000, 3000])
    expect(world.pool()).toMatchObject({ clientsWaiting: 1 })
  })

  test('after a login that succeeds the next failure waits for the shortest time again', () => {
    const world = new ScriptedWorld({ pool_size: 2, query_wait_timeout: '0ms' })
    world.client()
    for (let attempt = 0; attempt < 4; attempt++) {
      const server = world.dialed()
      server.open()
      server.receive(starting)
      world.io.pass(3000)
    }
    const server = world.server()
    const [client, other] = [world.client(), world.client()]
    client.receive(query('first'))
    other.receive(query('second'))

    const second = world.dialed()
    second.open()
    second.receive(starting)
    const before = world.undialed
    world.io.pass(100)

    expect([server.ended, before, world.undialed]).toEqual([null, 0, 1])
  })

  test.for([
    ['3D000', 'does not exist', true],
    ['28P01', 'wrong password', true],
    ['57P03', 'starting up', false],
  ] as const)('a login refused with %s (%s) is told to waiting clients: %s', ([sqlstate, text, isTold]) => {
    const world = new ScriptedWorld({ query_wait_notify: '0ms' })
    const client = world.client()
    client.taken()
    const server = world.dialed()
    server.open()

    server.receive(errorResponse('FATAL', sqlstate, text))

    expect(answers(client)).toEqual(isTold ? [`E FATAL ${sqlstate} ${text}`] : [])
  })

  test('of the reserve are opened when a client has waited for reserve_pool_timeout', () => {
    const values = { pool_size: 1, reserve_pool_size: 1, reserve_pool_timeout: '5s', query_wait_notify: '0ms' } as const
    const world = new ScriptedWorld(values)
    const { client } = world.greeted()
    const [waits, waitsToo] = [world.client(), world.client()]
    client.receive(query('first'))
    waits.receive(query('second'))
    waitsToo.receive(query('third'))

    world.io.pass(4999)
    const before = world.undialed
    world.io.pass(1)

    expect([before, world.undialed]).toEqual([0, 1])
    expect(requests(world.server())).toEqual(['Q second'])
    world.io.pass(60_000)
    expect(world.undialed).toBe(0)
  })

  test('of several addresses all are used', () => {
    const world = new ScriptedWorld({ pool_size: 4 }, { addresses: ['10.0.0.1', '10.0.0.2'] })
    world.greeted()
    const clients = Array.from({ length: 4 }, () => world.client())

    for (const client of clients) client.receive(query('together'))

    expect(new Set(world.io.dialed.map(({ remote }) => remote.host))).toEqual(new Set(['10.0.0.1', '10.0.0.2']))
  })
})

describe('a paused database', () => {
  test('opens no server and closes those that become free; its clients wait until RESUME', () => {
    const world = new ScriptedWorld({ query_wait_timeout: '0ms', query_wait_notify: '0ms' })
    const { client, server } = world.greeted()
    const other = world.client()
    other.taken()
    client.receive(query('first'))

    world.operate('pause')
    other.receive(query('waits'))
    const during = server.ended
    server.receive(done)
    const after = server.ended
    world.io.pass(60_000)
    const opened = world.undialed
    world.operate('resume')

    expect([during, after]).toEqual([null, 'end'])
    expect(opened).toBe(0)
    expect(answers(client)).toEqual(['C SELECT 1', 'Z I'])
    expect(requests(world.server())).toEqual(['Q waits'])
    world.check()
  })
})

test('RESUME tries a server at once that could not be reached before', () => {
  const world = new ScriptedWorld({ server_login_retry: '60s', query_wait_timeout: '0ms' })
  world.client()
  for (let attempt = 0; attempt < 6; attempt++) {
    world.dialed().lose({ kind: 'refused', errno: 'ECONNREFUSED' })
    while (world.undialed === 0) world.io.pass(100)
  }
  world.dialed().lose({ kind: 'refused', errno: 'ECONNREFUSED' })
  world.operate('pause')
  const before = world.undialed

  world.operate('resume')

  expect([before, world.undialed]).toEqual([0, 1])
})

describe('RECONNECT', () => {
  test('closes idle servers at once, and busy ones at the end of their transaction', () => {
    const world = new ScriptedWorld({ pool_size: 2 })
    const { client, server } = world.greeted()
    const other = world.client()
    client.receive(query('BEGIN'))
    server.receive(commandComplete('BEGIN'), ready('T'))
    other.receive(query('first'))
    const second = world.server()
    second.receive(done)

    world.operate('reconnect')
    const at = [server.ended, second.ended]
    client.receive(query('COMMIT'))
    server.receive(commandComplete('COMMIT'), ready())

    expect(at).toEqual([null, 'end'])
    expect(server.ended).toBe('end')
    expect(world.disconnects).toEqual([])
  })
})

describe('a version with other values', () => {
  test('keeps servers and clients, and obeys the new values', () => {
    const world = new ScriptedWorld({ pool_size: 1 })
    const { client, server } = world.greeted()
    const other = world.client()
    client.receive(query('first'))
    other.receive(query('waits'))
    const before = world.undialed

    world.apply({ pool_size: 2 })

    expect(before).toBe(0)
    expect(server.ended).toBeNull()
    expect(requests(world.server())).toEqual(['Q waits'])
    world.check()
  })
})
