import { setImmediate as turn } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { bind, cancelRequest, execute, flush, parse, query, sslRequest, sync } from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import { commandComplete, errorResponse, ready, startScriptedServer } from '../../support/scripted-server.ts'
import type { ScriptedServer } from '../../support/scripted-server.ts'
import { WireClient } from '../../support/wire.ts'
import { loginTo, poolNames, startWorld } from './world.ts'
import type { PoolName, World } from './world.ts'

let world: World
let scripted: ScriptedServer

beforeAll(async () => {
  scripted = await startScriptedServer()
  world = await startWorld({
    // Of a thousand requests at once the last ones wait, on a busy machine for longer than by default.
    general: { cancel_wait_timeout: '60s' },
    pools: () => ({
      scripted: { servers: [{ host: scripted.host, port: scripted.port }], pool_size: 1, query_wait_notify: '0ms' },
      resets: { servers: [{ host: scripted.host, port: scripted.port }], pool_size: 1, pool_mode: 'session' },
    }),
  })
})

const canceled = 'E ERROR 57014 canceling statement due to user request'
const sleep = query('SELECT pg_sleep(600)')
const one = query('SELECT 1 AS a')
const oneAnswers = ['T a', 'D 00010000000131', 'C SELECT 1', 'Z I']

/** Resolves when the other side has closed the connection: the request was passed on, or had nothing to hit. */
async function cancel(client: WireClient, key: Partial<NonNullable<WireClient['key']>> = {}): Promise<void> {
  const { pid, secret } = { ...(client.key as NonNullable<WireClient['key']>), ...key }
  const request = await WireClient.connect(world.engine)
  request.send(cancelRequest(pid, secret))
  await request.readToEnd()
  request.destroy()
}

async function running(sql: string): Promise<void> {
  await until(async () => (await world.postgres.activeQueries(`${sql}%`)) === 1)
}

test.for(poolNames)('80: a running query is canceled with 57014 through %s, and the client goes on', async (pool) => {
  const client = await loginTo(world, pool)
  client.send(sleep)
  await running('SELECT pg_sleep')

  await cancel(client)
  const answers = (await client.readUntil('Z')).map(describe)

  expect(answers.slice(-2)).toEqual([canceled, 'Z I'])
  expect(await transcript(client, [{ send: [one], until: 'Z' }])).toEqual(oneAnswers)
  client.destroy()
})

test("a client's process id is that of no process of Linux, so what is done to it hits no backend", async () => {
  const client = await loginTo(world, 'transaction1')
  const pid = client.key?.pid ?? 0

  const answers = await transcript(client, [{ send: [query(`SELECT pg_terminate_backend(${pid})`)], until: 'Z' }])

  expect(pid).toBeGreaterThanOrEqual(2 ** 22)
  expect(answers).toEqual([
    'T pg_terminate_backend',
    // PostgreSQL 14 says "server process".
    expect.stringMatching(`^N WARNING 01000 PID ${pid} is not a PostgreSQL (?:backend|server) process$`),
    'D 00010000000166',
    'C SELECT 1',
    'Z I',
  ])
  client.close()
})

test.for(poolNames)('80: a cancel within a transaction fails the transaction through %s', async (pool) => {
  const client = await loginTo(world, pool)
  await transcript(client, [{ send: [query('BEGIN')], until: 'Z' }])
  client.send(parse('', 'SELECT pg_sleep(600)'), bind('', ''), execute(''), sync)
  await running('SELECT pg_sleep')

  await cancel(client)
  const answers = (await client.readUntil('Z')).map(describe)

  expect(answers.slice(-2)).toEqual([canceled, 'Z E'])
  client.destroy()
})

test('64: COPY OUT is canceled', async () => {
  const client = await loginTo(world, 'transaction1')
  client.send(query("COPY (SELECT lpad('', 9000), pg_sleep(0.001) FROM generate_series(1, 1000000)) TO STDOUT"))
  await client.readUntil('d')

  await cancel(client)
  const answers = (await client.readUntil('Z')).map(describe)

  expect(answers.slice(-2)).toEqual([canceled, 'Z I'])
  client.destroy()
})

test.for<PoolName>(['transaction1', 'session1'])(
  '81: a client of %s that waits for a server is canceled, and the line stays in order',
  async (pool) => {
    const holder = await loginTo(world, pool)
    await transcript(holder, [{ send: [query('BEGIN')], until: 'Z' }])
    const [first, second] = [await loginTo(world, pool), await loginTo(world, pool)]
    first.send(one)
    await world.engine.poolUntil(pool, ({ clientsWaiting }) => clientsWaiting === 1)
    second.send(query('SELECT 2 AS b'))
    await world.engine.poolUntil(pool, ({ clientsWaiting }) => clientsWaiting === 2)

    await cancel(first)
    const answers = (await first.readUntil('Z')).map(describe)
    const waiting = await world.engine.pool(pool)
    holder.send(query('COMMIT'))
    const held = (await holder.readUntil('Z')).map(describe)
    holder.close()
    const next = (await second.readUntil('Z')).map(describe)
    second.close()

    expect(answers).toEqual([canceled, 'Z I'])
    expect(waiting.clientsWaiting).toBe(1)
    expect(held).toEqual(['C COMMIT', 'Z I'])
    expect(next[0]).toBe('T b')
    expect(await transcript(first, [{ send: [one], until: 'Z' }])).toEqual(oneAnswers)
    first.destroy()
  },
)

