/** A PostgreSQL, an engine with the same database behind each pool mode and size, and both asked the same. */
import { expect } from 'vitest'
import { startEngine } from '../../support/engine.ts'
import type { Document, Engine } from '../../support/engine.ts'
import { query } from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import type { Step } from '../../support/oracle.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { Postgres, PostgresOptions } from '../../support/postgres.ts'
import { WireClient } from '../../support/wire.ts'
import type { LoginOptions, Message } from '../../support/wire.ts'

/** Every pool has user `app`, who is trusted, and database `app`. */
export const pools = {
  transaction1: { pool_mode: 'transaction', pool_size: 1 },
  transaction5: { pool_mode: 'transaction', pool_size: 5 },
  session1: { pool_mode: 'session', pool_size: 1 },
  session5: { pool_mode: 'session', pool_size: 5 },
} as const
export type PoolName = keyof typeof pools
export const poolNames = Object.keys(pools) as PoolName[]

export interface World {
  readonly postgres: Postgres
  readonly engine: Engine
  readonly document: Document
}

type PoolSections = Readonly<Record<string, Readonly<Record<string, unknown>>>>

export interface WorldOptions extends PostgresOptions {
  /** Of `[general]`. */
  readonly general?: Readonly<Record<string, string | number>>
  /** Threads of the engine, which are started again when they die; when not given, it is one that is not. */
  readonly workers?: number
  /** Of `[admin_users]`. */
  readonly consoleUsers?: Readonly<Record<string, object>>
  /** Of `[defaults]`. */
  readonly defaults?: Readonly<Record<string, string | number>>
  /** Further pools, by name: the keys of one pool section that differ from what every pool has. */
  readonly pools?: (postgres: Postgres) => Promise<PoolSections> | PoolSections
}

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const { sql = [], general = {}, consoleUsers = {}, defaults = {} } = options
  const postgres = await startPostgres({
    ...options,
    sql: ['CREATE ROLE app LOGIN', 'CREATE DATABASE app OWNER app'],
  })
  const further = (await options.pools?.(postgres)) ?? {}
  for (const statement of sql) await postgres.sql(statement, [], 'app')
  const servers = [{ host: '127.0.0.1', port: postgres.port }]
  const section = (keys: object): object => ({ database: 'app', servers, users: { app: {} }, ...keys })
  const document = {
    general,
    admin_users: consoleUsers,
    defaults: { auth_type: 'trust', ...defaults },
    pools: Object.fromEntries(Object.entries({ ...pools, ...further }).map(([name, keys]) => [name, section(keys)])),
  }
  return {
    postgres,
    engine: await startEngine(document, options.workers === undefined ? {} : { workers: options.workers }),
    document,
  }
}

/** Logs in through a pool as `app`. */
export async function loginTo(
  { engine }: World,
  pool: string,
  options: Partial<LoginOptions> = {},
): Promise<WireClient> {
  return await WireClient.login(engine, { user: 'app', database: pool, ...options })
}

export async function loginDirectly({ postgres }: World, options: Partial<LoginOptions> = {}): Promise<WireClient> {
  return await WireClient.login(postgres, { user: 'app', database: 'app', ...options })
}

/**
 * The same bytes to PostgreSQL and through every pool: the answers must be the same. `before` puts the database in
 * order before each run. Gives the answers.
 */
export async function compare(
  world: World,
  steps: readonly Step[],
  options: { readonly before?: string; readonly login?: Partial<LoginOptions> } = {},
): Promise<string[]> {
  const run = async (client: Promise<WireClient>): Promise<string[]> => {
    if (options.before !== undefined) await world.postgres.sql(options.before, [], 'app')
    const answers = await transcript(await client, steps)
    await leave(await client)
    return answers
  }
  const wanted = await run(loginDirectly(world, options.login))
  for (const pool of poolNames) {
    expect(await run(loginTo(world, pool, options.login)), `through ${pool}`).toEqual(wanted)
  }
  return wanted
}

/** Resolves when the proxy has closed the connection of each. */
export async function leave(...clients: readonly WireClient[]): Promise<void> {
  for (const client of clients) {
    client.close()
    await client.readToEnd()
    client.destroy()
  }
}

/** The first column of the first row as text; "NULL", or the whole answer if there is no row. */
export async function value(client: WireClient, sql: string): Promise<string> {
  client.send(query(sql))
  return firstValue(await client.readUntil('Z'))
}

export function firstValue(messages: readonly Message[]): string {
  const row = messages.find(({ tag }) => tag === 'D')
  if (row === undefined) return messages.map(describe).join(' ')
  return columnsOf(row.body)[0] ?? 'NULL'
}

/** The reasons that SHOW PINS gives for a pool's pins; the world has a console user `admin`, who is trusted. */
export async function pins(world: World, pool: string): Promise<string[]> {
  const console = await loginTo(world, 'pgbouncer', { user: 'admin' })
  console.send(query('SHOW PINS'))
  const rows = (await console.readUntil('Z')).filter(({ tag }) => tag === 'D').map(({ body }) => columnsOf(body))
  await leave(console)
  return rows.filter(([database]) => database === pool).map((row) => row[4] ?? '')
}

/** DataRow: Int16 number of columns, { Int32 length (-1 for NULL), value } … */
function columnsOf(body: Buffer): (string | null)[] {
  const columns: (string | null)[] = []
  for (let at = 2; at < body.length;) {
    const length = body.readInt32BE(at)
    columns.push(length < 0 ? null : body.toString('utf8', at + 4, at + 4 + length))
    at += 4 + Math.max(0, length)
  }
  return columns
}
