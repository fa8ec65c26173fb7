import { expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { backends, common, connect, fleet, openConsole, startWorld, untilRuns } from './world.ts'

const sql = ['CREATE ROLE app LOGIN', 'CREATE TABLE whoami (name text)', 'GRANT ALL ON whoami TO PUBLIC']

function document({ port }: Postgres): object {
  return {
    ...common,
    pools: {
      app: {
        database: 'postgres',
        pool_size: 5,
        servers: [{ host: '127.0.0.1', port, role: 'primary' }],
        users: { app: { password: 'app' } },
      },
    },
  }
}

test('108: PAUSE, a version with a new host, RESUME: 50 waiting clients and new logins see no error', async () => {
  const next = await startPostgres({ sql: [...sql, "INSERT INTO whoami VALUES ('new')"] })
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: [...sql, "INSERT INTO whoami VALUES ('old')"] },
    proxies: [{ id: 'proxy-1' }],
    document,
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  const clients = await Promise.all(Array.from({ length: 50 }, () => connect(proxy)))
  const whoami = async (client: { query: (text: string) => Promise<{ rows: unknown[] }> }): Promise<unknown> =>
    (await client.query('SELECT name FROM whoami')).rows[0]
  const inside = clients[0] as (typeof clients)[0]
  await inside.query('BEGIN')
  const before = await whoami(inside)

  const paused = operator.query('PAUSE app')
  const watcher = await openConsole(proxy)
  const state = async (): Promise<Record<string, unknown> | undefined> =>
    (await watcher.query<Record<string, unknown>>('SHOW DATABASES')).rows.find(({ name }) => name === 'app')
  await until(async () => (await state())?.['paused'] === 1)
  const answers = clients.slice(1).map(whoami)
  const stillOpen = await whoami(inside)
  await inside.query('COMMIT')
  await paused
  const left = await backends(postgres, ['app'])
  answers.push(whoami(inside))
  await until(async () => {
    const { rows } = await watcher.query<Record<string, unknown>>('SHOW POOLS')
    return rows.some(({ database, cl_waiting }) => database === 'app' && cl_waiting === 50)
  })
  const version = await control.apply(fleet, document(next))
  await untilRuns(watcher, version)
  const newcomers = Array.from({ length: 5 }, async () => await whoami(await connect(proxy)))
  await until(async () => {
    const { rows } = await watcher.query<Record<string, unknown>>('SHOW POOLS')
    return rows.some(({ database, cl_waiting }) => database === 'app' && cl_waiting === 55)
  })
  const opened = await backends(next, ['app'])
  await watcher.query('RESUME app')

  expect(await Promise.all([...answers, ...newcomers])).toEqual(Array.from({ length: 55 }, () => ({ name: 'new' })))
  expect([before, stillOpen]).toEqual([{ name: 'old' }, { name: 'old' }])
  expect({ left, opened }).toEqual({ left: [], opened: [] })
  expect(await state()).toMatchObject({ paused: 0 })
})
