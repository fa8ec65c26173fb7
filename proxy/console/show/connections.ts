import { isUnix } from '../../io/io.ts'
import type { Address, Socket } from '../../io/io.ts'
import { Client } from '../../engine/pool/client.ts'
import { authQueryName, authState } from '../../engine/auth/auth-connection.ts'
import type { AuthConnection } from '../../engine/auth/auth-connection.ts'
import type { OperatedEngine } from '../operated-engine.ts'
import type { OperatorSession } from '../../engine/pool/context.ts'
import type { Pool } from '../../engine/pool/pool.ts'
import type { Server } from '../../engine/pool/server.ts'
import { all } from '../join.ts'
import { consoleName } from '../console-name.ts'
import { sortedServers } from '../pools.ts'
import { bigints, integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'
import { secondsAndMicros, timestamp } from '../time.ts'

/** SHOW CLIENTS and SHOW SERVERS have the same columns. */
const columns = [
  ...texts('type', 'user', 'database', 'replication', 'state', 'addr'),
  ...integers('port'),
  ...texts('local_addr'),
  ...integers('local_port'),
  ...texts('connect_time', 'request_time'),
  ...integers('wait', 'wait_us', 'close_needed'),
  ...texts('ptr', 'link'),
  ...integers('remote_pid'),
  ...texts('tls', 'application_name'),
  ...integers('prepared_statements', 'id'),
]

export const clients: Table = {
  columns,
  join: all,
  *rows(engine) {
    // Clients that arrive while the list is read are not in it; those that leave are removed.
    const known = [...engine.context.clients]
    for (const client of known) {
      if (!engine.context.clients.has(client)) continue
      yield client instanceof Client ? clientRow(engine, client) : sessionRow(engine, client)
    }
  },
}

export const servers: Table = {
  columns,
  join: all,
  *rows(engine) {
    for (const server of sortedServers(engine)) {
      if (server.list !== null) yield serverRow(engine, server)
    }
    for (const connection of authConnections(engine)) yield authRow(engine, connection)
  },
}

/** Buffers of a connection: PgBouncer's parser and buffer positions, of which only these apply. */
const socketColumns = [
  ...columns,
  ...integers('recv_pos', 'pkt_pos', 'pkt_remain', 'send_pos', 'send_remain', 'pkt_avail', 'send_avail'),
]

export const sockets: Table = { columns: socketColumns, join: all, rows: (engine) => socketRows(engine, false) }

export const activeSockets: Table = { columns: socketColumns, join: all, rows: (engine) => socketRows(engine, true) }

function* socketRows(engine: OperatedEngine, activeOnly: boolean): Generator<Row> {
  const known = [...engine.context.clients]
  for (const client of known) {
    if (!engine.context.clients.has(client)) continue
    if (!(client instanceof Client)) {
      if (!activeOnly) yield [...sessionRow(engine, client), ...positions(0, client.socket)]
    } else if (!activeOnly || client.list !== client.pool.idle) {
      yield [...clientRow(engine, client), ...positions(client.passing, client.socket)]
    }
  }
  for (const server of sortedServers(engine)) {
    if (server.list === null || (activeOnly && server.list === server.serverSet.idle)) continue
    yield [...serverRow(engine, server), ...positions(server.passing, server.socket)]
  }
  for (const connection of authConnections(engine)) {
    if (activeOnly && authState(connection) === 'idle') continue
    yield [...authRow(engine, connection), ...positions(0, connection.socket)]
  }
}

function positions(passing: number, { queuedBytes }: Socket): Row {
  return [0, 0, passing, 0, queuedBytes, 0, 0]
}

/** Connections and their owners. No secrets: the last three columns are there for their names. */
export const fds: Table = {
  columns: [
    ...integers('fd'),
    ...texts('task', 'user', 'database', 'addr'),
    ...integers('port'),
    ...bigints('cancel'),
    ...integers('link'),
    ...texts('client_encoding', 'std_strings', 'datestyle', 'timezone'),
    ...texts('password', 'scram_client_key', 'scram_server_key'),
  ],
  join: all,
  *rows(engine) {
    const known = [...engine.context.clients]
    for (const client of known) {
      if (!engine.context.clients.has(client) || !(client instanceof Client)) continue
      const { pool, socket, parameters } = client
      yield fdRow('client', pool, socket.remote, (parameter) => parameters.values.get(parameter.toLowerCase()))
    }
    for (const server of sortedServers(engine)) {
      if (server.list === null) continue
      const address = { host: server.target.address, port: server.target.host.port }
      const { source, spec } = server.serverSet
      const name = { database: source.database, user: spec.serverUser }
      yield fdRow('server', name, address, (parameter) => server.reported.get(parameter))
    }
  },
}

function fdRow(
  task: string,
  pool: Pick<Pool, 'database' | 'user'>,
  address: Address,
  value: (name: string) => string | undefined,
): Row {
  const parameters = ['client_encoding', 'standard_conforming_strings', 'DateStyle', 'TimeZone']
  const values = parameters.map((parameter) => value(parameter) ?? null)
  // Descriptors are not handed over, so none is shown, and a cancel key is as good as a password.
  return [null, task, pool.user, pool.database, hostOf(address), address.port, null, 0, ...values, null, null, null]
}

function clientRow({ context, pools }: OperatedEngine, client: Client): Row {
  const { pool, socket, server } = client
  const { io } = context
  const waiting = client.list === pool.waiting
  const requestedAtMs = waiting
    ? client.waitingSinceMs
    : client.queryBeganMs || client.transactionBeganMs || client.connectedAtMs
  return [
    'C',
    pool.user,
    pool.database,
    client.replication?.mode ?? 'none',
    client.list?.name ?? null,
    hostOf(socket.remote),
    socket.remote.port,
    hostOf(socket.local),
    socket.local.port,
    timestamp(io, client.connectedAtMs),
    timestamp(io, requestedAtMs),
    ...secondsAndMicros(waiting ? io.nowMs() - client.waitingSinceMs : 0),
    pools.find(pool.database, pool.user)?.spec === null ? 1 : 0,
    clientPointer(client.id),
    server === null ? '' : serverPointer(server.id),
    0,
    tlsOf(socket),
    client.parameters.values.get('application_name') ?? '',
    client.statements?.size ?? 0,
    client.id,
  ]
}

function sessionRow({ context }: OperatedEngine, session: OperatorSession): Row {
  const { socket } = session
  return [
    'C',
    session.user,
    consoleName,
    'none',
    'active',
    hostOf(socket.remote),
    socket.remote.port,
    hostOf(socket.local),
    socket.local.port,
    timestamp(context.io, session.connectedAtMs),
    timestamp(context.io, session.requestedAtMs),
    ...secondsAndMicros(0),
    0,
    clientPointer(session.id),
    '',
    0,
    tlsOf(socket),
    session.applicationName,
    0,
    session.id,
  ]
}

function serverRow({ context }: OperatedEngine, server: Server): Row {
  const { serverSet, socket, client } = server
  return [
    'S',
    serverSet.spec.serverUser,
    serverSet.source.database,
    server.replication?.mode ?? 'none',
    serverStates[server.list?.name ?? ''] ?? null,
    hostOf({ host: server.target.address, port: 0 }),
    server.target.host.port,
    hostOf(socket.local),
    socket.local.port,
    timestamp(context.io, server.connectedAtMs),
    timestamp(context.io, server.requestedAtMs || server.connectedAtMs),
    ...secondsAndMicros(0),
    server.closeNeeded || serverSet.draining ? 1 : 0,
    serverPointer(server.id),
    client === null ? '' : clientPointer(client.id),
    server.backendKey?.pid ?? 0,
    tlsOf(socket),
    server.reported.get('application_name') ?? '',
    server.statements?.size ?? 0,
    server.id,
  ]
}

/** Connections for auth_query: servers of no pool, under the database and role they log in with. */
function authConnections({ pools }: OperatedEngine): AuthConnection[] {
  return [...pools.authQueries.sources()].flatMap((source) => [...source.connections])
}

function authRow({ context }: OperatedEngine, connection: AuthConnection): Row {
  const { source, target, socket } = connection
  return [
    'S',
    source.spec.settings.authUser,
    source.database,
    'none',
    authState(connection),
    hostOf({ host: target.address, port: 0 }),
    target.host.port,
    hostOf(socket.local),
    socket.local.port,
    timestamp(context.io, connection.connectedAtMs),
    timestamp(context.io, connection.requestedAtMs),
    ...secondsAndMicros(0),
    source.closed ? 1 : 0,
    serverPointer(connection.id),
    '',
    connection.backendPid,
    tlsOf(socket),
    authQueryName,
    0,
    connection.id,
  ]
}

/** As in PgBouncer: only that it is a Unix socket. */
function hostOf(address: Address): string {
  return isUnix(address) ? 'unix' : address.host
}

/** As in PgBouncer: "TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=x25519". */
function tlsOf({ tls }: Socket): string {
  if (tls === null) return ''
  return `${tls.protocol}/${tls.cipher}${tls.group === null ? '' : `/ECDH=${tls.group}`}`
}

/** PgBouncer's names for the lists of a pool. */
const serverStates: Readonly<Record<string, string>> = {
  login: 'new',
  idle: 'idle',
  active: 'active',
  reset: 'tested',
  canceled: 'being_canceled',
  replication: 'active',
}

/** Unique among clients and servers, formatted like PgBouncer's addresses. */
function clientPointer(id: number): string {
  return `0xc${id.toString(16).padStart(pointerDigits, '0')}`
}

function serverPointer(id: number): string {
  return `0x5${id.toString(16).padStart(pointerDigits, '0')}`
}

const pointerDigits = 11
