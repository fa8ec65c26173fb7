import { strict as assert } from 'node:assert'
import { setV8Flags } from '../proxy/engine/v8.ts'
import { Engine } from '../proxy/engine/engine.ts'
import type { FleetSpec } from '../proxy/spec.ts'
import * as write from '../proxy/protocol/write.ts'
import { generalSettings, poolSettings } from '../shared/config/settings.ts'
import * as frontend from '../test/support/frontend-messages.ts'
import { protocols } from './options.ts'
import type { Protocol } from './options.ts'
import { MemoryIo } from './memory-io.ts'
import type { MemorySocket } from './memory-io.ts'
import { markdownTable } from './table.ts'

const transactionsPerReading = 400_000
const readings = 5
/** Few enough that no garbage collection hides what was allocated. */
const transactionsCounted = 8_000

/** Transactions after which the optimizing compiler has seen what it needs. */
const warmUp = 400_000
const clientCount = 16

/** What the engine's own code costs, with no kernel and no other process in the way. */
export function benchEngine(): void {
  const rows = protocols.map((protocol) => {
    const traffic = warmTraffic(protocol)
    return [protocol, nsPerTransaction(traffic).toFixed(0), bytesPerTransaction(traffic).toFixed(1)]
  })
  console.log('the engine alone, fed from memory: one SELECT of one row per transaction\n')
  console.log(markdownTable(['protocol', 'ns', 'bytes allocated'], rows))
}

interface Traffic {
  /** The clients take turns. */
  run(transactions: number): void
}

export function warmTraffic(protocol: Protocol): Traffic {
  setV8Flags()
  const traffic = trafficOf(protocol)
  traffic.run(warmUp)
  return traffic
}

/** The best of several readings: whatever disturbs one only adds. */
function nsPerTransaction(traffic: Traffic): number {
  let ns = Infinity
  for (let reading = 0; reading < readings; reading++) {
    const before = process.threadCpuUsage()
    traffic.run(transactionsPerReading)
    const { user, system } = process.threadCpuUsage(before)
    ns = Math.min(ns, ((user + system) * 1000) / transactionsPerReading)
  }
  return ns
}

/** Of the garbage-collected heap, the least of several readings. */
export function bytesPerTransaction(traffic: Traffic): number {
  let bytes = Infinity
  for (let reading = 0; reading < readings; reading++) {
    const before = process.memoryUsage().heapUsed
    traffic.run(transactionsCounted)
    const grownBytes = process.memoryUsage().heapUsed - before
    // After a collection in between there is less than before, which says nothing.
    if (grownBytes >= 0) bytes = Math.min(bytes, grownBytes / transactionsCounted)
  }
  return bytes
}

const database = 'bench'
const user = 'bench'

/** Several clients of an engine and the one server that answers them. */
function trafficOf(protocol: Protocol): Traffic {
  const io = new MemoryIo()
  const engine = new Engine(io, { listen: { host: '127.0.0.1', port: 0 } }, () => {})
  // A copy, as the agent's message to its engine's thread is one: V8 gives it another layout than a table-made object.
  const spec = structuredClone<FleetSpec>({
    position: { epoch: 1, version: 1 },
    general: generalSettings({}),
    generalValues: {},
    consoleUsers: [],
    pools: [
      {
        database,
        user,
        hash: '',
        connectHash: '',
        serverDatabase: database,
        serverUser: user,
        settings: poolSettings({ auth_type: 'trust', pool_size: 1 }),
        hosts: [{ host: '127.0.0.1', port: 5432, role: 'primary', addresses: ['127.0.0.1'] }],
        clientSecret: { md5: null, scram: null },
        serverPassword: null,
      },
    ],
  })
  engine.receive({ type: 'apply', id: 1, force: true, spec })
  const bytes = Buffer.allocUnsafeSlow(65536)
  const hand = (socket: MemorySocket, message: Buffer): void => {
    message.copy(bytes)
    assert(socket.events.onData(bytes, 0, message.length) === message.length, 'everything is handled')
  }

  const clients = Array.from({ length: clientCount }, () => io.accept())
  const [first] = clients
  assert(first !== undefined)
  hand(first, frontend.startup({ user, database }))
  const [server] = io.connected
  assert(server !== undefined, 'the first client brings the first server')
  server.events.onConnect()
  hand(server, greeting)
  for (const client of clients.slice(1)) hand(client, frontend.startup({ user, database }))
  if (protocol === 'prepared') {
    for (const client of clients) {
      const sentBytes = server.sentBytes
      hand(client, Buffer.concat([frontend.parse(statement, sql), frontend.sync]))
      // The server has the statement already when another client gave it.
      const parsed = server.sentBytes - sentBytes > frontend.sync.length
      hand(server, Buffer.concat([parsed ? parseComplete : Buffer.alloc(0), write.readyForQuery('I')]))
    }
  }

  const { request, answer } = exchanges[protocol]
  request.copy(bytes)
  const answerStart = request.length
  const answerEnd = answerStart + answer.copy(bytes, answerStart)
  const run = (transactions: number): void => {
    for (let at = 0; at < transactions; at++) {
      const client = clients[at % clientCount] as MemorySocket // clientCount of them
      io.tick(tickMs)
      client.events.onData(bytes, 0, answerStart)
      server.events.onData(bytes, answerStart, answerEnd)
    }
  }
  const sentBefore = [first.sentBytes, server.sentBytes]
  run(clientCount)
  assert(first.sentBytes - (sentBefore[0] ?? 0) === answer.length, 'the answer reaches its client')
  assert(server.sentBytes - (sentBefore[1] ?? 0) >= clientCount * request.length, 'every request reaches the server')
  return { run }
}

/** Not a whole number, as on a real clock. */
const tickMs = 0.0371

const greeting = Buffer.concat([
  write.authenticationOk(),
  write.parameterStatus('client_encoding', 'UTF8'),
  write.parameterStatus('server_version', '18.0'),
  write.backendKeyData(1, Buffer.alloc(4)),
  write.readyForQuery('I'),
])

const sql = 'SELECT abalance FROM pgbench_accounts WHERE aid = 12345;'
const row = [write.dataRow(['0']), write.commandComplete('SELECT 1'), write.readyForQuery('I')]
const description = write.rowDescription([{ name: 'abalance', type: write.TypeOid.int4 }])

/** As pgbench calls it; the server gets it under another name. */
const statement = 'P_0'
const parseComplete = Buffer.from('3100000004', 'hex')
const bindComplete = Buffer.from('3200000004', 'hex')
const describeAndExecute = [frontend.describePortal(''), frontend.execute(''), frontend.sync]

const exchanges = {
  simple: { request: frontend.query(sql), answer: Buffer.concat([description, ...row]) },
  extended: {
    request: Buffer.concat([frontend.parse('', sql), frontend.bind('', ''), ...describeAndExecute]),
    answer: Buffer.concat([parseComplete, bindComplete, description, ...row]),
  },
  prepared: {
    request: Buffer.concat([frontend.bind('', statement), ...describeAndExecute]),
    answer: Buffer.concat([bindComplete, description, ...row]),
  },
}
