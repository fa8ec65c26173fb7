/** The contract that monitoring tools know: names, order and types of the columns of PgBouncer 1.25. */
import { expect, test } from 'vitest'
import { EngineInProcess, poolSpec } from './engine-in-process.ts'

/** The letters of the lists below. */
const oids = { text: 25, int4: 23, int8: 20, numeric: 1700 } as const
type Type = keyof typeof oids

const connections: [Type, string][] = [
  ['text', 'type user database replication state addr'],
  ['int4', 'port'],
  ['text', 'local_addr'],
  ['int4', 'local_port'],
  ['text', 'connect_time request_time'],
  ['int4', 'wait wait_us close_needed'],
  ['text', 'ptr link'],
  ['int4', 'remote_pid'],
  ['text', 'tls application_name'],
  ['int4', 'prepared_statements id'],
]

const sockets: [Type, string][] = [
  ...connections,
  ['int4', 'recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail'],
]

const contract: [command: string, columns: [Type, string][]][] = [
  ['VERSION', [['text', 'version']]],
  [
    'POOLS',
    [
      ['text', 'database user'],
      ['int4', 'cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req'],
      ['int4', 'sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us'],
      ['text', 'pool_mode load_balance_hosts'],
    ],
  ],
  ['CLIENTS', connections],
  ['SERVERS', connections],
  [
    'DATABASES',
    [
      ['text', 'name host'],
      ['int4', 'port'],
      ['text', 'database force_user'],
      ['int4', 'pool_size min_pool_size reserve_pool_size server_lifetime'],
      ['text', 'pool_mode load_balance_hosts'],
      ['int4', 'max_connections current_connections max_client_connections current_client_connections'],
      ['int4', 'paused disabled'],
    ],
  ],
  [
    'STATS',
    [
      ['text', 'database'],
      ['numeric', 'total_server_assignment_count total_xact_count total_query_count total_received total_sent'],
      ['numeric', 'total_xact_time total_query_time total_wait_time total_client_parse_count'],
      ['numeric', 'total_server_parse_count total_bind_count total_client_login_count'],
      ['numeric', 'avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent'],
      ['numeric', 'avg_xact_time avg_query_time avg_wait_time avg_client_parse_count'],
      ['numeric', 'avg_server_parse_count avg_bind_count avg_client_login_count'],
    ],
  ],
  [
    'STATS_TOTALS',
    [
      ['text', 'database'],
      ['numeric', 'server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time'],
      ['numeric', 'wait_time client_parse_count server_parse_count bind_count client_login_count'],
    ],
  ],
  [
    'STATS_AVERAGES',
    [
      ['text', 'database'],
      ['numeric', 'server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time'],
      ['numeric', 'wait_time avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count'],
    ],
  ],
  [
    'TOTALS',
    [
      ['text', 'name'],
      ['numeric', 'value'],
    ],
  ],
  [
    'USERS',
    [
      ['text', 'name pool_size reserve_pool_size pool_mode'],
      ['int4', 'max_user_connections current_connections max_user_client_connections current_client_connections'],
    ],
  ],
  ['STATE', [['text', 'key value']]],
  ['SOCKETS', sockets],
  ['ACTIVE_SOCKETS', sockets],
  [
    'FDS',
    [
      ['int4', 'fd'],
      ['text', 'task user database addr'],
      ['int4', 'port'],
      ['int8', 'cancel'],
      ['int4', 'link'],
      ['text', 'client_encoding std_strings datestyle timezone password scram_client_key scram_server_key'],
    ],
  ],
  [
    'MEM',
    [
      ['text', 'name'],
      ['int4', 'size'],
      ['int8', 'used free memtotal'],
    ],
  ],
  [
    'DNS_HOSTS',
    [
      ['text', 'hostname'],
      ['int8', 'ttl'],
      ['text', 'addrs'],
    ],
  ],
  [
    'DNS_ZONES',
    [
      ['text', 'zonename'],
      ['int8', 'serial'],
      ['int4', 'count'],
    ],
  ],
  [
    'BANS',
    [
      ['text', 'db user role host reason ban_time'],
      ['int8', 'ban_duration_seconds ban_remaining_seconds'],
      ['int4', 'port'],
      ['text', 'address'],
      ['int4', 'failures'],
    ],
  ],
  ['CONFIG', [['text', 'key value default changeable']]],
  [
    'LISTS',
    [
      ['text', 'list'],
      ['int4', 'items'],
    ],
  ],
  [
    'POOL_VERSIONS',
    [
      ['text', 'database user'],
      ['int8', 'desired_version'],
      ['text', 'desired_hash'],
      ['int8', 'running_version'],
      ['text', 'running_hash state error'],
      ['int4', 'draining_servers'],
      ['text', 'serving serving_error operated'],
    ],
  ],
  [
    'DISCONNECTS',
    [
      ['text', 'at database user host'],
      ['int4', 'port'],
      ['text', 'role'],
      ['int4', 'backend_pid'],
      ['text', 'cause errno sqlstate message state'],
      ['int8', 'connection_age_ms idle_ms'],
      ['int4', 'client_hurt'],
      ['text', 'pool_hash'],
    ],
  ],
]

const running = new EngineInProcess()
running.apply(1, [poolSpec({ port: 1 })])

test.for(contract)('SHOW %s has the columns %j', async ([command, columns]) => {
  const console = await running.console()

  const { fields } = await console.query({ text: `SHOW ${command}`, rowMode: 'array' })

  const expected = columns.flatMap(([type, names]) => names.split(' ').map((name) => [name, oids[type]]))
  expect(fields.map(({ name, dataTypeID }) => [name, dataTypeID])).toEqual(expected)
})

test('SHOW LISTS has the rows of PgBouncer in its order', async () => {
  const console = await running.console()

  const { rows } = await console.query<{ list: string }>('SHOW LISTS')

  expect(rows.map(({ list }) => list).join(' ')).toBe(
    'databases users peers pools peer_pools free_clients used_clients login_clients free_servers used_servers ' +
      'dns_names dns_zones dns_queries dns_pending',
  )
})
