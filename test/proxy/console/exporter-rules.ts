/**
 * What prometheus-community/pgbouncer_exporter (0.12, its collector.go) makes of a console, as facts: which commands
 * it runs, which columns it takes and what it calls them. A NULL label is "", a NULL number would be NaN, a column it
 * does not know is passed over, and any failing command makes `pgbouncer_up` 0.
 */

/** Column → the metric's name behind "pgbouncer_<command>_". */
interface CommandRule {
  readonly command: 'databases' | 'stats_totals' | 'pools'
  readonly labels: readonly string[]
  readonly numbers: Readonly<Record<string, string>>
  /** In microseconds, shown in seconds. */
  readonly times?: readonly string[]
}

const commandRules: readonly CommandRule[] = [
  {
    command: 'databases',
    labels: ['name', 'host', 'port', 'database', 'force_user', 'pool_mode'],
    numbers: {
      pool_size: 'pool_size',
      reserve_pool: 'reserve_pool',
      reserve_pool_size: 'reserve_pool',
      max_connections: 'max_connections',
      current_connections: 'current_connections',
      paused: 'paused',
      disabled: 'disabled',
    },
  },
  {
    command: 'stats_totals',
    labels: ['database'],
    numbers: {
      query_count: 'queries_pooled_total',
      query_time: 'queries_duration_seconds_total',
      bytes_received: 'received_bytes_total',
      requests: 'queries_total',
      bytes_sent: 'sent_bytes_total',
      wait_time: 'client_wait_seconds_total',
      xact_count: 'sql_transactions_pooled_total',
      xact_time: 'server_in_transaction_seconds_total',
      client_parse_count: 'client_parses_total',
      server_parse_count: 'server_parses_total',
      bind_count: 'binds_total',
      server_assignment_count: 'server_assignments_total',
    },
    times: ['query_time', 'wait_time', 'xact_time'],
  },
  {
    command: 'pools',
    labels: ['database', 'user'],
    numbers: {
      cl_active: 'client_active_connections',
      cl_active_cancel_req: 'client_active_cancel_connections',
      cl_waiting: 'client_waiting_connections',
      cl_waiting_cancel_req: 'client_waiting_cancel_connections',
      sv_active: 'server_active_connections',
      sv_active_cancel: 'server_active_cancel_connections',
      sv_being_canceled: 'server_being_canceled_connections',
      sv_idle: 'server_idle_connections',
      sv_used: 'server_used_connections',
      sv_tested: 'server_testing_connections',
      sv_login: 'server_login_connections',
      maxwait: 'client_maxwait_seconds',
    },
  },
]

/** Rows of SHOW LISTS; others are passed over. */
const listRules: Readonly<Record<string, string>> = {
  databases: 'pgbouncer_databases',
  users: 'pgbouncer_users',
  pools: 'pgbouncer_pools',
  free_clients: 'pgbouncer_free_clients',
  used_clients: 'pgbouncer_used_clients',
  login_clients: 'pgbouncer_login_clients',
  free_servers: 'pgbouncer_free_servers',
  used_servers: 'pgbouncer_used_servers',
  dns_names: 'pgbouncer_cached_dns_names',
  dns_zones: 'pgbouncer_cached_dns_zones',
  dns_queries: 'pgbouncer_in_flight_dns_queries',
}

/** Rows of SHOW CONFIG, which must have three or four columns. */
const configRules: Readonly<Record<string, string>> = {
  max_client_conn: 'pgbouncer_config_max_client_connections',
  max_user_connections: 'pgbouncer_config_max_user_connections',
}

export interface Shown {
  readonly columns: readonly string[]
  readonly rows: readonly Readonly<Record<string, string | null>>[]
}

/** Applies the rules: series, as in an exposition, → value. Throws where the exporter would report a failure. */
export async function exported(show: (command: string) => Promise<Shown>): Promise<Map<string, number>> {
  const series = new Map<string, number>()
  await show('SHOW STATS')
  const version = await show('SHOW VERSION;')
  if (version.columns.join() !== 'version') throw new Error('SHOW VERSION is not one column')
  for (const row of version.rows) series.set(named('pgbouncer_version_info', ['version'], row), 1)
  const lists = await show('SHOW LISTS;')
  if (lists.columns.length !== 2) throw new Error('SHOW LISTS is not two columns')
  for (const { list, items } of lists.rows) {
    const value = number(items, `SHOW LISTS ${list}`)
    const name = listRules[list ?? '']
    if (name !== undefined) series.set(name, value)
  }
  const config = await show('SHOW CONFIG;')
  if (config.columns.length !== 4) throw new Error('SHOW CONFIG is not four columns')
  for (const { key, value } of config.rows) {
    const name = configRules[key ?? '']
    if (name !== undefined) series.set(name, number(value, `SHOW CONFIG ${key}`))
  }
  for (const row of (await show('SHOW CLIENTS;')).rows) {
    const labels = ['database', 'user', 'application_name', 'state']
    const name = named('pgbouncer_client_connections', labels, row)
    series.set(name, (series.get(name) ?? 0) + 1)
  }
  for (const { command, labels, numbers, times = [] } of commandRules) {
    const { columns, rows } = await show(`SHOW ${command};`)
    for (const row of rows) {
      for (const column of columns.filter((column) => column in numbers)) {
        const factor = times.includes(column) ? 1e-6 : 1
        const name = named(`pgbouncer_${command}_${numbers[column]}`, labels, row)
        series.set(name, number(row[column], `SHOW ${command} ${column}`) * factor)
      }
    }
  }
  return series.set('pgbouncer_up', 1)
}

/** The exporter would show NaN for a NULL: here that is a failure too. */
function number(text: string | null | undefined, where: string): number {
  const value = Number.parseFloat(text ?? '')
  if (Number.isNaN(value)) throw new Error(`${where} is not a number: ${text}`)
  return value
}

/** Labels in the order of their names, so that two pages compare. */
function named(name: string, labels: readonly string[], row: Readonly<Record<string, string | null>>): string {
  const pairs = [...labels].sort().map((label) => `${label}="${row[label] ?? ''}"`)
  return `${name}{${pairs.join(',')}}`
}

/** The same of a page of metrics. */
export function seriesOf(page: string): Map<string, number> {
  const series = new Map<string, number>()
  for (const line of page.split('\n')) {
    const [, name, labels, value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
    if (name === undefined) continue
    if (labels === undefined) series.set(name, Number(value))
    else {
      const row = Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, label, text]) => [label, text]))
      series.set(named(name, Object.keys(row), row as Record<string, string>), Number(value))
    }
  }
  return series
}
