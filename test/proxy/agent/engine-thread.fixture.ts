/**
 * An engine that speaks port.ts and serves no client. Like the real one it blocks, and looks for messages when it is
 * woken. A test drives it over a BroadcastChannel that bears the port it was told to listen on, and its worker's number.
 */
import { BroadcastChannel, type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import koffi from 'koffi'
import { waitBoundsMs } from '../../../proxy/snapshot.ts'
import type { EngineStart, FromEngine, ToEngine } from '../../../proxy/port.ts'
import type { ConsoleTables, PoolSnapshot } from '../../../proxy/snapshot.ts'
import { shownHash } from '../../../proxy/spec.ts'
import type { ApplyOutcome, FleetSpec } from '../../../proxy/spec.ts'
import { noTotals } from '../../../proxy/engine/pool/totals.ts'
import { comparePositions } from '../../../shared/position.ts'

/** What a test can make it do. */
export type Instruction =
  | { readonly do: 'throw'; readonly message: string }
  | { readonly do: 'hang' }
  | { readonly do: 'leave open'; readonly count: number }
  | { readonly do: 'say'; readonly message: FromEngine }
  | { readonly do: 'throw at the next apply' }
  /** The test answers, or the agent ends them. */
  | { readonly do: 'hold preflights' }

/** What it tells a test. */
export type Told =
  | { readonly got: ToEngine }
  | { readonly obeyed: Instruction['do'] }
  | { readonly opened: readonly number[] }
  | { readonly hangs: true }

export function channelName(port: number, worker: number): string {
  return `scripted engine ${port}/${worker}`
}

const tables: ConsoleTables = {
  databases: [{ name: 'app', host: 'db', port: 5432, database: 'app', force_user: null, pool_size: 5 }],
  lists: [{ list: 'used_clients', items: 3 }],
  config: [{ key: 'max_client_conn', value: '100' }],
  pools: [{ database: 'app', user: 'web', cl_active: 3, maxwait: 1 }],
  stats_totals: [{ database: 'app', xact_count: 7, xact_time: 2_000_000 }],
  version: [{ version: 'PgBouncer 1.25.2' }],
  clients: [{ database: 'app', user: 'web', application_name: 'shop', state: 'idle', count: 2 }],
}

const nothingShown = { refused: [], failing: [], unknown: [], attempts: 0 }

function run(start: EngineStart, port: NonNullable<typeof parentPort>): void {
  const poll = koffi.load(null).func('int poll(uint8_t *fds, unsigned long nfds, int timeout)') as (
    fds: Uint8Array,
    count: number,
    timeoutMs: number,
  ) => number
  const read = koffi.load(null).func('int64_t read(int fd, uint8_t *buf, uint64_t count)') as (
    fd: number,
    bytes: Uint8Array,
    count: number,
  ) => number

  const open = koffi.load(null).func('int open(const char *path, int flags)') as (path: string, flags: number) => number

  const channel = new BroadcastChannel(channelName(start.listen.port, start.workers?.self ?? 0))
  // receiveMessageOnPort takes either (manual: worker_threads), the types say otherwise.
  const instructions = channel as unknown as MessagePort
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel between threads, not a window
  const tell = (told: Told): void => channel.postMessage(told)
  const counter = Buffer.alloc(8)
  const pollFd = Buffer.alloc(8)
  pollFd.writeInt32LE(start.wakeFd, 0)
  pollFd.writeInt16LE(1, 4) // POLLIN
  let running: FleetSpec | null = null
  let throwAtApply = false
  let holdsPreflights = false
  let preflight: number | null = null
  const state = { stopped: false }

  const obey = (instruction: Instruction): void => {
    switch (instruction.do) {
      case 'throw':
        throw new Error(instruction.message)
      case 'hang':
        tell({ hangs: true })
        for (;;) poll(pollFd, 0, 10)
      case 'leave open': {
        const bits = new Uint8Array(start.openFds)
        // Node closes by itself what a thread opened through it; like the engine, this opens behind Node's back.
        const opened = Array.from({ length: instruction.count }, () => open('/dev/null', 0))
        for (const fd of opened) bits[fd >> 3] = (bits[fd >> 3] ?? 0) | (1 << (fd & 7))
        tell({ opened })
        return
      }
      case 'say':
        port.postMessage(instruction.message)
        return
      case 'throw at the next apply':
        throwAtApply = true
        return
      case 'hold preflights':
        holdsPreflights = true
        return
      default:
        instruction satisfies never
    }
  }

  const apply = (spec: FleetSpec, force: boolean): ApplyOutcome => {
    if (throwAtApply) throw new Error('this version is deadly')
    const counts = { added: spec.pools.length, rebuilt: 0, retuned: 0, removed: 0, kept: 0 }
    const isAbove = comparePositions(spec.position, running?.position ?? null) > 0
    if (!force && !isAbove) return { applied: false, running: running?.position ?? null, ...counts }
    running = spec
    return { applied: true, running: spec.position, ...counts }
  }

  const snapshotOf = (spec: FleetSpec['pools'][number]): PoolSnapshot => ({
    pool: spec.database,
    user: spec.user,
    hash: shownHash(spec),
    overridden: false,
    serving: { state: 'present' },
    clientsActive: 2,
    clientsIdle: 1,
    clientsWaiting: 1,
    serversActive: 2,
    serversIdle: 1,
    serversLogin: 0,
    serversReplication: 0,
    serversDraining: 0,
    maxWaitMs: 1500,
    poolSize: spec.settings.poolSize,
    totals: { ...noTotals(), server_assignment_count: 20, wait_time: 3_000_000 },
    closed: { idle: 3 },
    refused: { '53300': 1 },
    serversPinned: 1,
    waits: [7, ...waitBoundsMs.map(() => 1), 2],
    serverErrors: { '42': 4 },
  })

  const endPreflight = (): void => {
    if (preflight === null) return
    port.postMessage({ type: 'preflighted', id: preflight, outcome: nothingShown } satisfies FromEngine)
    preflight = null
  }

  const receive = (message: ToEngine): void => {
    tell({ got: message })
    switch (message.type) {
      case 'apply':
        port.postMessage({ type: 'applied', id: message.id, outcome: apply(message.spec, message.force) })
        return
      case 'preflight':
        preflight = message.id
        if (!holdsPreflights) endPreflight()
        return
      case 'preflight_over':
        holdsPreflights = false
        endPreflight()
        return
      case 'snapshot':
        port.postMessage({
          type: 'snapshot',
          id: message.id,
          snapshot: {
            running: running?.position ?? null,
            clients: 3,
            clientsLogin: 0,
            loginsDelayed: 0,
            pools: running?.pools.map(snapshotOf) ?? [],
            refused: {},
            overrides: [],
            authQueries: [
              { database: 'postgres', user: 'asker', connections: { new: 0, idle: 1, active: 2 }, waiting: 3 },
            ],
            ...(message.tables === true ? { tables } : {}),
          },
        } satisfies FromEngine)
        return
      case 'operate':
        port.postMessage({
          type: 'operated',
          id: message.id,
          outcome: { known: message.pool === 'app', paused: message.operation === 'pause', servers: 2 },
        } satisfies FromEngine)
        return
      case 'carry_out':
        port.postMessage({ type: 'answer', id: message.id, answer: true } satisfies FromEngine)
        return
      case 'stop':
        state.stopped = true
        return
      case 'desired':
      case 'addresses':
      case 'tls':
      case 'peers':
      case 'reloaded':
      case 'query':
      case 'answers':
      case 'restore':
      case 'handed':
        return
      default:
        message satisfies never
    }
  }

  port.postMessage({ type: 'listening', host: start.listen.host, port: start.listen.port } satisfies FromEngine)
  while (!state.stopped) {
    poll(pollFd, 1, 10)
    read(start.wakeFd, counter, counter.length)
    for (let got = receiveMessageOnPort(instructions); got !== undefined; got = receiveMessageOnPort(instructions)) {
      // Only this module's types go over the channel.
      const instruction = got.message as Instruction | Told
      if (!('do' in instruction)) continue
      obey(instruction)
      tell({ obeyed: instruction.do })
    }
    for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
      receive(got.message as ToEngine)
    }
  }
  port.postMessage({ type: 'stopped' } satisfies FromEngine)
  instructions.close()
  port.close()
}

if (parentPort !== null && workerData !== null && (workerData as Partial<EngineStart>).openFds !== undefined) {
  run(workerData as EngineStart, parentPort)
}
