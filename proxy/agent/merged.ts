/** Merges the snapshots and tables of workers into those of the process. */
import type { OperationOutcome } from '../../shared/wire.ts'
import { mergedServing } from '../snapshot.ts'
import type {
  AuthQuerySnapshot,
  EngineSnapshot,
  ConsoleTables,
  ShownRow,
  PoolSnapshot,
  PoolTotals,
} from '../snapshot.ts'
import type { PreflightOutcome } from '../spec.ts'

export function mergedOutcome(outcomes: readonly OperationOutcome[]): OperationOutcome {
  return {
    known: outcomes.some(({ known }) => known),
    paused: outcomes.every(({ paused }) => paused),
    servers: outcomes.reduce((sum, { servers }) => sum + servers, 0),
  }
}

export function mergedPreflight(outcomes: readonly PreflightOutcome[]): PreflightOutcome {
  return {
    refused: outcomes.flatMap(({ refused }) => refused),
    failing: outcomes.flatMap(({ failing }) => failing),
    unknown: outcomes.flatMap(({ unknown }) => unknown),
    attempts: outcomes.reduce((sum, { attempts }) => sum + attempts, 0),
  }
}

/** One line per pool, over all workers. */
export function mergedSnapshot(snapshots: readonly EngineSnapshot[]): EngineSnapshot {
  const [first] = snapshots
  if (first === undefined) throw new Error('there is at least one worker')
  if (snapshots.length === 1) return first
  const pools = Map.groupBy(
    snapshots.flatMap((snapshot) => snapshot.pools),
    ({ pool, user }) => JSON.stringify([pool, user]),
  )
  const sum = (of: (snapshot: EngineSnapshot) => number): number => snapshots.reduce((all, one) => all + of(one), 0)
  return {
    running: first.running,
    clients: sum(({ clients }) => clients),
    clientsLogin: sum(({ clientsLogin }) => clientsLogin),
    loginsDelayed: sum(({ loginsDelayed }) => loginsDelayed),
    pools: [...pools.values()].map((parts) => parts.reduce(mergedPool)),
    authQueries: mergedAuthQueries(snapshots.flatMap(({ authQueries }) => authQueries)),
    refused: snapshots.map(({ refused }) => refused).reduce(added),
    overrides: [...new Set(snapshots.flatMap(({ overrides }) => overrides))],
    ...tablesOf(snapshots.flatMap(({ tables }) => tables ?? [])),
  }
}

function mergedPool(one: PoolSnapshot, other: PoolSnapshot): PoolSnapshot {
  return {
    pool: one.pool,
    user: one.user,
    hash: one.hash ?? other.hash,
    overridden: one.overridden || other.overridden,
    serving: mergedServing([one.serving, other.serving]),
    ...(one.sharedServers === true && other.sharedServers === true ? { sharedServers: true } : {}),
    clientsActive: one.clientsActive + other.clientsActive,
    clientsIdle: one.clientsIdle + other.clientsIdle,
    clientsWaiting: one.clientsWaiting + other.clientsWaiting,
    serversActive: one.serversActive + other.serversActive,
    serversIdle: one.serversIdle + other.serversIdle,
    serversLogin: one.serversLogin + other.serversLogin,
    serversReplication: one.serversReplication + other.serversReplication,
    serversPinned: one.serversPinned + other.serversPinned,
    serversDraining: one.serversDraining + other.serversDraining,
    maxWaitMs: Math.max(one.maxWaitMs, other.maxWaitMs),
    poolSize: Math.max(one.poolSize, other.poolSize),
    // Both have the same keys.
    totals: added({ ...one.totals }, { ...other.totals }) as unknown as PoolTotals,
    waits: one.waits.map((count, at) => count + (other.waits[at] ?? 0)),
    serverErrors: added(one.serverErrors, other.serverErrors),
    closed: added(one.closed, other.closed),
    refused: added(one.refused, other.refused),
  }
}

function mergedAuthQueries(all: readonly AuthQuerySnapshot[]): AuthQuerySnapshot[] {
  const groups = Map.groupBy(all, ({ database, user }) => JSON.stringify([database, user]))
  return [...groups.values()].map((parts) =>
    parts.reduce((one, other) => ({
      ...one,
      connections: {
        new: one.connections.new + other.connections.new,
        idle: one.connections.idle + other.connections.idle,
        active: one.connections.active + other.connections.active,
      },
      waiting: one.waiting + other.waiting,
    })),
  )
}

function tablesOf(all: readonly ConsoleTables[]): { readonly tables?: ConsoleTables } {
  const [first] = all
  if (first === undefined) return {}
  const clients = Map.groupBy(
    all.flatMap((tables) => tables.clients),
    ({ database, user, application_name: name, state }) => JSON.stringify([database, user, name, state]),
  )
  const pools = joined(
    all.map((tables) => tables.pools),
    ['database', 'user'],
    poolCounts,
  )
  const different = (column: string): number => new Set(pools.map((row) => row[column])).size
  // A pool created for "*" is known to one worker only.
  const ofNames = new Map([
    ['databases', different('database')],
    ['users', different('user')],
    ['pools', pools.length],
  ])
  return {
    tables: {
      ...first,
      databases: joined(
        all.map(({ databases }) => databases),
        ['name'],
        ['max_connections', 'current_connections', 'current_client_connections'],
      ),
      lists: joined(
        all.map(({ lists }) => lists),
        ['list'],
        ['items'],
        (row) => heldByOne.has(String(row['list'])),
      ).map((row) => ({ ...row, items: ofNames.get(String(row['list'])) ?? row['items'] ?? null })),
      pools,
      stats_totals: joined(
        all.map(({ stats_totals: totals }) => totals),
        ['database'],
        Object.keys(first.stats_totals[0] ?? {}).filter((column) => column !== 'database'),
      ),
      clients: [...clients.values()].map((groups) => {
        const [group] = groups as [(typeof groups)[number]] // never empty
        return { ...group, count: groups.reduce((sum, { count }) => sum + count, 0) }
      }),
    },
  }
}

/** Rows of SHOW LISTS that are counted per worker. */
const heldByOne: ReadonlySet<string> = new Set(['used_clients', 'login_clients', 'used_servers'])

const poolCounts = (
  'cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled ' +
  'sv_idle sv_used sv_tested sv_login'
).split(' ')

/** Merges rows with equal `keys` by adding up the columns `summed`. */
function joined(
  ofWorkers: readonly (readonly ShownRow[])[],
  keys: readonly string[],
  summed: readonly string[],
  isSummed: (row: ShownRow) => boolean = () => true,
): ShownRow[] {
  const groups = Map.groupBy(ofWorkers.flat(), (row) => JSON.stringify(keys.map((key) => row[key])))
  return [...groups.values()].map((rows) => {
    const [row] = rows as [ShownRow] // never empty
    if (!isSummed(row)) return row
    const sums = summed.map((column) => [column, rows.reduce((sum, one) => sum + Number(one[column] ?? 0), 0)] as const)
    return { ...row, ...Object.fromEntries(sums) }
  })
}

type Counts = Readonly<Record<string, number>>

function added(one: Counts, other: Counts): Counts {
  const sums = { ...one }
  for (const [key, count] of Object.entries(other)) sums[key] = (sums[key] ?? 0) + count
  return sums
}
