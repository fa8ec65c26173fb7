import { collectDefaultMetrics, Counter, Registry } from 'prom-client'
import type { Metric } from 'prom-client'
import type { Disconnect } from '../../shared/disconnect.ts'
import { proxyProblems } from '../../shared/wire.ts'
import type { OperatedState } from '../operation.ts'
import { waitBoundsMs } from '../snapshot.ts'
import type { EngineSnapshot, PoolSnapshot, ShownRow } from '../snapshot.ts'

/** Values of the agent, in addition to the engine's snapshot. */
export interface AgentFigures {
  readonly configVersion: number
  readonly configEpoch: number
  readonly configAgeSeconds: number | undefined
  /** The offered version does not run. */
  readonly configFailed: boolean
  /** The fleet's orders that are in force here. */
  readonly orders: readonly { readonly pool: string; readonly effect: string }[]
  readonly outboxEvents: number
  readonly outboxDropped: number
  readonly engineRestarts: number
  /** Codes of what is wrong with the proxy. */
  readonly problems: readonly string[]
  readonly needsRestart: readonly string[]
  readonly operated: OperatedState | undefined
  readonly proxyVersion: string
}

type Labels = Readonly<Record<string, string>>

/** A histogram; `counts` has one more class than `bounds`. */
interface Distribution {
  readonly counts: readonly number[]
  readonly sum: number
}

interface Figured<Kind, Value> {
  readonly kind: Kind
  readonly name: string
  readonly help: string
  /** Computed at every scrape. */
  readonly rows: (engine: EngineSnapshot, agent: AgentFigures) => readonly (readonly [Labels, Value])[]
}

/** One metric. */
type Line =
  Figured<'gauge' | 'counter', number> | (Figured<'histogram', Distribution> & { readonly bounds: readonly number[] })

/**
 * The metrics of pgbouncer_exporter under its names, so that its dashboards and alerts work unchanged. `labels` are
 * columns of the same row.
 */
const exported: readonly {
  readonly table: 'databases' | 'stats_totals' | 'pools'
  readonly kind: 'gauge' | 'counter'
  readonly labels: readonly string[]
  readonly factor?: number
  /** Column, name after "pgbouncer_<table>_", help. */
  readonly columns: readonly (readonly [column: string, name: string, help: string])[]
}[] = [
  {
    table: 'pools',
    kind: 'gauge',
    labels: ['database', 'user'],
    columns: [
      ['cl_active', 'client_active_connections', 'Client connections that are linked to a server or idle'],
      ['cl_waiting', 'client_waiting_connections', 'Client connections that wait for a server'],
      ['cl_active_cancel_req', 'client_active_cancel_connections', 'Cancel requests being forwarded'],
      ['cl_waiting_cancel_req', 'client_waiting_cancel_connections', 'Cancel requests waiting to be forwarded'],
      ['sv_active', 'server_active_connections', 'Server connections linked to a client'],
      ['sv_active_cancel', 'server_active_cancel_connections', 'Server connections that forward a cancel request'],
      [
        'sv_being_canceled',
        'server_being_canceled_connections',
        'Idle servers waiting for cancel requests to complete',
      ],
      ['sv_idle', 'server_idle_connections', 'Server connections ready for a client'],
      ['sv_used', 'server_used_connections', 'Server connections that need a check before their next use'],
      ['sv_tested', 'server_testing_connections', 'Server connections being reset or checked'],
      ['sv_login', 'server_login_connections', 'Server connections being opened'],
      ['maxwait', 'client_maxwait_seconds', 'Time the oldest client has waited for a server, in whole seconds'],
    ],
  },
  {
    table: 'stats_totals',
    kind: 'counter',
    labels: ['database'],
    columns: [
      ['query_count', 'queries_pooled_total', 'Queries'],
      ['bytes_received', 'received_bytes_total', 'Bytes received from clients'],
      ['bytes_sent', 'sent_bytes_total', 'Bytes received from servers, for clients'],
      ['xact_count', 'sql_transactions_pooled_total', 'Transactions'],
      ['client_parse_count', 'client_parses_total', 'Named statements prepared by clients, where names are tracked'],
      ['server_parse_count', 'server_parses_total', 'Named statements prepared on servers, where names are tracked'],
      ['bind_count', 'binds_total', 'Binds of named statements, where names are tracked'],
      ['server_assignment_count', 'server_assignments_total', 'Number of times a server was assigned to a client'],
      ['client_login_count', 'client_logins_total', 'Client logins'],
    ],
  },
  {
    table: 'stats_totals',
    kind: 'counter',
    labels: ['database'],
    factor: 1e-6, // microseconds
    columns: [
      ['query_time', 'queries_duration_seconds_total', 'Time spent by servers in queries'],
      ['wait_time', 'client_wait_seconds_total', 'Time spent by clients waiting for a server'],
      ['xact_time', 'server_in_transaction_seconds_total', 'Time spent by servers in transactions'],
    ],
  },
  {
    table: 'databases',
    kind: 'gauge',
    labels: ['name', 'host', 'port', 'database', 'force_user', 'pool_mode'],
    columns: [
      ['pool_size', 'pool_size', 'Maximum server connections of a pool'],
      ['reserve_pool_size', 'reserve_pool', 'Additional server connections for clients that have waited long'],
      ['max_connections', 'max_connections', 'Maximum server connections of the database'],
      ['current_connections', 'current_connections', 'Current server connections of the database'],
      ['paused', 'paused', '1 if paused'],
      ['disabled', 'disabled', '1 if disabled'],
    ],
  },
]

