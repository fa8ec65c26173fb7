/** How the monitoring tools people already run read this console: their own rules, applied to our answers. */
import type { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { startPostgres } from '../../support/postgres.ts'
import { query } from '../../support/frontend-messages.ts'
import { WireClient } from '../../support/wire.ts'
import { EngineInProcess, poolSpec } from './engine-in-process.ts'

const postgres = await startPostgres()
const running = new EngineInProcess()
let console: Client
beforeAll(async () => {
  running.apply(1, [poolSpec({ port: postgres.port })])
  const client = await running.connect({ user: 'web', database: 'app', application_name: 'shop' })
  await client.query('SELECT 1')
  console = await running.console('monitor')
})

interface Answer {
  readonly columns: readonly string[]
  /** Texts as on the wire. */
  readonly rows: readonly Readonly<Record<string, string | null>>[]
}

async function show(command: string): Promise<Answer> {
  const { fields, rows } = await console.query<Record<string, string | null>>({
    text: command,
    types: { getTypeParser: () => (value: string) => value },
  })
  return { columns: fields.map((field) => field.name), rows }
}

const integer = /^-?\d+$/

/** What a tool would stumble over; every answer has a row of the pool and one of the console. */
function notIntegers(rows: Answer['rows'], columns: readonly string[]): string[] {
  expect(rows).toHaveLength(2)
  return rows.flatMap((row) =>
    columns.filter((column) => !integer.test(row[column] ?? '')).map((column) => `${column} = ${row[column]}`),
  )
}

test('pgbouncer_exporter may log in with extra_float_digits', async () => {
  const client = await WireClient.login(
    { host: '127.0.0.1', port: running.port },
    { user: 'monitor', database: 'pgbouncer', parameters: { extra_float_digits: '2', datestyle: 'ISO, MDY' } },
  )

  client.send(query('SHOW STATS'))
  const tags = (await client.readUntil('Z')).map(({ tag }) => tag)

  expect(tags[0]).toBe('T')
})

test('pgbouncer_exporter: SHOW VERSION is one column of one row', async () => {
  const { columns, rows } = await show('SHOW VERSION;')

  expect(columns).toEqual(['version'])
  expect(rows).toHaveLength(1)
})

test('pgbouncer_exporter: SHOW LISTS is two columns, the second a number', async () => {
  const { columns, rows } = await show('SHOW LISTS;')

  expect(columns).toHaveLength(2)
  for (const row of rows) expect(Number.parseFloat(row['items'] ?? '')).not.toBeNaN()
})

test('pgbouncer_exporter: SHOW CONFIG is four columns, and the two limits it reads are numbers', async () => {
  const { columns, rows } = await show('SHOW CONFIG;')
  const valueOf = (key: string): string => rows.find((row) => row['key'] === key)?.['value'] ?? ''

  expect(columns).toHaveLength(4)
  expect(valueOf('max_client_conn')).toMatch(integer)
  expect(valueOf('max_user_connections')).toMatch(integer)
})

test('pgbouncer_exporter counts clients by database, user and state', async () => {
  const { rows } = await show('SHOW CLIENTS;')

  expect(rows).toHaveLength(running.engine.context.clients.size)
  for (const row of rows) {
    expect(row['database']).toBeTruthy()
    expect(row['user']).toBeTruthy()
    expect(['active', 'idle', 'waiting', 'active_cancel_req', 'waiting_cancel_req']).toContain(row['state'])
  }
})

test.for([
  ['SHOW DATABASES;', 'name host port database force_user pool_mode', 'pool_size reserve_pool_size max_connections'],
  ['SHOW DATABASES;', 'name', 'current_connections paused disabled min_pool_size max_client_connections'],
  ['SHOW STATS_TOTALS;', 'database', 'query_count query_time bytes_received bytes_sent wait_time xact_count xact_time'],
  ['SHOW STATS_TOTALS;', 'database', 'client_parse_count server_parse_count bind_count server_assignment_count'],
  ['SHOW POOLS;', 'database user', 'cl_active cl_active_cancel_req cl_waiting cl_waiting_cancel_req sv_active'],
  [
    'SHOW POOLS;',
    'pool_mode',
    'sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us',
  ],
] as const)('pgbouncer_exporter: %s has the labels %s and the numbers %s', async ([command, labels, numbers]) => {
  const { columns, rows } = await show(command)

  expect(columns).toEqual(expect.arrayContaining(labels.split(' ')))
  expect(notIntegers(rows, numbers.split(' '))).toEqual([])
})

test('Telegraf reads every column of SHOW STATS but the database as an integer', async () => {
  const { columns, rows } = await show('SHOW STATS')
  const read = columns.filter((column) => !['database', 'user', 'pool_mode'].includes(column))

  expect(rows.map((row) => row['database'])).toEqual(['app', 'pgbouncer'])
  expect(notIntegers(rows, read)).toEqual([])
})

test('Netdata finds PgBouncer above 1.8.0 in the version, and numbers where it computes', async () => {
  const version = (await show('SHOW VERSION')).rows[0]?.['version'] ?? ''
  const databases = await show('SHOW DATABASES')

  const [, major, minor] = /PgBouncer (\d+)\.(\d+)\.\d+/.exec(version) ?? []
  expect(Number(major) * 100 + Number(minor)).toBeGreaterThan(108)
  const computed = ['max_connections', 'current_connections', 'paused', 'disabled']
  expect(notIntegers(databases.rows, computed)).toEqual([])
})

test('Datadog reads times by its format, and the version by its expression', async () => {
  const version = (await show('SHOW VERSION')).rows[0]?.['version'] ?? ''
  const connections = [...(await show('SHOW CLIENTS')).rows, ...(await show('SHOW SERVERS')).rows]

  expect(/\d+\.\d+\.\d+/.exec(version)?.[0]).toBe('1.25.2')
  expect(connections.length).toBeGreaterThanOrEqual(3)
  for (const row of connections) {
    expect(row['connect_time']).toMatch(/^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}( UTC)?$/)
    expect(row['request_time']).toMatch(/^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}( UTC)?$/)
  }
})
