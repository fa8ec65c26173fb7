/** SET of what runs: it works at once, is shown by every SHOW command, and does not outlive a version or RELOAD. */
import type { Client } from 'pg'
import { beforeAll, beforeEach, expect, test } from 'vitest'
import { PoolReports } from '../../../proxy/agent/pool-reports.ts'
import { generalKeys } from '../../../shared/config/keys.ts'
import type { GeneralKeySpec } from '../../../shared/config/keys.ts'
import { startPostgres } from '../../support/postgres.ts'
import { EngineInProcess, hashA, poolSpec } from './engine-in-process.ts'

const postgres = await startPostgres()
const running = new EngineInProcess()
let console: Client
let version = 1

beforeAll(async () => {
  running.apply(version, [poolSpec({ port: postgres.port }, { pool_size: 3 })])
  console = await running.console()
})

beforeEach(() => {
  running.apply(++version, [poolSpec({ port: postgres.port }, { pool_size: 3 })])
})

function pool() {
  const found = running.engine.pools.find('app', 'web')?.source?.current
  if (found === null || found === undefined) throw new Error('no pool')
  return found
}

async function shown(command: string, key: string): Promise<Record<string, unknown> | undefined> {
  const { rows } = await console.query<Record<string, unknown>>(command)
  return rows.find((row) => row['key'] === key || row['database'] === key)
}

/** Answers the RELOAD that was typed last, as the agent would. */
function answerReload(): void {
  const order = running.posted.findLast((message) => message.type === 'reload')
  running.engine.receive({ type: 'reloaded', id: order?.id ?? -1, error: null })
}

test('SET changes a live key of every pool without a reconnect, and SHOW CONFIG, POOL_VERSIONS and reports tell', async () => {
  const client = await running.connect({ user: 'web', database: 'app' })
  await client.query('SELECT 1')
  const before = pool().size

  const { command } = await console.query('SET pool_size = 7')
  const config = await shown('SHOW CONFIG', 'pool_size')
  const versions = await shown('SHOW POOL_VERSIONS', 'app')
  const snapshot = running.operated.snapshot()
  const desired = [{ pool: 'app', user: 'web', hash: hashA, connect_hash: hashA }]
  const [report] = new PoolReports().of(snapshot, { desired, error: null, nowMs: 0 })

  expect(command).toBe('SET')
  expect(pool().settings.poolSize).toBe(7)
  expect(pool().size).toBe(before)
  expect(config).toMatchObject({ value: '7', default: '20' })
  expect(versions).toMatchObject({ desired_hash: hashA, state: 'overridden', error: 'SET pool_size = 7' })
  expect(versions?.['running_hash']).toMatch(/^[0-9a-f]{64}$/)
  expect(versions?.['running_hash']).not.toBe(hashA)
  expect(report).toMatchObject({
    hash: versions?.['running_hash'],
    desired_hash: hashA,
    code: 'overridden',
    message: "SET at the proxy's console: pool_size = 7",
  })
  expect(running.posted).toContainEqual({
    type: 'log',
    level: 'warn',
    message: 'configuration changed by SET at the console',
    fields: { key: 'pool_size', value: '7', user: 'admin' },
  })
})

test('the next version puts it right, even one that says what the last one said', async () => {
  await console.query("SET query_wait_timeout = '3s'")
  const during = pool().settings.queryWaitTimeoutMs

  running.apply(++version, [poolSpec({ port: postgres.port }, { pool_size: 3 })])

  expect(during).toBe(3000)
  expect(pool().settings.queryWaitTimeoutMs).toBe(120_000)
  expect(await shown('SHOW POOL_VERSIONS', 'app')).toMatchObject({ running_hash: hashA, state: 'in_sync', error: null })
  expect(running.operated.snapshot().overrides).toEqual([])
})

test('RELOAD takes back all of them, also without a newer version', async () => {
  await console.query('SET pool_size = 7; SET max_client_conn = 50; SET idle_timeout = 1m')
  const during = [pool().settings.poolSize, running.engine.context.general.maxClientConnections]
  const listed = running.operated.snapshot().overrides

  const reloaded = console.query('RELOAD')
  await running.until(() => running.operated.snapshot().overrides.length === 0)
  answerReload()
  await reloaded

  expect(during).toEqual([7, 50])
  expect(listed).toEqual(['pool_size = 7', 'max_client_connections = 50', 'idle_timeout = 1m'])
  expect([pool().settings.poolSize, running.engine.context.general.maxClientConnections]).toEqual([3, 10_000])
  expect(pool().hash).toBe(hashA)
  expect(await shown('SHOW CONFIG', 'max_client_connections')).toMatchObject({ value: '10000' })
})

const ofEngine = Object.entries<GeneralKeySpec>(generalKeys).filter(([, { obeyedBy }]) => obeyedBy === 'engine')

test.for(ofEngine)('SET changes %s, a general key that the engine alone obeys', async ([key, spec]) => {
  const another = spec.type === 'choice' ? spec.choices.find((choice) => choice !== spec.default) : undefined
  const value = String(another ?? ('max' in spec ? spec.max : ''))

  await console.query(`SET ${key} = '${value}'`)

  expect(running.operated.snapshot().overrides).toEqual([expect.stringContaining(`${key} = `)])
  expect(running.operated.generalValues[key]).not.toBe(spec.default)
})

test('setting the same again is the same, and setting it back is still an override', async () => {
  await console.query('SET pool_size = 7')
  const once = pool().hash
  await console.query('SET pool_size = 7')
  const twice = pool().hash
  await console.query('SET pool_size = 3')

  expect(twice).toBe(once)
  expect([once, hashA]).not.toContain(pool().hash)
})

test.for([
  ['SET pool_sise = 3', 'SET failed: pool_sise cannot be set here'],
  ['SET listen_port = 3', 'SET failed: listen_port cannot be set here'],
  ['SET poll_interval = 3s', 'SET failed: poll_interval cannot be set here'],
  ['SET shutdown_timeout = 3s', 'SET failed: shutdown_timeout cannot be set here'],
  ['SET constructor = 3', 'SET failed: constructor cannot be set here'],
  [
    'SET server_tls_sslmode = require',
    'SET failed: server_tls_sslmode cannot be changed while servers are connected; create a new version',
  ],
  ['SET pool_size = many', 'SET failed: pool_size must be an integer; got "many"'],
  ['SET pool_size = 0', 'SET failed: pool_size must be between 1 and 100000; got 0'],
  ['SET query_timeout = 5', 'SET failed: query_timeout must be a duration with a unit'],
  ['SET pool_mode = sometimes', 'SET failed: pool_mode must be one of "session", "transaction", "statement"'],
  ['SET', 'syntax error in SET'],
] as const)('%s is refused and changes nothing', async ([statement, message]) => {
  const before = pool().spec

  await expect(console.query(statement)).rejects.toMatchObject({ message: expect.stringContaining(message) })

  expect(pool().spec).toBe(before)
  expect(running.operated.snapshot().overrides).toEqual([])
})
