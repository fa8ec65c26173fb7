import { beforeAll, expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { cancelRequest, int32, message, query, startup } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import {
  authenticationOk,
  backendKeyData,
  commandComplete,
  parameterStatus,
  ready,
  startScriptedServer,
} from '../../support/scripted-server.ts'
import type { ScriptedServer } from '../../support/scripted-server.ts'
import { WireClient } from '../../support/wire.ts'
import { loginTo, poolNames, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World
let scripted: ScriptedServer

beforeAll(async () => {
  scripted = await startScriptedServer()
  world = await startWorld({
    general: { cancel_wait_timeout: '5s' },
    pools: () => ({
      newest: { server_max_protocol_version: '3.2' },
      scripted: {
        servers: [{ host: scripted.host, port: scripted.port }],
        server_max_protocol_version: '3.2',
        pool_size: 1,
      },
    }),
  })
})

const newest = 0x00030002
const sleep = query('SELECT pg_sleep(600)')
const canceled = 'E ERROR 57014 canceling statement due to user request'

async function cancel({ key }: WireClient): Promise<void> {
  const { pid, secret } = key as NonNullable<WireClient['key']>
  const request = await WireClient.connect(world.engine)
  request.send(cancelRequest(pid, secret))
  await request.readToEnd()
  request.destroy()
}

async function running(): Promise<void> {
  await until(async () => (await world.postgres.activeQueries('SELECT pg_sleep%')) === 1)
}

test.for(poolNames)('9: a client of protocol 3.2 cancels with a key of 32 bytes through %s', async (pool) => {
  const client = await WireClient.connect(world.engine)
  client.send(startup({ user: 'app', database: pool }, newest))
  await client.readUntil('Z')
  client.send(sleep)
  await running()

  await cancel(client)

  expect((await client.readUntil('Z')).slice(-2).map(describe)).toEqual([canceled, 'Z I'])
  expect(client.key?.secret.length).toBe(32)
  client.destroy()
})

test('9: a server with protocol 3.2 is canceled by its long key', async () => {
  const client = await loginTo(world, 'newest')
  client.send(sleep)
  await running()

  await cancel(client)

  expect((await client.readUntil('Z')).slice(-2).map(describe)).toEqual([canceled, 'Z I'])
  client.destroy()
})

test.for([
  ['of 4 bytes, after 3.0 was negotiated', 0x00030000, 4],
  ['of 32 bytes', newest, 32],
  ['of 256 bytes', newest, 256],
] as const)('9: a cancel request to a server carries its key %s', async ([, version, secretBytes]) => {
  const secret = Buffer.alloc(secretBytes, 7)
  const login = loginTo(world, 'scripted')
  const server = await scripted.next()
  const asked = await server.readStartup()
  server.send(
    ...(version === newest ? [] : [message('v', int32(version), int32(0))]),
    authenticationOk,
    parameterStatus('server_version', '18.0'),
    message('K', int32(42), secret),
    ready(),
  )
  const client = await login
  client.send(query('SELECT 1'))
  await server.readUntil('Q')

  const done = cancel(client)
  const request = await scripted.next()
  const sent = await request.readStartup()
  request.close()
  await done
  server.send(commandComplete('SELECT 1'), ready())
  await client.readUntil('Z')
  client.close()
  await world.engine.poolUntil('scripted', ({ serversIdle }) => serversIdle === 1)
  server.close()
  await world.engine.poolUntil('scripted', ({ serversIdle }) => serversIdle === 0)
  // What is known of a server is for the next one's clients too.
  await world.engine.apply(anew())

  expect(asked.readInt32BE(0)).toBe(newest)
  expect(sent).toEqual(cancelRequest(42, secret).subarray(4))
})

test.for([
  ['a newer version than was requested', [message('v', int32(0x00030003), int32(0))]],
  ['another major version', [message('v', int32(0x00040000), int32(0))]],
  ['half a version', [message('v', Buffer.from([0, 3]))]],
  ['a key of 257 bytes', [authenticationOk, message('K', int32(1), Buffer.alloc(257))]],
  ['a key of 3 bytes', [authenticationOk, message('K', int32(1), Buffer.alloc(3))]],
] as const)('9: a server that offers %s is not logged in to', async ([, messages]) => {
  const login = loginTo(world, 'scripted').catch(() => undefined)
  const server = await scripted.next()
  const lostBefore = world.engine.lost.length

  await server.readStartup()
  server.send(...messages)
  await server.ended
  const lost = await world.engine.lostUntil(() => world.engine.lost.length > lostBefore)
  const next = await scripted.next()
  await next.readStartup()
  next.send(authenticationOk, parameterStatus('server_version', '18.0'), backendKeyData(1, 2), ready())
  const client = await login
  client?.close()
  await world.engine.poolUntil('scripted', ({ serversIdle }) => serversIdle === 1)
  next.close()
  await world.engine.poolUntil('scripted', ({ serversIdle }) => serversIdle === 0)
  await world.engine.apply(anew())

  expect(lost).toBeDefined()
  expect(world.engine.lost.at(lostBefore)).toMatchObject({ pool: 'scripted', cause: 'auth_failed', sqlstate: '08P01' })
})

let generation = 0

/** The same pools, with another connection to the scripted server: what is known of its servers is forgotten. */
function anew(): World['document'] {
  const pools = world.document['pools'] as Record<string, object>
  const changed = { ...pools['scripted'], database: `app${++generation}` }
  return { ...world.document, pools: { ...pools, scripted: changed } }
}
