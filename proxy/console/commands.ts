import { nearest } from '../../shared/config/nearest.ts'
import { SqlError } from '../../shared/errors.ts'
import { operationNames, operations } from '../../shared/operations.ts'
import * as write from '../protocol/write.ts'
import type { Exchange } from '../engine/wire/conversation.ts'
import type { OperatedEngine } from './operated-engine.ts'
import type { Caller, Right, Run } from './caller.ts'
import { CommandError } from './command-error.ts'
import { operationCommands } from './operate.ts'
import { fixedParameters, set } from './session-parameters.ts'
import { bans } from './show/bans.ts'
import { config } from './show/config.ts'
import { activeSockets, clients, fds, servers, sockets } from './show/connections.ts'
import { databases } from './show/databases.ts'
import { dnsHosts } from './show/dns-hosts.ts'
import { dnsZones } from './show/dns-zones.ts'
import { disconnects } from './show/disconnects.ts'
import { lists } from './show/lists.ts'
import { memory } from './show/memory.ts'
import { peerPools, peers } from './show/peers.ts'
import { pins } from './show/pins.ts'
import { poolVersions } from './show/pool-versions.ts'
import { pools } from './show/pools.ts'
import { state } from './show/state.ts'
import { stats, statsAverages, statsTotals, totals } from './show/stats.ts'
import { users } from './show/users.ts'
import { version } from './show/version.ts'
import type { Statement } from './statements.ts'
import { texts } from './table.ts'
import type { Join, Row, Table } from './table.ts'
import { queryOthers } from './others.ts'

interface Command {
  /** In upper case. */
  readonly name: string
  /** Right required to run it; `admin` may run everything. */
  readonly right: Right
  /** For SHOW HELP; null hides it. */
  readonly help: string | null
  readonly run: Run
  /** The name is followed by arguments, which `run` reads. */
  readonly arguments?: true
}

/** Tables of SHOW commands, by their `run`. */
const tables = new Map<Run, Table>()

const commands: readonly Command[] = [
  { name: 'SHOW', right: 'stats', help: null, run: help },
  { name: 'SHOW HELP', right: 'stats', help: 'this list', run: help },
  { name: 'SHOW VERSION', right: 'stats', help: 'version of the console', run: answer(version) },
  { name: 'SHOW DATABASES', right: 'stats', help: 'databases with their servers and limits', run: answer(databases) },
  { name: 'SHOW POOLS', right: 'stats', help: 'clients and servers per pool, by state', run: answer(pools) },
  {
    name: 'SHOW POOL_VERSIONS',
    right: 'stats',
    help: 'desired and running configuration of each pool',
    run: answer(poolVersions),
  },
  { name: 'SHOW CLIENTS', right: 'stats', help: 'clients', run: answer(clients) },
  { name: 'SHOW SERVERS', right: 'stats', help: 'server connections', run: answer(servers) },
  { name: 'SHOW PINS', right: 'stats', help: 'clients with a pinned server, and the reason', run: answer(pins) },
  { name: 'SHOW DISCONNECTS', right: 'stats', help: 'recently lost server connections', run: answer(disconnects) },
  { name: 'SHOW STATS', right: 'stats', help: 'totals, and averages over the last minute', run: answer(stats) },
  { name: 'SHOW STATS_TOTALS', right: 'stats', help: 'totals since the start', run: answer(statsTotals) },
  { name: 'SHOW STATS_AVERAGES', right: 'stats', help: 'averages over the last minute', run: answer(statsAverages) },
  { name: 'SHOW TOTALS', right: 'stats', help: 'totals and averages over all databases', run: answer(totals) },
  { name: 'SHOW USERS', right: 'stats', help: 'users with their limits', run: answer(users) },
  { name: 'SHOW STATE', right: 'stats', help: 'state of the pooler', run: answer(state) },
  { name: 'SHOW SOCKETS', right: 'stats', help: 'all connections, with buffer sizes', run: answer(sockets) },
  {
    name: 'SHOW ACTIVE_SOCKETS',
    right: 'stats',
    help: 'connections in use, with buffer sizes',
    run: answer(activeSockets),
  },
  { name: 'SHOW FDS', right: 'admin', help: 'connections and their owners, without secrets', run: answer(fds) },
  { name: 'SHOW MEM', right: 'stats', help: 'memory usage of the engine', run: answer(memory) },
  { name: 'SHOW DNS_HOSTS', right: 'stats', help: 'DNS names of servers and their addresses', run: answer(dnsHosts) },
  { name: 'SHOW PEERS', right: 'stats', help: 'proxies to which cancel requests are forwarded', run: answer(peers) },
  { name: 'SHOW PEER_POOLS', right: 'stats', help: 'cancel requests being forwarded to peers', run: answer(peerPools) },
  { name: 'SHOW DNS_ZONES', right: 'stats', help: 'DNS zones (always empty)', run: answer(dnsZones) },
  { name: 'SHOW BANS', right: 'stats', help: 'server addresses at which logins fail', run: answer(bans) },
  { name: 'SHOW LISTS', right: 'stats', help: 'number of items of each kind', run: answer(lists) },
  { name: 'SHOW CONFIG', right: 'stats', help: 'configuration keys and values', run: answer(config) },
  ...operationNames.map((operation): Command => {
    const { right, operand, help: what } = operations[operation]
    const run = operationCommands[operation]
    const name = operation.toUpperCase()
    return operand === null
      ? { name, right, help: what, run }
      : { name, right, help: `${operand} ${what}`, run, arguments: true }
  }),
  // Session parameters are open to all users; `set` checks the right to change the configuration.
  { name: 'SET', right: 'stats', help: 'key = value, until RELOAD or a new version', run: set, arguments: true },
  ...Object.entries(fixedParameters).map(([parameter, value]): Command => {
    const table: Table = { columns: texts(parameter), join: null, rows: () => [[value]] }
    return { name: `SHOW ${parameter.toUpperCase()}`, right: 'stats', help: null, run: answer(table) }
  }),
]

