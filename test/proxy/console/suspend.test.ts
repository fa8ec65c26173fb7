/** SUSPEND, on a real PostgreSQL: nothing moves until RESUME, and nothing is lost. */
import type { Client } from 'pg'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { unsuspend, suspend } from '../../../proxy/engine/suspension.ts'
import { query, startup } from '../../support/frontend-messages.ts'
import { startPostgres } from '../../support/postgres.ts'
import { WireClient } from '../../support/wire.ts'
import { EngineInProcess, poolSpec } from './engine-in-process.ts'

const postgres = await startPostgres()
const running = new EngineInProcess()
let console: Client
let other: Client

beforeAll(async () => {
  running.apply(1, [poolSpec({ port: postgres.port }, { pool_size: 2 })])
  console = await running.console()
  other = await running.console()
})

afterEach(async () => {
  await other.query('RESUME').catch(() => undefined)
  running.engine.assertInvariants()
})

function name() {
  const found = running.engine.pools.find('app', 'web')
  if (found === null) throw new Error('no pool')
  return found
}

async function web(): Promise<Client> {
  return await running.connect({ user: 'web', database: 'app' })
}

/** Long enough for what is not held to arrive: some of the engine's turns after it could have. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await other.query('SHOW STATE')
}

test('what clients ask and what servers answer is not read until RESUME, and then all of it is', async () => {
  const [inside, idle] = [await web(), await web()]
  await inside.query('BEGIN')
  const answered: string[] = []
  const asked = inside.query('SELECT 1 AS one').then(() => answered.push('inside'))
  await asked
  const late = inside.query('SELECT pg_sleep(0.05)').then(() => answered.push('late'))
  await running.until(() => [...name().active].some((client) => client.queryBeganMs > 0))

  const { command } = await console.query('SUSPEND')
  const waiting = idle.query('SELECT 2').then(() => answered.push('idle'))
  await postgres.sql('SELECT pg_sleep(0.1)')
  await turns()
  const state = (await other.query<{ key: string; value: string }>('SHOW STATE')).rows
  const during = [...answered]
  await other.query('RESUME')
  await Promise.all([late, waiting])

  expect(command).toBe('SUSPEND')
  expect(during).toEqual(['inside'])
  expect(state).toEqual([
    { key: 'active', value: 'no' },
    { key: 'paused', value: 'no' },
    { key: 'suspended', value: 'yes' },
  ])
  expect(answered.toSorted()).toEqual(['idle', 'inside', 'late'])
  expect((await inside.query('COMMIT')).command).toBe('COMMIT')
})

test('a client that logs in meanwhile is served after RESUME, one that leaves meanwhile is noticed', async () => {
  const leaving = await web()
  await console.query('SUSPEND')
  const before = running.engine.context.clients.size
  const newcomer = web().then(async (client) => (await client.query<{ a: number }>('SELECT 1 AS a')).rows)
  await running.until(() => running.engine.context.clients.size === before + 1)

  await leaving.end()
  await running.until(() => running.engine.context.clients.size === before)
  await expect(console.query('SUSPEND')).rejects.toMatchObject({ message: 'already suspended/paused' })
  await turns()
  const held = name().waiting.size + name().idle.size + name().active.size
  await other.query('RESUME')

  expect(held).toBeGreaterThan(0)
  expect(await newcomer).toEqual([{ a: 1 }])
})

test('what a newcomer sends in the same bytes as its login waits for RESUME as well', async () => {
  await console.query('SUSPEND')
  const hasty = await WireClient.connect({ host: '127.0.0.1', port: running.port })
  hasty.send(startup({ user: 'web', database: 'app' }), query("SELECT 'asked with the login'"))
  await hasty.readUntil('Z')

  await turns()
  const active = name().active.size
  await other.query('RESUME')
  const answer = await hasty.readUntil('Z')

  expect(active).toBe(0)
  expect(answer.map(({ tag }) => tag).join('')).toBe('TDCZ')
  hasty.destroy()
})

test('SUSPEND answers when what was sent has been taken, and closes connections that do not take it in time', async () => {
  await console.query("SET suspend_timeout = '200ms'")
  const slow = await WireClient.login({ host: '127.0.0.1', port: running.port }, { user: 'web', database: 'app' })
  slow.socket.pause()
  slow.send(query("SELECT repeat('x', 30000000)"))
  await running.until(() => [...name().active].some(({ socket }) => socket.queuedBytes > 0))
  const bystander = await web()
  const began = performance.now()

  await console.query('SUSPEND')
  const tookMs = performance.now() - began
  const left = [...name().active].length
  await other.query('RESUME')
  running.operated.overrides.drop()

  expect(tookMs).toBeGreaterThanOrEqual(190)
  expect(left).toBe(0)
  expect((await bystander.query('SELECT 1 AS a')).rows).toEqual([{ a: 1 }])
  slow.destroy()
})

test('a SUSPEND that was resumed is over, also when the next one comes in the same turn', async () => {
  await console.query("SET suspend_timeout = '10s'")
  const slow = await WireClient.login({ host: '127.0.0.1', port: running.port }, { user: 'web', database: 'app' })
  slow.socket.pause()
  slow.send(query("SELECT repeat('x', 30000000)"))
  await running.until(() => [...name().active].some(({ socket }) => socket.queuedBytes > 0))
  const first = console.query('SUSPEND').then(
    ({ command }) => command,
    (error: Error) => error.message,
  )
  await running.until(() => running.engine.context.suspended)

  unsuspend(running.engine)
  suspend(running.engine)
  const answer = await first
  const left = name().active.size
  await other.query('RESUME')
  running.operated.overrides.drop()

  expect(answer).toBe('pooler is resumed before everything was flushed')
  expect(left).toBe(1)
  slow.destroy()
})

test('a version that is applied meanwhile serves after RESUME', async () => {
  const client = await web()
  await client.query('SELECT 1')
  await console.query('SUSPEND')

  running.apply(2, [poolSpec({ port: postgres.port, connectHash: 'c'.repeat(64), hash: 'c'.repeat(64) })])
  const asked = client.query('SELECT 1 AS a')
  await turns()
  const servers = name().source?.current?.size
  await other.query('RESUME')

  expect(servers).toBe(0)
  expect((await asked).rows).toEqual([{ a: 1 }])
})

test('a stop ends a SUSPEND: who is inside a transaction may finish it', async () => {
  const engine = new EngineInProcess()
  engine.apply(1, [poolSpec({ port: postgres.port })])
  const client = await engine.connect({ user: 'web', database: 'app' })
  await client.query('BEGIN')
  await (await engine.console()).query('SUSPEND')

  engine.engine.receive({ type: 'stop', mode: 'drain', timeoutMs: 60_000 })
  const { command } = await client.query('COMMIT')
  await engine.until(() => engine.engine.ended)

  expect(command).toBe('COMMIT')
})
