/** Control's store is restored from a backup that is older than what its proxies run. */
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { flotilla } from '../../support/command-line.ts'
import { until } from '../../support/engine.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startProxy } from '../../support/processes.ts'
import type { ControlProcess, ProxyProcess } from '../../support/processes.ts'
import { common, connect, fleet, startWorld } from './world.ts'
import type { Proxy } from '../../../shared/api.ts'

const documentOf =
  (poolSize: number) =>
  ({ port }: Postgres) => ({
    ...common,
    defaults: { pool_size: poolSize },
    pools: {
      app: {
        database: 'postgres',
        servers: [{ host: '127.0.0.1', port }],
        server_password: { secret: 'db' },
        users: { app: { password: 'app' } },
      },
    },
  })

async function put(control: ControlProcess, value: string): Promise<unknown> {
  return (await control.call('PUT', `/v1/fleets/${fleet}/secrets/db`, { value })).body
}

/** State and position of each proxy. */
async function states(control: ControlProcess): Promise<Record<string, string>> {
  const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies`)
  const all = (body as { proxies: Proxy[] }).proxies.map(
    ({ id, state, applied }) => [id, `${state} e${applied?.epoch}.v${applied?.version}`] as const,
  )
  return Object.fromEntries(all)
}

async function untilStates(control: ControlProcess, wanted: Record<string, string>): Promise<void> {
  let last: unknown
  await until(
    async () => {
      last = await states(control)
      return JSON.stringify(last) === JSON.stringify(wanted)
    },
    () => `${JSON.stringify(wanted)}, not ${JSON.stringify(last)}`,
  )
}

/** The password of the role is this from now on, for new connections; there are no others. */
async function rotate(postgres: Postgres, password: string): Promise<void> {
  await postgres.sql(`ALTER ROLE app PASSWORD '${password}'`)
  await postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
}

/** A client gets an answer, over a server that logged in just now. */
async function serves(proxy: ProxyProcess): Promise<string> {
  const client = await connect(proxy)
  try {
    const { rows } = await client.query<{ user: string }>('SELECT current_user AS user')
    return rows[0]!.user
  } finally {
    await client.end()
  }
}

async function startRotated() {
  const sql = ["CREATE ROLE app LOGIN PASSWORD 'first'"]
  const { postgres, control, token } = await startWorld({
    postgres: { auth: 'scram-sha-256', sql },
    proxies: [],
    document: (server) => ({
      ...documentOf(1)(server),
      pools: { app: { ...documentOf(1)(server).pools.app, server_password: '' } },
    }),
  })
  await put(control, 'first')
  await control.apply(fleet, documentOf(2)(postgres)) // v2
  const proxies = await Promise.all(
    ['one', 'two'].map(async (id) => await startProxy({ control, fleet, token }, { id })),
  )
  const backup = join(control.folder, 'backup.db')
  const database = new Database(join(control.folder, 'control.db'), { readonly: true })
  await database.backup(backup)
  database.close()
  // Lost: the password is rotated, and there are two more versions.
  await rotate(postgres, 'lost')
  expect(await put(control, 'lost')).toMatchObject({ version: 2 })
  await control.apply(fleet, documentOf(3)(postgres)) // v3
  await untilStates(control, { one: 'in_sync e1.v3', two: 'in_sync e1.v3' })
  await control.apply(fleet, documentOf(4)(postgres)) // v4
  await untilStates(control, { one: 'in_sync e1.v4', two: 'in_sync e1.v4' })
  expect(await Promise.all(proxies.map(serves))).toEqual(['app', 'app'])
  const [one, two] = proxies as [ProxyProcess, ProxyProcess]
  return { postgres, control, one, two, backup }
}

async function restore(control: ControlProcess, backup: string): Promise<void> {
  await control.stop()
  for (const end of ['', '-wal', '-shm']) rmSync(join(control.folder, `control.db${end}`), { force: true })
  cpSync(backup, join(control.folder, 'control.db'))
  await control.start()
}

const timeout = 120_000

test(
  'proxies above a restored store are regressed; one epoch raise brings them back, and a lost password is not used',
  { timeout },
  async () => {
    const { postgres, control, one, two, backup } = await startRotated()
    // It has seen v4 of the lost store, and comes back when there is a v4 again.
    await two.stop()
    await restore(control, backup)
    await until(
      async () => (await states(control))['one'] === 'regressed e1.v4',
      () => 'the restored store is noticed',
    )
    const ready = await (await fetch(`${control.url}/readyz`)).text()
    const metrics = await (await fetch(`${control.url}/metrics`)).text()
    const environment = { FLOTILLA_URL: control.url, FLOTILLA_TOKEN: control.token, FLOTILLA_FLEET: fleet }
    const listed = await flotilla(['proxies'], { environment })

    const raised = await flotilla(['epoch', 'raise', '--yes'], { environment })
    // The password of the backup is not the servers' any more, so it tries the restored version and keeps what serves.
    await until(
      async () => (await states(control))['one'] === 'failed e1.v4',
      () => 'it tries the restored version',
    )
    await rotate(postgres, 'second')
    const again = await put(control, 'second')
    await control.apply(fleet, documentOf(3)(postgres)) // v3
    await control.apply(fleet, documentOf(4)(postgres)) // v4
    await two.start()
    await untilStates(control, { one: 'in_sync e2.v4', two: 'in_sync e2.v4' })
    const served = [await serves(one), await serves(two)]
    const { rows } = await postgres.sql("SELECT count(*)::int AS backends FROM pg_stat_activity WHERE usename = 'app'")

    expect(ready).toMatch(/^ok\nthe store is behind 1 proxies of fleet test: see flotilla epoch raise\n$/)
    expect(metrics).toContain('flotilla_control_proxies{fleet="test",state="regressed"} 1')
    expect(listed.stdout).toMatch(/^one +regressed +v4 .*above control's v2.*flotilla epoch raise/m)
    expect(control.log.some((line) => line.includes('the store is behind its proxies: one of fleet test'))).toBe(true)
    expect(raised).toMatchObject({ code: 0, stderr: expect.stringContaining('test/one: v4 of epoch 1') as string })
    expect(raised.stdout).toMatch(/^the epoch is now 2: /)
    // The number of the lost password, in another epoch.
    expect(again).toMatchObject({ version: 2 })
    expect(served).toEqual(['app', 'app'])
    expect(rows).toMatchObject([{ backends: 2 }])
    expect(await (await fetch(`${control.url}/readyz`)).text()).toBe('ok\n')
  },
)

test('what was written to a restored store before the raise is not taken for what was lost', { timeout }, async () => {
  const { postgres, control, one, two, backup } = await startRotated()
  await restore(control, backup)
  // The same numbers as in the lost store, with another value.
  await put(control, 'second')
  await control.apply(fleet, documentOf(3)(postgres)) // v3
  await control.apply(fleet, documentOf(4)(postgres)) // v4
  await rotate(postgres, 'second')

  await control.call('POST', '/v1/epoch', { to: 2 })
  await until(
    async () => Object.values(await states(control)).every((state) => state.endsWith('e2.v4')),
    () => 'both follow the restored store',
  )

  expect([await serves(one), await serves(two)]).toEqual(['app', 'app'])
})
