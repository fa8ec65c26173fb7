/** Faults of the same family as a reload without effect, each shown not to exist. */
import { expect, test } from 'vitest'
import { Agent } from '../../../proxy/agent/agent.ts'
import { defaultWaits } from '../../../proxy/agent/clock.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import type { Postgres } from '../../support/postgres.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { backends, common, connect, fleet, openConsole, poolVersion, startWorld, untilRuns } from './world.ts'

const roles = ['web', 'batch']
const roleStatements = roles.map((role) => `CREATE ROLE ${role} LOGIN`)

function document(
  postgres: Postgres,
  { defaults = {}, web = {}, batch = {}, host = '127.0.0.1' }: Record<string, unknown> = {},
): object {
  return {
    ...common,
    defaults: defaults as object,
    pools: {
      app: {
        database: 'postgres',
        servers: [{ host, port: postgres.port, role: 'primary' }],
        users: {
          web: { password: 'app', ...(web as object) },
          batch: { password: 'app', ...(batch as object) },
        },
      },
    },
  }
}

const one = [{ id: 'proxy-1' }]

test('105: a changed default changes the hash of every pool that inherits it, and of no other', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: one,
    document: (database) => document(database, { batch: { query_wait_timeout: '7s' } }),
  })
  const operator = await openConsole(proxies[0] as (typeof proxies)[0])
  const before = { web: await poolVersion(operator, 'web'), batch: await poolVersion(operator, 'batch') }

  const version = await control.apply(
    fleet,
    document(postgres, { defaults: { query_wait_timeout: '9s' }, batch: { query_wait_timeout: '7s' } }),
  )
  await untilRuns(operator, version, 'web')
  await untilRuns(operator, version, 'batch')

  const now = { web: await poolVersion(operator, 'web'), batch: await poolVersion(operator, 'batch') }
  expect(now.web.running_hash).not.toBe(before.web.running_hash)
  expect(now.batch.running_hash).toBe(before.batch.running_hash)
})

test('107: a version whose host cannot be resolved leaves the old pools serving and is reported with pool and reason', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: one,
    document: (database) => document(database),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  const client = await connect(proxy, { user: 'web' })
  await client.query('SELECT 1')
  const before = await poolVersion(operator, 'web')

  const version = await control.apply(fleet, document(postgres, { host: 'no-such-host.invalid' }))
  const reported = await untilProxy(control, (state) => state === 'failed')

  expect(reported).toMatchObject({ error: { code: 'unresolvable_host', pool: 'app' } })
  expect(JSON.stringify(reported)).toContain('no-such-host.invalid')
  const shown = await poolVersion(operator, 'web')
  expect(shown).toMatchObject({ state: 'failed', running_hash: before.running_hash, desired_version: String(version) })
  expect((await client.query('SELECT 2 AS two')).rows).toEqual([{ two: 2 }])
})

test('a version with a missing environment variable leaves the old pools serving and names pool, user and variable', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: one,
    document: (database) => document(database),
  })
  const client = await connect(proxies[0] as (typeof proxies)[0], { user: 'web' })

  await control.apply(fleet, document(postgres, { web: { server_password: { env: 'WEB_PASSWORD' } } }))
  const failed = await untilProxy(control, (state) => state === 'failed')

  expect(failed).toMatchObject({ error: { code: 'missing_environment_variable', pool: 'app', user: 'web' } })
  expect(JSON.stringify(failed)).toContain('WEB_PASSWORD')
  expect((await client.query('SELECT 2 AS two')).rows).toEqual([{ two: 2 }])
})

test('107: the same version applies once the cause of its failure is gone, without another offer', async () => {
  const { control, postgres, token } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [],
    document: (database) => document(database, { host: 'db.test' }),
  })
  const names = new Map<string, string[]>([['db.test', ['127.0.0.1']]])
  const proxy = await startAgent(control, token, (host) => names.get(host))
  const client = await connect(proxy, { user: 'web' })
  await client.query('SELECT 1')

  const version = await control.apply(fleet, document(postgres, { host: 'new-db.test' }))
  const failed = await untilProxy(control, (state) => state === 'failed')
  expect(failed).toMatchObject({ error: { code: 'unresolvable_host', pool: 'app' } })
  await client.query('SELECT 1')
  names.set('new-db.test', ['127.0.0.1'])

  expect(await untilProxy(control, (state) => state === 'in_sync')).toMatchObject({ applied: { version }, error: null })
  await client.query('SELECT 1')
})

