import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'
import type { EngineSnapshot, LostServer, PoolSnapshot, PoolTotals } from '../engine/messages.ts'

/** What the agent knows besides the engine's snapshot. */
export interface AgentFigures {
  readonly configVersion: number
  readonly configEpoch: number
  readonly configAgeSeconds: number | undefined
  /** The offered version is not the running one. */
  readonly configFailed: boolean
  readonly outboxEvents: number
  readonly outboxDropped: number
  readonly engineRestarts: number
  readonly clientsMax: number | undefined
  readonly proxyVersion: string
}

type Row = Readonly<Record<string, string>>

/** One metric: its rows are made anew from the state at every scrape. */
interface Line {
  readonly name: string
  readonly kind: 'gauge' | 'counter'
  readonly labels: readonly string[]
  readonly help: string
  readonly rows: (engine: EngineSnapshot, agent: AgentFigures) => readonly (readonly [Row, number])[]
}

const microseconds = 1e-6
const poolLabels = ['database', 'user'] as const

/** Names, labels and units of pgbouncer_exporter, so that its dashboards and alerts work as they are. */
const poolGauges: readonly [name: string, help: string, value: (pool: PoolSnapshot) => number][] = [
  ['client_active_connections', 'Clients linked to a server, or idle', (pool) => pool.clientsActive + pool.clientsIdle],
  ['client_waiting_connections', 'Clients waiting for a server', (pool) => pool.clientsWaiting],
  ['server_active_connections', 'Servers linked to a client', (pool) => pool.serversActive],
  ['server_idle_connections', 'Servers ready for a client', (pool) => pool.serversIdle],
  ['server_login_connections', 'Servers being connected and logged in to', (pool) => pool.serversLogin],
  ['client_maxwait_seconds', 'Age of the oldest waiting client', (pool) => pool.maxWaitMs / 1000],
]

const totals: readonly [name: string, key: keyof PoolTotals, factor: number, help: string][] = [
  ['queries_pooled_total', 'query_count', 1, 'Queries'],
  ['queries_duration_seconds_total', 'query_time', microseconds, 'Time servers spent with queries'],
  ['received_bytes_total', 'bytes_received', 1, 'Bytes received from clients and servers'],
  ['sent_bytes_total', 'bytes_sent', 1, 'Bytes sent to clients and servers'],
  ['client_wait_seconds_total', 'wait_time', microseconds, 'Time clients waited for a server'],
  ['sql_transactions_pooled_total', 'xact_count', 1, 'Transactions'],
  ['server_in_transaction_seconds_total', 'xact_time', microseconds, 'Time servers spent in transactions'],
  ['client_parses_total', 'client_parse_count', 1, 'Parse messages from clients'],
  ['server_parses_total', 'server_parse_count', 1, 'Parse messages sent to servers'],
  ['binds_total', 'bind_count', 1, 'Bind messages'],
  ['server_assignments_total', 'server_assignment_count', 1, 'Times a server was given to a client'],
  ['client_logins_total', 'client_login_count', 1, 'Logins of clients'],
]

const none: Row = {}

