import { expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import type { Postgres } from '../../support/postgres.ts'
import { backends, common, connect, fleet, openConsole, poolVersion, startWorld, untilRuns } from './world.ts'

function document({ port }: Postgres, keys: object): object {
  return {
    ...common,
    defaults: { auth_user: 'asker', auth_password: 'asks', auth_database: 'postgres', server_auth: 'passthrough' },
    pools: { '*': { servers: [{ host: '127.0.0.1', port }], users: { '*': keys } } },
  }
}

interface PoolLine {
  readonly pool: string
  readonly user: string
  readonly state: string
  readonly dynamic_pools?: number
}

test('"*" is one line of the plan and of each report, and what was made for it follows its versions', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: {
      auth: 'scram-sha-256',
      sql: [
        "CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'asks'",
        "CREATE ROLE app LOGIN PASSWORD 'app'",
        "CREATE ROLE web LOGIN PASSWORD 'web'",
      ],
    },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => document(database, {}),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  const clients = [
    await connect(proxy, { user: 'app', password: 'app', database: 'postgres' }),
    await connect(proxy, { user: 'web', password: 'web', database: 'postgres' }),
  ]
  for (const client of clients) await client.query('SELECT 1')
  const before = await backends(postgres, ['app', 'web'])

  const version = await control.apply(fleet, document(postgres, { pool_size: 5 }))
  await untilRuns(operator, version, '*', '*')
  const made = await poolVersion(operator, 'web', 'postgres')
  let lines: readonly PoolLine[] = []
  await until(async () => {
    const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies/proxy-1`)
    lines = (body as { pools: PoolLine[] }).pools
    return lines[0]?.dynamic_pools === 2
  })
  const after = await backends(postgres, ['app', 'web'])

  expect(lines).toMatchObject([{ pool: '*', user: '*', state: 'running', dynamic_pools: 2 }])
  expect(made).toMatchObject({ desired_version: String(version), state: 'in_sync' })
  expect(after).toEqual(before)
  expect(proxy.log.join('\n')).not.toMatch(/asks|SCRAM-SHA-256\$/)
})