const byName = new Map(commands.map((command) => [command.name, command]))

/** Runs one statement and sends its answer. Throws SqlError if it is rejected, before anything was sent. */
export function* execute(caller: Caller, right: Right, statement: Statement): Exchange<void> {
  const command = find(statement)
  if (command.right === 'admin' && right !== 'admin') {
    throw new SqlError('insufficient_privilege', 'admin access needed')
  }
  const rest = command.run(caller, statement)
  if (rest !== undefined) yield* rest
}

function find(statement: Statement): Command {
  const [first] = statement
  // Quoted text never names a command.
  const plain = statement.every((token) => token.kind === 'word')
  const name = statement
    .map((token) => token.value.toUpperCase())
    .join(' ')
    .replace(/^SELECT /, 'SHOW ')
  const exact = plain ? byName.get(name) : undefined
  if (exact !== undefined) return exact
  const leading = first?.kind === 'word' ? byName.get(first.value.toUpperCase()) : undefined
  if (leading?.arguments === true) return leading
  throw unknownCommand(statement, name)
}

/** PgBouncer's text, with a hint of ours. */

function unknownCommand(statement: Statement, name: string): CommandError {
  const shown = statement
    .map((token) => token.value)
    .join(' ')
    .slice(0, shownMax)
  const known = commands.filter((command) => command.help !== null).map((command) => command.name.toLowerCase())
  const near = nearest(name.slice(0, shownMax), known)
  const guess = near === undefined ? '' : `Did you mean ${near.toUpperCase()}? `
  const message = `invalid command '${shown}', use SHOW HELP;`
  return new CommandError('syntax_error', message, `${guess}Use SHOW HELP to list the commands.`)
}

const shownMax = 60

/** Number of bytes of a long answer sent per turn of the loop, approximately. */
const turnBytes = 16_384

function answer(table: Table): Run {
  const run: Run = function* (caller, statement) {
    const rows =
      table.join === null
        ? table.rows(caller.engine)
        : yield* rowsOfAll(caller, table, table.join, find(statement).name)
    let parts: Uint8Array[] = [write.rowDescription(table.columns)]
    let bytes = 0
    for (const row of rows) {
      const encoded = write.dataRow(texted(row))
      parts.push(encoded)
      bytes += encoded.length
      if (bytes < turnBytes) continue
      caller.send(Buffer.concat(parts))
      parts = []
      bytes = 0
      yield* caller.turn()
    }
    parts.push(write.commandComplete('SHOW'))
    caller.send(Buffer.concat(parts))
  }
  tables.set(run, table)
  return run
}

/** Rows of all workers of the process; one that does not answer is left out. */
function* rowsOfAll(caller: Caller, table: Table, join: Join, command: string): Exchange<Iterable<Row>> {
  if (caller.engine.context.workers === null) return table.rows(caller.engine)
  const answers = yield* queryOthers(caller, { kind: 'rows', command })
  return join([partOf(table, caller.engine), ...answers.filter((rows) => Array.isArray(rows))])
}

/** This worker's part of a table. */
export function partOf({ part, rows }: Table, engine: OperatedEngine): Row[] {
  return [...(part ?? rows)(engine)]
}

/** The table of a SHOW command; undefined if there is none. */
export function tableOf(command: string): Table | undefined {
  const found = byName.get(command)
  return found === undefined ? undefined : tables.get(found.run)
}

function texted(row: Row): (string | null)[] {
  return row.map((value) => (typeof value === 'number' ? String(value) : value))
}

/** A notice without rows, as in PgBouncer. */
function help(caller: Caller): void {
  const lines = commands.flatMap((command) =>
    command.help === null ? [] : [`\t${command.name.padEnd(20)}${command.help}`],
  )
  const detail = `\n${lines.join('\n')}`
  caller.send(write.noticeResponse({ severity: 'NOTICE', code: '00000', message: 'Console usage', detail }))
  caller.send(write.commandComplete('SHOW'))
}