/** Rows of SHOW LISTS and their metrics, after "pgbouncer_". */
const listed: readonly (readonly [list: string, name: string, help: string])[] = [
  ['databases', 'databases', 'Databases'],
  ['users', 'users', 'Users'],
  ['pools', 'pools', 'Pools'],
  ['free_clients', 'free_clients', 'Free client slots: always 0'],
  ['used_clients', 'used_clients', 'Clients that are logged in'],
  ['login_clients', 'login_clients', 'Clients that are logging in'],
  ['free_servers', 'free_servers', 'Free server slots: always 0'],
  ['used_servers', 'used_servers', 'Server connections'],
  ['dns_names', 'cached_dns_names', 'Server names in the DNS cache'],
  ['dns_zones', 'cached_dns_zones', 'DNS zones: always 0'],
  ['dns_queries', 'in_flight_dns_queries', 'DNS queries in flight: always 0'],
]

/** Rows of SHOW CONFIG and their metrics, after "pgbouncer_config_". */
const configured: readonly (readonly [key: string, name: string, help: string])[] = [
  ['max_client_conn', 'max_client_connections', 'Maximum client connections'],
  ['max_user_connections', 'max_user_connections', 'Maximum server connections per user; 0 means no limit'],
]

const none: Labels = {}

function exportedLines(): Line[] {
  return exported.flatMap(({ table, kind, labels, factor = 1, columns }) =>
    columns.map(([column, name, help]): Line => ({
      name: `pgbouncer_${table}_${name}`,
      kind,
      help,
      rows: ({ tables }) => (tables?.[table] ?? []).map((row) => [picked(row, labels), Number(row[column]) * factor]),
    })),
  )
}

/** A row of a table of keys and values. */
function keyed(
  [key, name, help]: readonly [string, string, string],
  of: { prefix: string; table: 'lists' | 'config'; keys: string; values: string },
): Line {
  return {
    name: `pgbouncer_${of.prefix}${name}`,
    kind: 'gauge',
    help,
    rows: ({ tables }) =>
      (tables?.[of.table] ?? [])
        .filter((row) => row[of.keys] === key)
        .map((row) => [none, Number(row[of.values])] as const),
  }
}

/** Clients and servers by their lists. */
const clientStates = [
  ['active', (pool: PoolSnapshot) => pool.clientsActive],
  ['idle', (pool: PoolSnapshot) => pool.clientsIdle],
  ['waiting', (pool: PoolSnapshot) => pool.clientsWaiting],
] as const

