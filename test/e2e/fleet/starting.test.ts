/** A proxy that starts serves what it can. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startProxyFromFile } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { common, connect, fleet, startWorld } from './world.ts'

const roleStatements = ['CREATE ROLE app LOGIN']
const unset = { env: 'A_PASSWORD_THAT_IS_NOT_SET' }

function document({ port }: Postgres, password: unknown = unset): object {
  const servers = [{ host: '127.0.0.1', port, role: 'primary' }]
  return {
    ...common,
    pools: {
      app: { database: 'postgres', servers, users: { app: { password: 'app' } } },
      variable: { database: 'postgres', servers, users: { app: { password: 'app', server_password: password } } },
      name: { servers: [{ host: 'no-such-host.invalid' }], users: { app: { password: 'app' } } },
      file: {
        servers,
        server_tls_sslmode: 'verify-ca',
        server_tls_ca_file: '/nonexistent/ca.pem',
        users: { app: { password: 'app' } },
      },
    },
  }
}

const reasons = {
  variable: 'missing_environment_variable',
  name: 'unresolvable_host',
  file: 'unusable_tls',
}

test('a missing variable, name or file of one pool keeps a proxy from serving no other, and each is reported', async () => {
  const { control, proxies } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [{ id: 'proxy-1' }],
    document: (postgres) => document(postgres),
  })
  const [proxy] = proxies as [(typeof proxies)[0]]

  const client = await connect(proxy)
  const { rows } = await client.query('SELECT 1 AS one')
  const refusals = await Promise.all(
    Object.keys(reasons).map((database) => connect(proxy, { database }).then(String, (error: Error) => error)),
  )

  expect(rows).toEqual([{ one: 1 }])
  for (const [at, [database, code]] of Object.entries(reasons).entries()) {
    expect(refusals[at]).toMatchObject({ code: '57P03' })
    expect(String(refusals[at])).toContain(`database is not available: ${database}: `)
    expect(String(refusals[at])).toContain(`(${code})`)
  }
  await until(async () => {
    const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies/proxy-1`)
    const { pools } = body as { pools: { pool: string; state: string; code: string | null }[] }
    return Object.entries(reasons).every(([name, code]) =>
      pools.some(({ pool, state, code: told }) => pool === name && state === 'failed' && told === code),
    )
  })
})

test('a proxy that runs from a file serves what it can, too', async () => {
  const postgres = await startPostgres({ sql: roleStatements })
  const file = join(await tempFolder(), 'flotilla.json')
  const { general: _, ...content } = document(postgres) as { general: object }
  await writeFile(file, tomlOf(content))
  const proxy = await startProxyFromFile(file)

  const { rows } = await (await connect(proxy)).query('SELECT 1 AS one')

  expect(rows).toEqual([{ one: 1 }])
  await expect(connect(proxy, { database: 'name' })).rejects.toMatchObject({ code: '57P03' })
})

function withSocketIn(postgres: Postgres, dir: string): object {
  const servers = [{ host: '127.0.0.1', port: postgres.port, role: 'primary' }]
  return {
    ...common,
    general: { ...common.general, unix_socket_dir: dir },
    pools: { app: { database: 'postgres', servers, users: { app: { password: 'app' } } } },
  }
}

test('process settings with which a proxy could not start again are refused, and what runs goes on', async () => {
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => withSocketIn(database, ''),
  })
  const [proxy] = proxies as [(typeof proxies)[0]]

  const version = await control.apply(fleet, withSocketIn(postgres, '/nonexistent'))
  await until(async () => (await proxyOf(control)).state === 'failed')

  expect(await proxyOf(control)).toMatchObject({
    applied: { version: version - 1 },
    error: { code: 'cannot_start', message: expect.stringMatching(/unix_socket_dir.*\/nonexistent/) as string },
  })
  await proxy.stop()
  await proxy.start()
  expect((await (await connect(proxy)).query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
})

test('a proxy whose last version does not work any more starts as it last did, and takes the next one', async () => {
  const dir = await tempFolder()
  const { control, proxies, postgres } = await startWorld({
    postgres: { sql: roleStatements },
    proxies: [{ id: 'proxy-1' }],
    document: (database) => withSocketIn(database, ''),
  })
  const [proxy] = proxies as [(typeof proxies)[0]]
  const poisoned = await control.apply(fleet, withSocketIn(postgres, dir))
  await until(async () => (await proxyOf(control)).applied?.version === poisoned)
  await proxy.stop()
  await rm(dir, { recursive: true })

  await proxy.start()
  const answer = await (await connect(proxy)).query('SELECT 1 AS one')
  const version = await control.apply(fleet, withSocketIn(postgres, ''))

  expect(answer.rows).toEqual([{ one: 1 }])
  await proxy.logged(/trying those that last worked/)
  await until(async () => (await proxyOf(control)).applied?.version === version)
})

interface Shown {
  readonly state: string
  readonly applied: { readonly version: number } | null
}

async function proxyOf(control: { call(method: string, path: string): Promise<{ body: unknown }> }): Promise<Shown> {
  return (await control.call('GET', `/v1/fleets/${fleet}/proxies/proxy-1`)).body as Shown
}

/** The tree as TOML: tables in dotted keys, everything else as JSON, which TOML reads. */
function tomlOf(tree: object, path: readonly string[] = []): string {
  return Object.entries(tree)
    .map(([key, value]: [string, unknown]) => {
      const here = [...path, key]
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) return tomlOf(value, here)
      if (Array.isArray(value)) return `${here.join('.')} = [${value.map(inline).join(', ')}]\n`
      return `${here.join('.')} = ${JSON.stringify(value)}\n`
    })
    .join('')
}

function inline(value: object): string {
  const entries = Object.entries(value).map(([key, one]) => `${key} = ${JSON.stringify(one)}`)
  return `{ ${entries.join(', ')} }`
}
