/** 26: passwords change while sessions are open: those of clients, and those that servers are shown. */
import { beforeAll, describe as group, expect, test } from 'vitest'
import { startEngine, until } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { query } from '../../support/frontend-messages.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { LoginRefused, WireClient } from '../../support/wire.ts'

let postgres: Postgres

beforeAll(async () => {
  postgres = await startPostgres({
    auth: 'scram-sha-256',
    sql: ["CREATE ROLE app LOGIN PASSWORD 'first'", 'CREATE DATABASE app OWNER app'],
  })
})

function document(user: Document): Document {
  return {
    general: { client_plain_allowed: 'on', login_backoff_after: 0 },
    pools: { app: { servers: [{ host: '127.0.0.1', port: postgres.port }], users: { app: user } } },
  }
}

/** The backend that serves it. */
async function backendOf(client: WireClient): Promise<string> {
  client.send(query('SELECT pg_backend_pid()'))
  const row = (await client.readUntil('Z')).find(({ tag }) => tag === 'D')
  return row?.body.toString('latin1', 6) ?? ''
}

async function outcome(engine: Engine, password: string): Promise<string> {
  try {
    await WireClient.login(engine, { user: 'app', password })
    return 'in'
  } catch (error) {
    if (!(error instanceof LoginRefused)) throw error
    return error.sqlstate
  }
}

group('26: a client with a new password', () => {
  test.for(['plain', 'md5', 'scram-sha-256'])('by %s may use the former one until its time is over', async (method) => {
    const keys = { auth_type: method, server_user: 'postgres', server_password: '' }
    const engine = await startEngine(document({ ...keys, password: 'old' }))
    const session = await WireClient.login(engine, { user: 'app', password: 'old' })
    const before = await backendOf(session)
    const farUntil = new Date(Date.now() + 3_600_000).toISOString()
    const nearUntil = new Date(Date.now() + 1_000).toISOString()
    const both = { ...keys, password: 'new', previous_password: 'old' }

    const rotated = await engine.apply(document({ ...both, previous_password_until: farUntil }))
    const meanwhile = [await outcome(engine, 'new'), await outcome(engine, 'old'), await outcome(engine, 'guess')]
    await engine.apply(document({ ...both, previous_password_until: nearUntil }))
    // The clock ends it, no version does.
    await until(async () => (await outcome(engine, 'old')) === '28P01')

    expect(rotated).toMatchObject({ retuned: 1, rebuilt: 0 })
    expect(meanwhile).toEqual(['in', 'in', '28P01'])
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(nearUntil))
    expect(await outcome(engine, 'new')).toBe('in')
    expect(await backendOf(session)).toBe(before)
  })

  test('may use the former one as long as the document has it', async () => {
    const keys = { server_user: 'postgres', server_password: '' }
    const engine = await startEngine(document({ ...keys, password: 'new', previous_password: 'old' }))
    const session = await WireClient.login(engine, { user: 'app', password: 'old' })

    await engine.apply(document({ ...keys, password: 'new' }))

    expect(await outcome(engine, 'old')).toBe('28P01')
    expect(await backendOf(session)).not.toBe('')
  })
})

test('26: a new password of the servers reaches new ones, old ones end with their transactions, no client does', async () => {
  const user = { password: 'client', pool_size: 2 }
  const engine = await startEngine(document({ ...user, server_password: 'first' }))
  const idle = await WireClient.login(engine, { user: 'app', password: 'client' })
  const busy = await WireClient.login(engine, { user: 'app', password: 'client' })
  await backendOf(idle)
  busy.send(query('BEGIN'))
  await busy.readUntil('Z')
  const before = await backendOf(busy)

  await postgres.sql("ALTER ROLE app PASSWORD 'second'")
  const rotated = await engine.apply(document({ ...user, server_password: 'second' }))
  const during = await backendOf(busy)
  busy.send(query('COMMIT'))
  await busy.readUntil('Z')
  await engine.poolUntil('app', ({ serversDraining }) => serversDraining === 0)

  expect(rotated).toMatchObject({ rebuilt: 1 })
  expect(during).toBe(before)
  expect([await backendOf(busy), await backendOf(idle)]).not.toContain(before)
  expect(await outcome(engine, 'client')).toBe('in')
  expect(engine.lost).toEqual([])
})