const lines: readonly Line[] = [
  ...exportedLines(),
  ...listed.map((list) => keyed(list, { prefix: '', table: 'lists', keys: 'list', values: 'items' })),
  ...configured.map((key) => keyed(key, { prefix: 'config_', table: 'config', keys: 'key', values: 'value' })),
  {
    name: 'pgbouncer_client_connections',
    kind: 'gauge',
    help: 'Clients by database, user, application_name and state',
    rows: ({ tables }) => (tables?.clients ?? []).map(({ count, ...group }) => [{ ...group }, count] as const),
  },
  {
    name: 'pgbouncer_version_info',
    kind: 'gauge',
    help: 'Version of the console',
    rows: ({ tables }) => (tables?.version ?? []).map((row) => [picked(row, ['version']), 1] as const),
  },
  {
    name: 'pgbouncer_up',
    kind: 'gauge',
    help: '1 if the proxy runs a configuration',
    rows: ({ running }) => [[none, running === null ? 0 : 1]],
  },
  {
    name: 'flotilla_clients',
    kind: 'gauge',
    help: 'Clients of a pool by state',
    rows: ({ pools }) =>
      pools.flatMap((pool) =>
        clientStates.map(([state, count]) => [{ ...labelsOf(pool), state }, count(pool)] as const),
      ),
  },
  {
    name: 'flotilla_client_maxwait_seconds',
    kind: 'gauge',
    help: 'Time the oldest client has waited for a server',
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), pool.maxWaitMs / 1000]),
  },
  {
    name: 'flotilla_checkout_wait_seconds',
    kind: 'histogram',
    bounds: [0, ...waitBoundsMs.map((ms) => ms / 1000)],
    help: 'Time between a request and the assignment of a server',
    rows: ({ pools }) =>
      pools.map(({ totals, waits, ...pool }) => {
        return [labelsOf(pool), { counts: waits, sum: totals.wait_time / 1e6 }] as const
      }),
  },
  {
    name: 'flotilla_pool_size',
    kind: 'gauge',
    help: 'Maximum server connections of a pool',
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), pool.poolSize]),
  },
  {
    name: 'flotilla_servers_replication',
    kind: 'gauge',
    help: 'Server connections for replication',
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), pool.serversReplication]),
  },
  {
    name: 'flotilla_auth_query_connections',
    kind: 'gauge',
    help: 'Connections for auth_query, by database, role and state',
    rows: ({ authQueries }) =>
      authQueries.flatMap(({ database, user, connections }) =>
        Object.entries(connections).map(([state, count]) => [{ database, user, state }, count] as const),
      ),
  },
  {
    name: 'flotilla_auth_query_waiting',
    kind: 'gauge',
    help: 'Users waiting for a connection for auth_query',
    rows: ({ authQueries }) => authQueries.map(({ database, user, waiting }) => [{ database, user }, waiting]),
  },
  {
    name: 'flotilla_servers_draining',
    kind: 'gauge',
    help: 'Old server connections finishing a transaction',
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), pool.serversDraining]),
  },
  {
    name: 'flotilla_servers_pinned',
    kind: 'gauge',
    help: 'Server connections pinned to a client by session state',
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), pool.serversPinned]),
  },
  {
    name: 'flotilla_servers_closed_total',
    kind: 'counter',
    help: 'Server connections closed, by cause, planned or not',
    rows: ({ pools }) => pools.flatMap((pool) => counted(labelsOf(pool), 'cause', pool.closed)),
  },
  {
    name: 'flotilla_clients_refused_total',
    kind: 'counter',
    help: 'Errors sent to clients by the proxy itself; the pool is empty if unknown',
    rows: ({ pools, refused }) => [
      ...counted({ database: '', user: '' }, 'sqlstate', refused),
      ...pools.flatMap((pool) => counted(labelsOf(pool), 'sqlstate', pool.refused)),
    ],
  },
  {
    name: 'flotilla_logins_delayed_total',
    kind: 'counter',
    help: 'Failed logins whose answer was delayed because of earlier failures from the address',
    rows: ({ loginsDelayed }) => [[none, loginsDelayed]],
  },
  {
    name: 'flotilla_server_errors_total',
    kind: 'counter',
    help: 'Errors of PostgreSQL sent to clients, by class of SQLSTATE',
    rows: ({ pools }) => pools.flatMap((pool) => counted(labelsOf(pool), 'class', pool.serverErrors)),
  },
  {
    name: 'flotilla_config_version',
    kind: 'gauge',
    help: 'Running version; 0 without one',
    rows: (_, { configVersion }) => [[none, configVersion]],
  },
  {
    name: 'flotilla_config_epoch',
    kind: 'gauge',
    help: 'Epoch of the running version',
    rows: (_, { configEpoch }) => [[none, configEpoch]],
  },
  {
    name: 'flotilla_config_age_seconds',
    kind: 'gauge',
    help: 'Time since the running version was applied',
    rows: (_, { configAgeSeconds }) => (configAgeSeconds === undefined ? [] : [[none, configAgeSeconds]]),
  },
  {
    name: 'flotilla_config_overrides',
    kind: 'gauge',
    help: 'Number of keys overridden by SET at the console',
    rows: ({ overrides }) => [[none, overrides.length]],
  },
  {
    name: 'flotilla_config_failed',
    kind: 'gauge',
    help: '1 if the offered version was rejected',
    rows: (_, { configFailed }) => [[none, configFailed ? 1 : 0]],
  },
  {
    name: 'flotilla_orders',
    kind: 'gauge',
    help: '1 for each database that the fleet wants paused or disabled here',
    rows: (_, { orders }) => orders.map(({ pool, effect }) => [{ database: pool, effect }, 1] as const),
  },
  {
    name: 'flotilla_outbox_events',
    kind: 'gauge',
    help: 'Disconnect events not yet acknowledged by control',
    rows: (_, { outboxEvents }) => [[none, outboxEvents]],
  },
  {
    name: 'flotilla_outbox_dropped_total',
    kind: 'counter',
    help: 'Disconnect events dropped because the outbox was full',
    rows: (_, { outboxDropped }) => [[none, outboxDropped]],
  },
  {
    name: 'flotilla_engine_restarts_total',
    kind: 'counter',
    help: 'Number of engine restarts',
    rows: (_, { engineRestarts }) => [[none, engineRestarts]],
  },
  {
    name: 'flotilla_pool_serving',
    kind: 'gauge',
    help: '1 if a server is there or the last login to one succeeded, 0 if it failed; absent before the first login',
    rows: ({ pools }) =>
      pools.flatMap((pool) => {
        const { serving } = pool
        if (serving === null || serving.state === 'untried') return []
        return [[labelsOf(pool), serving.state === 'failed' ? 0 : 1] as const]
      }),
  },
  {
    name: 'flotilla_suspended',
    kind: 'gauge',
    help: '1 after SUSPEND; pgbouncer_databases_paused and _disabled tell of databases',
    rows: (_, { operated }) => [[none, operated?.suspended === true ? 1 : 0]],
  },
  {
    name: 'flotilla_needs_restart',
    kind: 'gauge',
    help: 'Number of process settings that differ from the running version',
    rows: (_, { needsRestart }) => [[none, needsRestart.length]],
  },
  {
    name: 'flotilla_problem',
    kind: 'gauge',
    help: '1 if the proxy has this problem, which /readyz and control tell in words',
    rows: (_, { problems }) => proxyProblems.map((code) => [{ code }, problems.includes(code) ? 1 : 0] as const),
  },
  {
    name: 'flotilla_proxy_info',
    kind: 'gauge',
    help: 'Version of the proxy',
    rows: (_, { proxyVersion }) => [[{ version: proxyVersion }, 1]],
  },
]