test('81: a waiting pipeline is canceled up to its first Sync', async () => {
  const holder = await loginTo(world, 'transaction1')
  await transcript(holder, [{ send: [query('BEGIN')], until: 'Z' }])
  const waiter = await loginTo(world, 'transaction1')
  waiter.send(parse('', 'SELECT 1'), bind('', ''), execute(''), flush)
  await world.engine.poolUntil('transaction1', ({ clientsWaiting }) => clientsWaiting === 1)

  await cancel(waiter)
  waiter.send(bind('', ''), execute(''), sync, one)
  await waiter.readUntil('Z')
  holder.send(query('COMMIT'))
  await holder.readUntil('Z')
  const answers = (await waiter.readUntil('Z')).map(describe)

  expect(answers).toEqual(oneAnswers)
  for (const client of [holder, waiter]) client.destroy()
})

test('81: a waiting query that is canceled has taken the unnamed statement away, as in PostgreSQL', async () => {
  const [holder, waiter] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await transcript(waiter, [{ send: [parse('', 'SELECT 1'), sync], until: 'Z' }])
  await transcript(holder, [{ send: [query('BEGIN')], until: 'Z' }])
  waiter.send(query('SELECT 2'))
  await world.engine.poolUntil('transaction1', ({ clientsWaiting }) => clientsWaiting === 1)

  await cancel(waiter)
  await waiter.readUntil('Z')
  await transcript(holder, [{ send: [query('COMMIT')], until: 'Z' }])
  const answers = await transcript(waiter, [{ send: [bind('', ''), execute(''), sync], until: 'Z' }])
  for (const client of [holder, waiter]) client.destroy()

  expect(answers).toEqual(['E ERROR 26000 unnamed prepared statement does not exist', 'Z I'])
})

test('82: a cancel of a client that asked for nothing does nothing', async () => {
  const client = await loginTo(world, 'transaction1')
  const other = await loginTo(world, 'transaction1')
  other.send(query('SELECT pg_sleep(0.2), 1 AS a'))
  await running('SELECT pg_sleep(0.2)')

  await cancel(client)

  expect((await other.readUntil('Z')).map(({ tag }) => tag).join('')).toBe('TDCZ')
  expect(await transcript(client, [{ send: [one], until: 'Z' }])).toEqual(oneAnswers)
  for (const one of [client, other]) one.destroy()
})

test('82: in 2,000 races a cancel never hits the client that has the server next', async () => {
  const [canceling, other] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  const seen = { own: { canceled: 0, answered: 0 }, other: [] as string[] }
  const over = new AbortController()
  const others = (async () => {
    while (!over.signal.aborted) {
      other.send(one)
      const kinds = (await other.readUntil('Z')).map(({ tag }) => tag).join('')
      if (kinds !== 'TDCZ') seen.other.push(kinds)
    }
  })()

  for (let round = 0; round < 2000; round++) {
    canceling.send(one)
    for (let turns = round % 4; turns > 0; turns--) await turn()
    const done = cancel(canceling)
    const kinds = (await canceling.readUntil('Z')).map(({ tag }) => tag)
    if (kinds.includes('E')) seen.own.canceled++
    else seen.own.answered++
    if (round % 2 === 0) await done
  }
  over.abort()
  await others

  expect(seen.other).toEqual([])
  expect(seen.own.canceled + seen.own.answered).toBe(2000)
  expect(seen.own.canceled).toBeGreaterThan(0)
  expect(seen.own.answered).toBeGreaterThan(0)
  for (const client of [canceling, other]) client.destroy()
})

test('83: a cancel with a wrong key is closed without a word and cancels nothing', async () => {
  const client = await loginTo(world, 'transaction5')
  const { pid, secret } = client.key as NonNullable<WireClient['key']>
  client.send(query('SELECT pg_sleep(0.3), 1 AS a'))
  await running('SELECT pg_sleep(0.3)')

  const inverted = Buffer.from(secret.map((byte) => byte ^ 255))
  const wrong = [
    { pid, secret: inverted },
    { pid: pid ^ 1, secret },
    { pid, secret: Buffer.alloc(256) },
    { pid, secret: Buffer.concat([secret, Buffer.alloc(1)]) },
  ]
  const words = await Promise.all(
    wrong.map(async (key) => {
      const request = await WireClient.connect(world.engine)
      request.send(cancelRequest(key.pid, key.secret))
      return (await request.readToEnd()).messages.length
    }),
  )

  expect(words).toEqual([0, 0, 0, 0])
  expect((await client.readUntil('Z')).map(({ tag }) => tag).join('')).toBe('TDCZ')
  client.destroy()
})

