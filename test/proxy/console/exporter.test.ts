/** pgbouncer_exporter and our own page of metrics: by the exporter's rules, and by the exporter itself. */
import { spawn } from 'node:child_process'
import type { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { generalSettings } from '../../../shared/config/settings.ts'
import { Metrics } from '../../../proxy/agent/metrics.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import { freePort } from '../../support/free-port.ts'
import { startPostgres } from '../../support/postgres.ts'
import { hasProgram } from '../../support/program.ts'
import { EngineInProcess, poolSpec } from './engine-in-process.ts'
import { exported, seriesOf } from './exporter-rules.ts'
import type { Shown } from './exporter-rules.ts'

const postgres = await startPostgres({ sql: ['CREATE ROLE app_rw LOGIN'] })
const running = new EngineInProcess()
let console: Client
beforeAll(async () => {
  const { port } = postgres
  running.apply(1, [
    poolSpec({ port, serverUser: 'app_rw' }, { pool_size: 2, reserve_pool_size: 1 }),
    poolSpec({ port, database: 'blog', user: 'reader' }, { max_user_connections: 7 }),
  ])
  const clients = await Promise.all(
    [1, 2, 3].map(() => running.connect({ user: 'web', database: 'app', application_name: 'shop' })),
  )
  for (const client of clients.slice(1)) await client.query('BEGIN')
  const waiting = clients[0]?.query('SELECT 1')
  await running.until(() => running.engine.pools.find('app', 'web')?.waiting.size === 1)
  await clients[1]?.query('COMMIT')
  await waiting
  console = await running.console('monitor')
})

async function show(command: string): Promise<Shown> {
  const { fields, rows } = await console.query<Record<string, string | null>>({
    text: command,
    types: { getTypeParser: () => (value: string) => value },
  })
  return { columns: fields.map(({ name }) => name), rows }
}

async function page(of = running): Promise<string> {
  return await new Metrics().page(of.operated.snapshot(true), {
    configVersion: 1,
    configEpoch: 1,
    configAgeSeconds: 1,
    configFailed: false,
    orders: [],
    outboxEvents: 0,
    outboxDropped: 0,
    engineRestarts: 0,
    problems: [],
    needsRestart: [],
    operated: undefined,
    proxyVersion: '1',
  })
}

/** What a query changes by itself: the console's own statistics and its session. */
const moving = /database="pgbouncer"|^pgbouncer_used_clients$|^pgbouncer_exporter_build_info/

function settled(series: Map<string, number>): Record<string, number> {
  return Object.fromEntries([...series].filter(([name]) => name.startsWith('pgbouncer_') && !moving.test(name)))
}

/** SHOW STATS_TOTALS has one more column than the exporter knows. */
const unknownToExporter = /client_logins_total/

test('our page of metrics has every series that pgbouncer_exporter makes of our console, with its value', async () => {
  const theirs = settled(await exported(show))
  const ours = settled(seriesOf(await page()))

  const common = Object.fromEntries(Object.entries(ours).filter(([name]) => !unknownToExporter.test(name)))
  expect(common).toEqual(theirs)
  expect(Object.keys(theirs).length).toBeGreaterThan(50)
  expect(theirs).toMatchObject({
    'pgbouncer_pools_server_active_connections{database="app",user="web"}': 1,
    'pgbouncer_client_connections{application_name="shop",database="app",state="active",user="web"}': 1,
    'pgbouncer_client_connections{application_name="shop",database="app",state="idle",user="web"}': 2,
    pgbouncer_config_max_user_connections: 7,
    pgbouncer_up: 1,
  })
})

test('the histogram of waits counts every server that was given away', async () => {
  const series = seriesOf(await page())
  const of = (part: string): number | undefined => series.get(`flotilla_checkout_wait_seconds_${part}`)

  const totals = running.engine.pools.find('app', 'web')?.totals
  // Three clients of a new pool were given a server to be greeted, which is no assignment.
  const given = 3 + (totals?.server_assignment_count ?? 0)
  expect(totals?.server_assignment_count).toBe(3)
  expect(of('count{database="app",user="web"}')).toBe(given)
  expect(of('bucket{database="app",le="+Inf",user="web"}')).toBe(given)
  // The first client's welcome waited, and the query that came before a COMMIT.
  expect(of('bucket{database="app",le="0",user="web"}')).toBeLessThan(given)
  expect(of('sum{database="app",user="web"}')).toBeCloseTo((totals?.wait_time ?? 0) / 1e6, 9)
})

test.for([
  ['all', ['*', 'app', 'one', 'two']],
  ['configured', ['*', 'app']],
  ['none', []],
] as const)('with metrics_per_pool = "%s" the pools with series of their own are %j', async ([mode, expected]) => {
  const several = new EngineInProcess()
  const { port } = postgres
  several.apply(1, [
    poolSpec({ port, serverUser: 'app_rw' }),
    poolSpec({ port, database: '*', user: '*', serverUser: 'app_rw' }),
  ])
  for (const database of ['app', 'one', 'two']) await several.connect({ user: 'web', database })
  several.engine.context.general = generalSettings({ metrics_per_pool: mode })

  const series = [...seriesOf(await page(several)).keys()].filter((name) => !name.includes('"pgbouncer"'))

  const shownAs = series.filter((name) => name.startsWith('pgbouncer_databases_'))
  const rest = series.filter((name) => !name.startsWith('pgbouncer_databases_'))
  const names = (of: readonly string[], label: string): string[] =>
    [...new Set(of.flatMap((name) => new RegExp(`[{,]${label}="([^"]+)"`).exec(name)?.slice(1) ?? []))].sort()
  expect(names(rest, 'database')).toEqual(expected)
  expect(names(shownAs, 'name')).toEqual(expected)
})

test('clients that all have names of their own are told apart up to a limit', async () => {
  const crowd = new EngineInProcess()
  crowd.apply(1, [poolSpec({ port: postgres.port, serverUser: 'app_rw' })])
  await crowd.connect({ user: 'web', database: 'app' })
  const { clients } = crowd.engine.context
  const [model] = clients
  for (let i = 0; i < 1200; i++) {
    const values = new Map([['application_name', `worker ${i}`]])
    clients.add(Object.assign(Object.create(model ?? null), { parameters: { values } }))
  }

  const groups = crowd.operated.snapshot(true).tables?.clients ?? []
  for (const client of clients) if (client !== model) clients.delete(client)

  expect(groups).toHaveLength(1001)
  expect(groups.find(({ application_name }) => application_name === '(others)')?.count).toBe(201)
})

const exporter = 'pgbouncer_exporter'

test.skipIf(!hasProgram(exporter))('pgbouncer_exporter itself finds nothing wrong with our console', async () => {
  const port = await freePort()
  const url = `postgres://monitor@127.0.0.1:${running.port}/pgbouncer?sslmode=disable`
  const child = spawn(exporter, [`--web.listen-address=127.0.0.1:${port}`, `--pgBouncer.connectionString=${url}`])
  atEndOfFile(() => void child.kill())
  let log = ''
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  await until(() => log.includes('Listening on'))

  const answer = await fetch(`http://127.0.0.1:${port}/metrics`)
  const text = await answer.text()
  const theirs = settled(seriesOf(text))

  expect(answer.status).toBe(200)
  expect(theirs['pgbouncer_up']).toBe(1)
  expect(text).not.toContain('NaN')
  expect(log).not.toMatch(/level=(?!INFO)|err/)
  const ours = settled(seriesOf(await page()))
  expect(Object.fromEntries(Object.entries(ours).filter(([name]) => !unknownToExporter.test(name)))).toEqual(theirs)
})