/**
 * prom-client measures the delay of this thread's loop by waking it a hundred times a second, which costs more than the
 * thread's other work. These metrics are removed; `nodejs_eventloop_lag_seconds`, measured at each scrape, stays.
 */
const loopDelays = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99']
const loopDelayEveryMs = 60_000

/** The Prometheus page. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #disconnects: Counter
  #state: readonly [EngineSnapshot, AgentFigures] | null = null

  constructor() {
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: loopDelayEveryMs })
    for (const what of loopDelays) this.#registry.removeSingleMetric(`nodejs_eventloop_lag_${what}_seconds`)
    for (const line of lines) {
      const { name, help, kind } = line
      const reading = {
        name,
        get: async () =>
          await Promise.resolve({ name, help, type: kind, aggregator: 'sum', values: this.#values(line) }),
      }
      // The registry requires a metric object; the library's classes count themselves, while these values are read
      // elsewhere.
      this.#registry.registerMetric(reading as unknown as Metric)
    }
    this.#disconnects = new Counter({
      name: 'flotilla_disconnects_total',
      help: 'Server connections lost, by pool, server and cause',
      labelNames: ['database', 'user', 'host', 'port', 'cause'],
      registers: [this.#registry],
    })
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  disconnected({ pool, user, host, port, cause }: Disconnect): void {
    this.#disconnects.inc({ database: pool, user, host, port, cause })
  }

  async page(engine: EngineSnapshot, agent: AgentFigures): Promise<string> {
    this.#state = [engine, agent]
    return await this.#registry.metrics()
  }

  #values(line: Line): Reading[] {
    if (this.#state === null) return []
    if (line.kind !== 'histogram') return line.rows(...this.#state).map(([labels, value]) => ({ labels, value }))
    return line.rows(...this.#state).flatMap(([labels, value]) => histogram(line.name, line.bounds, labels, value))
  }
}

/** A line of the page. */
interface Reading {
  readonly metricName?: string
  readonly labels: Labels
  readonly value: number
}

/** Buckets are cumulative. */
function histogram(name: string, bounds: readonly number[], labels: Labels, { counts, sum }: Distribution): Reading[] {
  let below = 0
  const buckets = counts.map((count, index) => {
    below += count
    return { metricName: `${name}_bucket`, labels: { ...labels, le: String(bounds[index] ?? '+Inf') }, value: below }
  })
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: below },
  ]
}

function labelsOf({ pool, user }: Pick<PoolSnapshot, 'pool' | 'user'>): Labels {
  return { database: pool, user }
}

export function serversOf(pool: PoolSnapshot): number {
  const { serversActive, serversIdle, serversLogin, serversReplication, serversDraining } = pool
  return serversActive + serversIdle + serversLogin + serversReplication + serversDraining
}

/** One row per key. */
function counted(
  labels: Labels,
  label: string,
  counts: Readonly<Partial<Record<string, number>>>,
): (readonly [Labels, number])[] {
  return Object.entries(counts).map(([key, count = 0]) => [{ ...labels, [label]: key }, count] as const)
}

/** Columns of a row as labels; NULL is empty. */
function picked(row: ShownRow, columns: readonly string[]): Labels {
  return Object.fromEntries(columns.map((column) => [column, String(row[column] ?? '')]))
}