test('84: a cancel may follow a declined SSLRequest', async () => {
  const client = await loginTo(world, 'transaction5')
  client.send(sleep)
  await running('SELECT pg_sleep')

  const request = await WireClient.connect(world.engine)
  request.send(sslRequest)
  await request.readByte()
  const { pid, secret } = client.key as NonNullable<WireClient['key']>
  request.send(cancelRequest(pid, secret))
  await request.readToEnd()

  expect((await client.readUntil('Z')).map(describe)).toContain(canceled)
  client.destroy()
})

test('86: a thousand cancels at once open no more than 100 connections to the server at a time', async () => {
  const login = loginTo(world, 'scripted')
  const server = await scripted.next()
  await server.acceptLogin()
  const client = await login
  client.send(one)
  await server.readUntil('Q')
  const open = { now: 0, most: 0, all: 0 }
  const requests = Promise.all(Array.from({ length: 1000 }, () => cancel(client)))
  const answering = (async () => {
    for (; open.all < 1000; open.all++) {
      const request = await scripted.next()
      open.most = Math.max(open.most, ++open.now)
      void (async () => {
        await request.readStartup()
        await turn()
        open.now--
        request.close()
      })()
    }
  })()

  await Promise.all([requests, answering])
  server.send(commandComplete('SELECT 1'), ready())

  expect((await client.readUntil('Z')).map(({ tag }) => tag).join('')).toBe('CZ')
  expect(open.most).toBeGreaterThan(1)
  expect(open.most).toBeLessThanOrEqual(100)
  client.close()
  await world.engine.poolUntil('scripted', ({ serversIdle }) => serversIdle === 1)
  server.close()
  await world.engine.poolUntil('scripted', ({ serversIdle }) => serversIdle === 0)
})

test('a cancel that comes when its client has left repeats the reset that it has canceled', async () => {
  const login = loginTo(world, 'resets')
  const server = await scripted.next()
  await server.acceptLogin()
  await server.readUntil('Q') // the reset after the greeting
  server.send(commandComplete('DISCARD ALL'), ready())
  const client = await login
  client.send(one)
  await server.readUntil('Q')
  const done = cancel(client)
  const request = await scripted.next()
  await request.readStartup()

  server.send(commandComplete('SELECT 1'), ready())
  await client.readUntil('Z')
  client.close()
  await server.readUntil('Q')
  server.send(errorResponse('ERROR', '57014', 'canceling statement due to user request'), ready())
  request.close()
  const again = await server.read()
  server.send(commandComplete('DISCARD ALL'), ready())

  expect(again).toMatchObject({ tag: 'Q', body: Buffer.from('DISCARD ALL\0') })
  await world.engine.poolUntil('resets', ({ serversIdle }) => serversIdle === 1)
  expect(world.engine.lost.filter(({ pool }) => pool === 'resets')).toEqual([])
  await done
  server.close()
})

test.for([
  ['a simple query', [one]],
  ['an extended one', [parse('', 'SELECT 1'), bind('', ''), execute(''), sync]],
] as const)(
  'a cancel cancels %s that waits until its server has the parameters of the client',
  async ([kind, request]) => {
    for (const { socket } of scripted.connections) socket.destroy()
    await world.engine.poolUntil('scripted', ({ serversIdle }) => serversIdle === 0)
    const login = loginTo(world, 'scripted')
    const server = await scripted.next()
    await server.acceptLogin()
    const client = await login
    // Parameters that no client has had yet, so that the server is given them at once.
    const others = loginTo(world, 'scripted', { parameters: { application_name: kind } })
    await server.readUntil('S')
    server.send(commandComplete('SELECT 1'), ready())
    const other = await others
    client.send(...request)
    const { body: adjusting } = await server.read()
    await server.readUntil('S')

    await cancel(client)
    server.send(commandComplete('SELECT 1'), ready())
    const answers = (await client.readUntil('Z')).map(describe)
    client.send(one)
    const next = await server.read()
    server.send(commandComplete('SELECT 1'), ready())

    expect(adjusting.toString()).toContain('set_config')
    expect(answers).toEqual([canceled, 'Z I'])
    expect(next).toEqual({ tag: 'Q', body: Buffer.from('SELECT 1 AS a\0') })
    expect((await client.readUntil('Z')).map(describe)).toEqual(['C SELECT 1', 'Z I'])
    client.close()
    other.close()
  },
)
