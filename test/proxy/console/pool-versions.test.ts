import { beforeEach, expect, test } from 'vitest'
import type { Client } from 'pg'
import type { Desired } from '../../../proxy/spec.ts'
import { startPostgres } from '../../support/postgres.ts'
import { EngineInProcess, hashA, hashB, poolSpec } from './engine-in-process.ts'

const postgres = await startPostgres()
let running: EngineInProcess
let console: Client
beforeEach(async () => {
  running = new EngineInProcess()
  running.apply(1, [poolSpec({ port: postgres.port })])
  console = await running.console()
})

async function show(): Promise<Record<string, unknown>[]> {
  const { rows } = await console.query<Record<string, unknown>>('SHOW POOL_VERSIONS')
  return rows
}

function desire(version: number, pools: Desired['pools'], error: Desired['error'] = null): void {
  running.engine.receive({ type: 'desired', desired: { position: { epoch: 1, version }, pools, error } })
}

const wantB = [{ pool: 'app', user: 'web', hash: hashB }]

test('a pool that runs what is wanted is in_sync', async () => {
  desire(1, [{ pool: 'app', user: 'web', hash: hashA }])

  expect(await show()).toEqual([
    {
      database: 'app',
      user: 'web',
      desired_version: '1',
      desired_hash: hashA,
      running_version: '1',
      running_hash: hashA,
      state: 'in_sync',
      error: null,
      draining_servers: 0,
      serving: 'not_yet_tried',
      serving_error: null,
      operated: null,
    },
  ])
})

test('without any word from control, what runs is what is wanted', async () => {
  expect(await show()).toMatchObject([{ desired_version: '1', desired_hash: hashA, state: 'in_sync' }])
})

test('a pool is behind from the offer to the apply', async () => {
  desire(2, wantB)
  const offered = await show()
  running.apply(2, [poolSpec({ port: postgres.port, hash: hashB, connectHash: hashB })])

  expect(offered).toMatchObject([{ desired_version: '2', running_version: '1', running_hash: hashA, state: 'behind' }])
  expect(await show()).toMatchObject([{ running_version: '2', running_hash: hashB, state: 'in_sync' }])
})

test('a pool that a new version leaves as it was runs that version too', async () => {
  desire(2, [{ pool: 'app', user: 'web', hash: hashA }])
  running.apply(2, [poolSpec({ port: postgres.port })])

  expect(await show()).toMatchObject([{ desired_version: '2', running_version: '2', state: 'in_sync' }])
})

test('an offer older than what runs is not what is wanted', async () => {
  desire(1, wantB)
  running.apply(2, [poolSpec({ port: postgres.port })])

  expect(await show()).toMatchObject([{ desired_version: '2', desired_hash: hashA, state: 'in_sync' }])
})

test('a pool that cannot be prepared is failed, with the reason', async () => {
  const message = 'pools.app.servers[0].host: "db.invalid" cannot be resolved'
  desire(2, wantB, { code: 'unresolvable_host', message, pool: 'app', user: 'web' })

  expect(await show()).toMatchObject([
    { desired_version: '2', running_version: '1', state: 'failed', error: `unresolvable_host: ${message}` },
  ])
})

test('the failure of one pool is not shown at a pool that is as wanted', async () => {
  running.apply(2, [poolSpec({ port: postgres.port }), poolSpec({ port: postgres.port, user: 'batch' })])
  const pools = [{ pool: 'app', user: 'batch', hash: hashA }, ...wantB]
  desire(3, pools, { code: 'unresolvable_host', message: 'no', pool: 'app', user: 'web' })

  expect(await show()).toMatchObject([
    { user: 'batch', state: 'behind', error: null },
    { user: 'web', state: 'failed' },
  ])
})

test('a pool that is wanted and not there yet, and one that has to go, are shown', async () => {
  desire(2, [{ pool: 'new', user: 'web', hash: hashB }])

  expect(await show()).toMatchObject([
    { database: 'app', desired_version: null, desired_hash: null, running_hash: hashA, state: 'behind' },
    { database: 'new', desired_version: '2', running_version: null, running_hash: null, state: 'behind' },
  ])
})

test('a pool that was made for "*" is as wanted when it is as "*" is wanted', async () => {
  const template = poolSpec({ port: postgres.port, user: '*', serverUser: 'postgres' })
  running.apply(2, [template])
  await running.connect({ user: 'made', database: 'app' })
  desire(3, [{ pool: 'app', user: '*', hash: hashB }])
  // The one of before may not have been swept away yet.
  const others = async () => (await show()).filter(({ user }) => user !== 'web')
  const offered = await others()
  running.apply(3, [{ ...template, hash: hashB }])

  expect(offered).toMatchObject([
    { user: '*', desired_hash: hashB, running_hash: hashA, state: 'behind' },
    { user: 'made', desired_hash: hashB, running_hash: hashA, state: 'behind' },
  ])
  expect(await others()).toMatchObject([
    { user: '*', running_hash: hashB, state: 'in_sync' },
    { user: 'made', running_hash: hashB, state: 'in_sync' },
  ])
})

test('servers of the old configuration are shown as long as they drain', async () => {
  const client = await running.connect({ user: 'web', database: 'app' })
  await client.query('BEGIN')
  running.apply(2, [poolSpec({ port: postgres.port, hash: hashB, connectHash: hashB })])

  const during = await show()
  const { rows } = await console.query<Record<string, unknown>>('SHOW SERVERS')
  const pools = await console.query<Record<string, unknown>>('SHOW POOLS')
  await client.query('COMMIT')
  await client.query('SELECT 1')

  expect(during).toMatchObject([{ running_hash: hashB, draining_servers: 1 }])
  expect(rows).toMatchObject([{ state: 'active', close_needed: 1 }])
  expect(pools.rows[0]).toMatchObject({ database: 'app', sv_active: 1, sv_idle: 0 })
  expect(await show()).toMatchObject([{ running_hash: hashB, draining_servers: 0 }])
})