test('one user’s change leaves the server connections of the others alone', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: [...roleStatements, 'CREATE ROLE other LOGIN'] },
    proxies: one,
    document: (database) => document(database),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  await (await connect(proxy, { user: 'web' })).query('SELECT 1')
  await (await connect(proxy, { user: 'batch' })).query('SELECT 1')
  const before = await backends(postgres, ['batch'])
  expect(before).toHaveLength(1)

  const version = await control.apply(fleet, document(postgres, { web: { server_user: 'other' } }))
  await untilRuns(operator, version, 'web')
  await until(async () => (await backends(postgres, ['web'])).length === 0)

  expect(await backends(postgres, ['batch'])).toEqual(before)
})

test('waiting clients and statistics survive a rebuild', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: [...roleStatements, 'CREATE ROLE other LOGIN'] },
    proxies: one,
    document: (database) => document(database, { web: { pool_size: 1 } }),
  })
  const proxy = proxies[0] as (typeof proxies)[0]
  const operator = await openConsole(proxy)
  const holder = await connect(proxy, { user: 'web' })
  await holder.query('BEGIN')
  const waiter = await connect(proxy, { user: 'web' })
  const answer = waiter.query('SELECT current_user AS who')
  await until(async () => (await pools(operator, 'web')).cl_waiting === '1')
  const transactions = async (): Promise<number> => {
    const { rows } = await operator.query<{ database: string; xact_count: string }>('SHOW STATS_TOTALS')
    return Number(rows.find((row) => row.database === 'app')?.xact_count)
  }
  const counted = await transactions()

  const version = await control.apply(fleet, document(postgres, { web: { pool_size: 1, server_user: 'other' } }))
  await untilRuns(operator, version, 'web')

  expect((await answer).rows).toEqual([{ who: 'other' }])
  expect((await holder.query('SELECT current_user AS who')).rows).toEqual([{ who: 'web' }])
  await holder.query('COMMIT')
  expect(await transactions()).toBeGreaterThanOrEqual(counted + 2)
})

async function pools(operator: Awaited<ReturnType<typeof openConsole>>, user: string): Promise<{ cl_waiting: string }> {
  const { rows } = await operator.query<{ user: string; cl_waiting: number }>('SHOW POOLS')
  return { cl_waiting: String(rows.find((row) => row.user === user)?.cl_waiting) }
}

/** A proxy in this process, so that the test decides what names mean; all else of it is real. */
async function startAgent(
  control: { readonly url: string },
  token: string,
  lookup: (host: string) => string[] | undefined,
): Promise<{ host: string; port: number }> {
  const agent = new Agent(
    {
      source: {
        kind: 'control',
        url: control.url,
        fleet,
        token,
        stateFolder: await tempFolder(),
        proxyId: 'proxy-1',
      },
      listen: { host: '127.0.0.1', port: 0 },
      workers: null,
      ioUring: true,
      takeover: null,
      http: { host: '127.0.0.1', port: 0 },
      httpToken: null,
      hintUrl: null,
      peerHost: null,
      region: null,
      version: '0.0.0',
      environment: {},
    },
    {
      log: () => {},
      chance: { now: () => new Date(), random: Math.random },
      waits: defaultWaits,
      lookup: (host) => {
        const addresses = lookup(host)
        return addresses === undefined
          ? Promise.reject(new Error(`no address for ${host}`))
          : Promise.resolve(addresses)
      },
      engineEntry: new URL('../../../proxy/engine/main.ts', import.meta.url),
    },
  )
  atEndOfFile(() => agent.stop('now'))
  await agent.start()
  await until(
    () => agent.notReady === null,
    () => agent.notReady ?? 'ready',
  )
  const address = agent.clientAddress
  if (address === undefined) throw new Error('an agent that is ready listens')
  return address
}

interface ProxyView {
  readonly state: string
}

/** The proxy as control shows it, once its state fits. */
async function untilProxy(
  control: { call(method: string, path: string): Promise<{ body: unknown }> },
  fits: (state: string) => boolean,
): Promise<ProxyView> {
  let last: ProxyView | undefined
  await until(
    async () => {
      const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies/proxy-1`)
      last = body as ProxyView
      return fits(last.state)
    },
    () => JSON.stringify(last),
  )
  return last as ProxyView
}
