import { expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import type { Postgres } from '../../support/postgres.ts'
import { backends, common, connect, fleet, openConsole, startWorld, untilRuns } from './world.ts'

const roleStatements = ['CREATE ROLE app LOGIN', 'CREATE ROLE app_b LOGIN']

function document(postgres: Postgres, user: object): object {
  return {
    ...common,
    pools: {
      app: {
        database: 'postgres',
        servers: [{ host: '127.0.0.1', port: postgres.port, role: 'primary' }],
        users: { app: { password: 'app', ...user } },
      },
    },
  }
}

test('106: a new pool_size keeps the server connections that are there', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => document(database, { pool_size: 3, min_pool_size: 3 }),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  await until(async () => (await backends(postgres, ['app'])).length === 3)
  const before = await backends(postgres, ['app'])

  const version = await control.apply(fleet, document(postgres, { pool_size: 9, min_pool_size: 3 }))
  await untilRuns(operator, version)
  await (await connect(proxy)).query('SELECT 1')

  expect(await backends(postgres, ['app'])).toEqual(before)
})

test('106: a smaller pool_size closes idle servers down to it and leaves the one in use alone', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => document(database, { pool_size: 4, min_pool_size: 4 }),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  const client = await connect(proxy)
  await client.query('BEGIN')
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  await until(async () => (await backends(postgres, ['app'])).length === 4)

  const version = await control.apply(fleet, document(postgres, { pool_size: 2, min_pool_size: 1 }))
  await untilRuns(operator, version)
  await until(async () => (await backends(postgres, ['app'])).length === 2)

  expect((await backends(postgres, ['app'])).map((one) => one.pid)).toContain(rows[0]?.pid)
  await client.query('COMMIT')
})

test('a transaction that is open across a rebuild ends on its old server, and the next one runs on a new server', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: [...roleStatements, 'CREATE TABLE seen (who text)', 'GRANT ALL ON seen TO PUBLIC'] },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => document(database, {}),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  const client = await connect(proxy)
  await client.query('BEGIN')
  const first = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  await client.query('INSERT INTO seen VALUES (current_user)')

  const version = await control.apply(fleet, document(postgres, { server_user: 'app_b' }))
  await untilRuns(operator, version)
  const draining = await operator.query('SHOW POOL_VERSIONS')
  await client.query('INSERT INTO seen VALUES (current_user)')
  const still = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  await client.query('COMMIT')
  const next = await client.query<{ pid: number; who: string }>('SELECT pg_backend_pid() AS pid, current_user AS who')

  expect(draining.rows).toMatchObject([{ draining_servers: 1 }])
  expect(still.rows).toEqual(first.rows)
  expect(next.rows[0]?.who).toBe('app_b')
  expect((await postgres.sql('SELECT who FROM seen')).rows).toEqual([{ who: 'app' }, { who: 'app' }])
  await until(async () => (await backends(postgres, ['app'])).length === 0)
})

test('110: an idle client of session mode keeps its server over a rebuild, which is shown as draining until it leaves', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => document(database, { pool_mode: 'session' }),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  const client = await connect(proxy)
  await client.query("SET application_name = 'mine'")

  const version = await control.apply(fleet, document(postgres, { pool_mode: 'session', server_user: 'app_b' }))
  await untilRuns(operator, version)
  const shown = (await operator.query('SHOW POOL_VERSIONS')).rows
  let reported: unknown
  await until(async () => {
    const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies/proxy-1`)
    reported = (body as { pools: { state: string; draining_servers: number }[] }).pools[0]
    return (reported as { state: string }).state === 'draining'
  })
  const kept = await client.query("SELECT current_user AS who, current_setting('application_name') AS name")
  const newcomer = await (await connect(proxy)).query('SELECT current_user AS who')
  await client.end()

  expect(shown).toMatchObject([{ draining_servers: 1, state: 'in_sync' }])
  expect(reported).toMatchObject({ draining_servers: 1 })
  expect(kept.rows).toEqual([{ who: 'app', name: 'mine' }])
  expect(newcomer.rows).toEqual([{ who: 'app_b' }])
  await until(async () => (await backends(postgres, ['app'])).length === 0)
})

test('113: the same configuration twice is one version, and no server is opened anew', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => document(database, {}),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  const client = await connect(proxy)
  await client.query('SELECT 1')
  const before = await backends(postgres, ['app'])

  const version = await control.apply(fleet, document(postgres, {}))
  await operator.query('RELOAD')
  await client.query('SELECT 1')

  expect(version).toBe(1)
  expect(before).toHaveLength(1)
  expect(await backends(postgres, ['app'])).toEqual(before)
})

test('109: the clients of a removed pool finish their transaction and are told why they must leave', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => document(database, {}),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const inside = await connect(proxy)
  await inside.query('BEGIN')
  const idle = await connect(proxy)
  const ended = new Promise<Error>((resolve) => idle.once('error', resolve))

  const { pools } = document(postgres, {}) as { pools: { app: object } }
  await control.apply(fleet, { ...document(postgres, {}), pools: { other: pools.app } })

  expect(await ended).toMatchObject({ code: '57P01' })
  expect((await inside.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  const told = new Promise<Error>((resolve) => inside.once('error', resolve))
  await inside.query('COMMIT')
  expect(await told).toMatchObject({ code: '57P01' })
  await expect(connect(proxy)).rejects.toMatchObject({ code: '3D000' })
  expect((await (await connect(proxy, { database: 'other' })).query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
})