const lines: readonly Line[] = [
  ...poolGauges.map(([name, help, value]): Line => ({
    name: `pgbouncer_pools_${name}`,
    kind: 'gauge',
    labels: poolLabels,
    help,
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), value(pool)]),
  })),
  ...totals.map(([name, key, factor, help]): Line => ({
    name: `pgbouncer_stats_totals_${name}`,
    kind: 'counter',
    labels: ['database'],
    help,
    rows: ({ pools }) => perDatabase(pools, (pool) => pool.totals[key] * factor),
  })),
  {
    name: 'pgbouncer_databases_current_connections',
    kind: 'gauge',
    labels: ['name'],
    help: 'Server connections of a database',
    rows: ({ pools }) => perDatabase(pools, serversOf).map(([{ database = '' }, value]) => [{ name: database }, value]),
  },
  {
    name: 'pgbouncer_used_clients',
    kind: 'gauge',
    labels: [],
    help: 'Clients that are logged in',
    rows: ({ clients }) => [[none, clients]],
  },
  {
    name: 'pgbouncer_login_clients',
    kind: 'gauge',
    labels: [],
    help: 'Clients that are logging in',
    rows: ({ clientsLogin }) => [[none, clientsLogin]],
  },
  {
    name: 'pgbouncer_pools',
    kind: 'gauge',
    labels: [],
    help: 'Pools',
    rows: ({ pools }) => [[none, pools.length]],
  },
  {
    name: 'pgbouncer_config_max_client_connections',
    kind: 'gauge',
    labels: [],
    help: 'Clients served at a time',
    rows: (_, { clientsMax }) => (clientsMax === undefined ? [] : [[none, clientsMax]]),
  },
  {
    name: 'pgbouncer_up',
    kind: 'gauge',
    labels: [],
    help: 'Whether the proxy runs a configuration',
    rows: ({ running }) => [[none, running === null ? 0 : 1]],
  },
  {
    name: 'flotilla_pool_size',
    kind: 'gauge',
    labels: poolLabels,
    help: 'Server connections a pool may hold',
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), pool.poolSize]),
  },
  {
    name: 'flotilla_servers_replication',
    kind: 'gauge',
    labels: poolLabels,
    help: 'Servers opened for one client each, for replication',
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), pool.serversReplication]),
  },
  {
    name: 'flotilla_servers_draining',
    kind: 'gauge',
    labels: poolLabels,
    help: 'Old servers that finish a transaction',
    rows: ({ pools }) => pools.map((pool) => [labelsOf(pool), pool.serversDraining]),
  },
  {
    name: 'flotilla_servers_closed_total',
    kind: 'counter',
    labels: [...poolLabels, 'cause'],
    help: 'Server connections closed, planned or not, by cause',
    rows: ({ pools }) =>
      pools.flatMap((pool) =>
        Object.entries(pool.closed).map(([cause, count]) => [{ ...labelsOf(pool), cause }, count] as const),
      ),
  },
  {
    name: 'flotilla_clients_refused_total',
    kind: 'counter',
    labels: [...poolLabels, 'sqlstate'],
    help: 'Errors the proxy itself sent to clients; without a pool where none was known yet',
    rows: ({ pools, refused }) => [
      ...Object.entries(refused).map(([sqlstate, count]) => [{ database: '', user: '', sqlstate }, count] as const),
      ...pools.flatMap((pool) =>
        Object.entries(pool.refused).map(([sqlstate, count]) => [{ ...labelsOf(pool), sqlstate }, count] as const),
      ),
    ],
  },
  {
    name: 'flotilla_logins_delayed_total',
    kind: 'counter',
    labels: [],
    help: 'Failed logins whose answer was delayed, for many had failed from the same address',
    rows: ({ loginsDelayed }) => [[none, loginsDelayed]],
  },
  {
    name: 'flotilla_config_version',
    kind: 'gauge',
    labels: [],
    help: 'The version that runs; 0 while none does',
    rows: (_, { configVersion }) => [[none, configVersion]],
  },
  {
    name: 'flotilla_config_epoch',
    kind: 'gauge',
    labels: [],
    help: 'The epoch of the version that runs',
    rows: (_, { configEpoch }) => [[none, configEpoch]],
  },
  {
    name: 'flotilla_config_age_seconds',
    kind: 'gauge',
    labels: [],
    help: 'Time since the running version was applied',
    rows: (_, { configAgeSeconds }) => (configAgeSeconds === undefined ? [] : [[none, configAgeSeconds]]),
  },
  {
    name: 'flotilla_config_failed',
    kind: 'gauge',
    labels: [],
    help: '1 while the offered version is refused',
    rows: (_, { configFailed }) => [[none, configFailed ? 1 : 0]],
  },
  {
    name: 'flotilla_outbox_events',
    kind: 'gauge',
    labels: [],
    help: 'Disconnect events that control has not acknowledged',
    rows: (_, { outboxEvents }) => [[none, outboxEvents]],
  },
  {
    name: 'flotilla_outbox_dropped_total',
    kind: 'counter',
    labels: [],
    help: 'Disconnect events lost because too many waited',
    rows: (_, { outboxDropped }) => [[none, outboxDropped]],
  },
  {
    name: 'flotilla_engine_restarts_total',
    kind: 'counter',
    labels: [],
    help: 'Times the engine was started again',
    rows: (_, { engineRestarts }) => [[none, engineRestarts]],
  },
  {
    name: 'flotilla_proxy_info',
    kind: 'gauge',
    labels: ['version'],
    help: 'The version of the proxy itself',
    rows: (_, { proxyVersion }) => [[{ version: proxyVersion }, 1]],
  },
]

/** The page Prometheus reads. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #series: readonly { line: Line; metric: Gauge | Counter }[]
  readonly #disconnects: Counter

  constructor() {
    collectDefaultMetrics({ register: this.#registry })
    this.#series = lines.map((line) => ({ line, metric: this.#metric(line) }))
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

  lost({ pool, user, host, port, cause }: LostServer): void {
    this.#disconnects.inc({ database: pool, user, host, port, cause })
  }

  async page(engine: EngineSnapshot, agent: AgentFigures): Promise<string> {
    for (const { line, metric } of this.#series) {
      metric.reset()
      // After this a metric with labels has no rows, and one without labels is 0.
      for (const [labels, value] of line.rows(engine, agent)) metric.inc(labels, value)
    }
    return await this.#registry.metrics()
  }

  #metric({ name, kind, labels, help }: Line): Gauge | Counter {
    const configuration = { name, help, labelNames: [...labels], registers: [this.#registry] }
    return kind === 'gauge' ? new Gauge(configuration) : new Counter(configuration)
  }
}

function labelsOf({ pool, user }: PoolSnapshot): Row {
  return { database: pool, user }
}

export function serversOf(pool: PoolSnapshot): number {
  const { serversActive, serversIdle, serversLogin, serversReplication, serversDraining } = pool
  return serversActive + serversIdle + serversLogin + serversReplication + serversDraining
}

function perDatabase(
  pools: readonly PoolSnapshot[],
  value: (pool: PoolSnapshot) => number,
): readonly (readonly [Row, number])[] {
  const sums = new Map<string, number>()
  for (const pool of pools) sums.set(pool.pool, (sums.get(pool.pool) ?? 0) + value(pool))
  return [...sums].map(([database, sum]) => [{ database }, sum])
}
