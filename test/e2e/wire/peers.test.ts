/** Cancel requests that reach another proxy than their client's. Here a test says who is in the fleet, not control. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { pidOf } from '../../../proxy/engine/cancel/cancel.ts'
import { Authority } from '../../support/certificates.ts'
import { startEngine, until } from '../../support/engine.ts'
import type { Engine } from '../../support/engine.ts'
import { cancelRequest, query, sslRequest, startup } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import { startScriptedServer } from '../../support/scripted-server.ts'
import type { ScriptedServer } from '../../support/scripted-server.ts'
import { WireClient } from '../../support/wire.ts'
import { loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

const numbers = { one: 1, two: 2, scripted: 3, away: 4, unused: 5 }

let world: World
let two: Engine
/** Number 3 of the fleet. */
let scripted: ScriptedServer

beforeAll(async () => {
  scripted = await startScriptedServer()
  const away = await startScriptedServer()
  await away.refuse()
  const { certFile, keyFile } = await (await Authority.create()).issue('proxies')
  const general = {
    cancel_wait_timeout: '1s',
    client_tls_sslmode: 'prefer',
    client_tls_cert_file: certFile,
    client_tls_key_file: keyFile,
  }
  const consoleUsers = { admin: { auth_type: 'trust' } }
  world = await startWorld({ general, consoleUsers })
  two = await startEngine(world.document)
  const peers = [
    { number: numbers.one, address: world.engine.host, port: world.engine.port },
    { number: numbers.two, address: two.host, port: two.port },
    { number: numbers.scripted, address: scripted.host, port: scripted.port },
    { number: numbers.away, address: away.host, port: away.port },
  ]
  await world.engine.post({ type: 'peers', update: { number: numbers.one, peers } })
  await two.post({ type: 'peers', update: { number: numbers.two, peers } })
})

const canceled = 'E ERROR 57014 canceling statement due to user request'

/** Resolves with the bytes of the answer when the other side has closed the connection. */
async function send(to: { host: string; port: number }, request: Uint8Array): Promise<number> {
  const client = await WireClient.connect(to)
  client.send(request)
  const { messages } = await client.readToEnd()
  client.destroy()
  return messages.length
}

async function running(): Promise<void> {
  await until(async () => (await world.postgres.activeQueries('SELECT pg_sleep%')) === 1)
}

test.for([
  ['3.0', 0x00030000],
  ['3.2', 0x00030002],
] as const)('85: a cancel of protocol %s that reaches another proxy finds its query', async ([, version]) => {
  const client = await WireClient.connect(world.engine)
  client.send(startup({ user: 'app', database: 'transaction5' }, version))
  await client.readUntil('Z')
  const { pid, secret } = client.key as NonNullable<WireClient['key']>
  client.send(query('SELECT pg_sleep(600)'))
  await running()

  const answered = await send(two, cancelRequest(pid, secret))

  expect((await client.readUntil('Z')).slice(-2).map(describe)).toEqual([canceled, 'Z I'])
  expect(answered).toBe(0)
  client.destroy()
})

test('85: and when it came by TLS, it goes on by TLS', async () => {
  const client = await loginTo(world, 'transaction5')
  const { pid, secret } = client.key as NonNullable<WireClient['key']>
  client.send(query('SELECT pg_sleep(600)'))
  await running()

  await sendByTls(two, cancelRequest(pid, secret))

  expect((await client.readUntil('Z')).slice(-2).map(describe)).toEqual([canceled, 'Z I'])
  client.destroy()
})

async function sendByTls({ host, port }: Engine, request: Uint8Array): Promise<void> {
  const socket = connect({ host, port })
  socket.write(sslRequest)
  await once(socket, 'readable')
  expect(String(socket.read(1))).toBe('S')
  const tls = connectTls({ socket, rejectUnauthorized: false })
  tls.write(request)
  await once(tls.resume(), 'close')
}

