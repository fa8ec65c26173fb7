/** Console tables for metrics, so that metrics and SHOW never differ. */
import { Client } from '../engine/pool/client.ts'
import type { Pool } from '../engine/pool/pool.ts'
import type { ServerSource } from '../engine/pool/server-source.ts'
import type { OperatedEngine } from './operated-engine.ts'
import type { ClientGroup, ConsoleTables, ShownRow } from '../snapshot.ts'
import { consoleName } from './console-name.ts'
import { config } from './show/config.ts'
import { databases } from './show/databases.ts'
import { lists } from './show/lists.ts'
import { pools } from './show/pools.ts'
import { statsTotals } from './show/stats.ts'
import { version } from './show/version.ts'
import type { Table } from './table.ts'

/** Clients choose their application_name: this many groups are told apart, the rest is counted as `others`. */
const clientGroupsMax = 1000
const others = '(others)'

type WithPools = Pick<OperatedEngine, 'pools' | 'context'>

/** Pools with series of their own in metrics (`metrics_per_pool`). */
export function poolsWithSeries({ pools, context }: WithPools): Pool[] {
  const { metricsPerPool } = context.general
  if (metricsPerPool === 'none') return []
  return [...pools.all()].filter(({ template }) => metricsPerPool === 'all' || template === null)
}

/** Their servers. */
export function sourcesWithSeries(engine: WithPools): ServerSource[] {
  const withSeries = new Set(poolsWithSeries(engine))
  return [...engine.pools.sources()].filter(({ pools }) => [...pools].some((pool) => withSeries.has(pool)))
}

/** Tables of pools, databases and clients that have series of their own. */
export function consoleTablesOf(engine: OperatedEngine): ConsoleTables {
  const withSeries = poolsWithSeries(engine)
  const names = new Set([consoleName, ...withSeries.map(({ database }) => database)])
  const users = new Set([...withSeries, ...sourcesWithSeries(engine)].map(keyOf))
  const hasSeries = (row: ShownRow): boolean => row['database'] === consoleName || users.has(keyOf(row))
  return {
    databases: shown(databases, engine).filter(({ name }) => names.has(String(name))),
    lists: shown(lists, engine),
    config: shown(config, engine),
    pools: shown(pools, engine).filter(hasSeries),
    stats_totals: shown(statsTotals, engine).filter(({ database }) => names.has(String(database))),
    version: shown(version, engine),
    clients: clientGroups(engine).filter((group) => hasSeries({ ...group })),
  }
}

function keyOf({ database, user }: ShownRow | Pool | ServerSource): string {
  return JSON.stringify([database, user])
}

function shown(table: Table, engine: OperatedEngine): ShownRow[] {
  const rows: ShownRow[] = []
  for (const row of table.rows(engine)) {
    rows.push(Object.fromEntries(table.columns.map(({ name }, index) => [name, row[index] ?? null])))
  }
  return rows
}

/** SHOW CLIENTS, counted. */
function clientGroups({ context }: OperatedEngine): ClientGroup[] {
  const groups = new Map<string, ClientGroup>()
  for (const client of context.clients) {
    const group = groupOf(client)
    let key = JSON.stringify(group)
    if (!groups.has(key) && groups.size >= clientGroupsMax) {
      group.application_name = others
      key = JSON.stringify(group)
    }
    const known = groups.get(key)
    if (known === undefined) groups.set(key, { ...group, count: 1 })
    else known.count++
  }
  return [...groups.values()]
}

function groupOf(client: OperatedEngine['context']['clients'] extends Set<infer Item> ? Item : never): ClientGroup {
  if (!(client instanceof Client)) {
    const { user, applicationName } = client
    return { database: consoleName, user, application_name: applicationName, state: 'active', count: 0 }
  }
  const { pool, parameters, list } = client
  const application_name = parameters.values.get('application_name') ?? ''
  return { database: pool.database, user: pool.user, application_name, state: list?.name ?? '', count: 0 }
}