test('85: a peer that does not do TLS gets nothing of what came by TLS', async () => {
  const done = sendByTls(two, cancelRequest(pidOf(numbers.scripted, 0, 1), Buffer.alloc(4)))
  const peer = await scripted.next()
  const first = await peer.readStartup()
  peer.send(Buffer.from('N'))
  await peer.ended
  await done

  expect(first).toEqual(sslRequest.subarray(4))
  await expect(peer.readStartup()).rejects.toThrow('has ended')
})

test('85: a request is passed on once, with a mark; what has the mark goes nowhere', async () => {
  const pid = pidOf(numbers.scripted, 0, 1)
  const [first, second] = [Buffer.from('0000000a', 'hex'), Buffer.from('0000000b', 'hex')]

  const answered = await send(two, cancelRequest(pid, Buffer.concat([first, Buffer.from([1])])))
  const done = send(two, cancelRequest(pid, second))
  const peer = await scripted.next()
  const passed = await peer.readStartup()
  peer.close()

  expect(answered).toBe(0)
  expect(await done).toBe(0)
  expect(passed).toEqual(cancelRequest(pid, Buffer.concat([second, Buffer.from([1])])).subarray(4))
})

test('85: what a peer says is not read, and the requester hears nothing of it', async () => {
  const done = send(two, cancelRequest(pidOf(numbers.scripted, 0, 1), Buffer.alloc(4)))
  const peer = await scripted.next()
  await peer.readStartup()
  peer.send(Buffer.from('450000000a4d61000000', 'hex'))
  peer.close()

  expect(await done).toBe(0)
})

test.for(['unused', 'away'] as const)('85: a number is closed in silence when it is of %s', async (who) => {
  expect(await send(two, cancelRequest(pidOf(numbers[who], 0, 1), Buffer.alloc(4)))).toBe(0)
})

test('86, 87: a thousand cancels for a peer that is silent open 100 connections, and end', async () => {
  const before = scripted.connections.length
  let most = 0
  const watching = setInterval(() => {
    const open = scripted.connections.slice(before).filter(({ socket }) => !socket.destroyed && !socket.readableEnded)
    most = Math.max(most, open.length)
  }, 5)
  const operator = await consoleOf(two)

  const requests = Array.from({ length: 1000 }, (_, client) =>
    send(two, cancelRequest(pidOf(numbers.scripted, 0, client), Buffer.alloc(4))),
  )
  await until(() => scripted.connections.length >= before + 100)
  const during = await operator.query({ text: 'SHOW PEER_POOLS', rowMode: 'array' })
  const answers = await Promise.all(requests)
  clearInterval(watching)
  const after = await operator.query({ text: 'SHOW PEER_POOLS', rowMode: 'array' })

  expect(most).toBe(100)
  expect(during.rows[2]?.slice(0, 2)).toEqual([numbers.scripted, 100])
  expect(answers.every((messages) => messages === 0)).toBe(true)
  expect(after.rows[2]).toEqual([numbers.scripted, 0, 0, 0, 0])
  expect((await two.snapshot()).pools.every(({ serversActive }) => serversActive === 0)).toBe(true)
  await operator.end()
})

test('SHOW PEERS lists the proxies of the fleet with the columns of PgBouncer', async () => {
  const operator = await consoleOf(two)

  const { fields, rows } = await operator.query<{ peer_id: number; port: number }>('SHOW PEERS')
  const lists = await operator.query<{ list: string; items: number }>('SHOW LISTS')
  await operator.end()

  expect(fields.map(({ name }) => name)).toEqual(['peer_id', 'host', 'port', 'pool_size'])
  expect(rows.map((row) => row.peer_id)).toEqual([1, 2, 3, 4])
  expect(rows[1]).toEqual({ peer_id: 2, host: two.host, port: two.port, pool_size: 100 })
  expect(lists.rows.filter(({ list }) => list.startsWith('peer'))).toEqual([
    { list: 'peers', items: 4 },
    { list: 'peer_pools', items: 4 },
  ])
})

async function consoleOf({ host, port }: Engine): Promise<Client> {
  const operator = new Client({ host, port, user: 'admin', database: 'pgbouncer' })
  await operator.connect()
  return operator
}
