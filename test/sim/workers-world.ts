/**
 * A world with several engines: the workers of one process, which accept from one listener, hand clients to each other
 * and count in shared memory what they hold together. While clients come and go, servers are lost, pools removed and
 * threads die, the limits of all workers together hold at every moment; afterwards every client is served, and all
 * shared counters are zero.
 */
import assert from 'node:assert/strict'
import { generalSettings } from '../../shared/config/settings.ts'
import { placed } from '../../proxy/agent/placement.ts'
import { KeyCounts } from '../../proxy/memory/key-counts.ts'
import { SchemaChanges } from '../../proxy/memory/schema-changes.ts'
import { SharedCounters } from '../../proxy/memory/shared-counters.ts'
import { Engine } from '../../proxy/engine/engine.ts'
import type { FromEngine } from '../../proxy/port.ts'
import type { FleetSpec } from '../../proxy/spec.ts'
import * as operations from '../../proxy/console/operations.ts'
import type { ServerSource } from '../../proxy/engine/pool/server-source.ts'
import { Server } from '../../proxy/engine/pool/server.ts'
import type { Listener, Socket, SocketEvents } from '../../proxy/io/io.ts'
import { Client } from './client.ts'
import { agreed, Configurer, poolKey, poolNames, specOf } from './configuration.ts'
import type { Version } from './configuration.ts'
import { Checker } from './checker.ts'
import { Run } from './run.ts'
import { SimIo, SimSocket } from './io.ts'
import { Network } from './network.ts'
import type { End } from './network.ts'
import type { Postgres } from './postgres.ts'
import { habitsOf, randomProfile } from './profile.ts'
import type { Profile } from './profile.ts'
import { Random } from './random.ts'
import { Schedule } from './schedule.ts'
import { noticeMs, passwords, servedWithinMs, proxy, settleMs, startServers } from './setting.ts'
import { sameServers, violation, violationAtRest } from './watch.ts'

const count = 2

const general = generalSettings({})

const faultyEvents = 2000
const faultyMsMax = 120_000
/** Longest time until a dead thread is started again. */
const restartMsMax = 1000

/** Longest time until a worker gets a version, which reaches them one after another. */
const applyMsMax = 5

/** Longer than a worker needs to see what another wants, close a server for it, and log in to another one. */
const neglectMs = 8000

/** The Io of one worker thread. */
class WorkerIo extends SimIo {
  onAccept: ((socket: Socket) => SocketEvents) | null = null

  /** All workers share one listener, see `WorkersWorld.#accept`. */
  override listen(address: { readonly port: number }, onAccept: (socket: Socket) => SocketEvents): Listener {
    this.onAccept = onAccept
    return { port: address.port, close: () => (this.onAccept = null) }
  }
}

interface Worker {
  readonly io: WorkerIo
  readonly engine: Engine
}

export class WorkersWorld {
  readonly random: Random
  readonly profile: Profile
  readonly checker: Checker
  readonly #schedule: Schedule
  readonly #network: Network
  readonly #servers: readonly Postgres[]
  readonly #run: Run
  readonly #memory = SharedCounters.memory(count)
  readonly #counters = new SharedCounters(this.#memory, count)
  /** What the workers of a process share beside the counters. */
  readonly #process = {
    mockKey: Buffer.alloc(32),
    failedLogins: KeyCounts.memory(),
    schemaChanges: SchemaChanges.memory(),
    ioUring: false,
    clockOffsetMs: 0,
  }
  /** The version with every pool. */
  readonly #whole: Version
  /** Longest time that a connection is in transit to another worker: short, or enough for changes of its pool. */
  readonly #handMsMax: number
  #number = 1
  #spec: FleetSpec
  readonly #homes = new Map<string, number>()
  /** Number of workers that do not have the latest version yet. */
  #behind = 0
  /** Null while the worker is dead. */
  readonly #workers: (Worker | null)[] = Array.from({ length: count }, () => null)
  readonly #woken = new Set<number>()
  #nextClient = 1
  #injecting = true

  constructor(seed: number, trace: ((line: string) => void) | null = null) {
    this.random = new Random(seed)
    this.profile = { ...randomProfile(this.random), mode: 'transaction', kind: 'calm', clientsMax: 10_000 }
    this.#schedule = new Schedule(this.random)
    this.#network = new Network(this.#schedule, this.random)
    this.checker = new Checker(seed, this.#schedule, this.profile, trace)
    this.#run = new Run(this.#schedule, this.checker, () => this.#look())
    this.#servers = startServers(this.#network, this.random, this.checker, 'trust')
    this.#handMsMax = this.random.pick([3, 300])
    this.#whole = this.#version()
    this.#spec = this.#next(this.#whole)
    this.#network.listen(proxy, (end) => this.#accept(end))
    for (let worker = 0; worker < count; worker++) this.#start(worker)
    this.checker.trace(`profile ${JSON.stringify(this.profile)}`)
  }

  /** Pools of sizes that are divided between workers, or placed on one. */
  #version(): Version {
    const first = new Configurer(this.random, this.profile).first()
    const sized = new Map(
      [...first].map(([key, wanted]) => {
        const values = { ...wanted.values, min_pool_size: 0, pool_size: this.random.pick([1, 4, 5]) }
        return [key, { ...wanted, values }]
      }),
    )
    return agreed(sized)
  }

  run(): void {
    this.#run.play(() => {
      this.#injectFaults()
      this.#heal()
      this.#leave()
      this.#stop()
    })
  }

  // The process

  get #alive(): Worker[] {
    return this.#workers.filter((worker) => worker !== null)
  }

  #next(version: Version): FleetSpec {
    this.checker.applying(version, this.#network.dials)
    return placed(specOf(version, this.#number++, passwords, general), count, this.#homes)
  }

  /** Workers get a version at different times; the next one comes when all have it. */
  #apply(version: Version): void {
    this.checker.trace(`apply ${[...version.keys()].join(' ')}`)
    this.#spec = this.#next(version)
    for (let worker = 0; worker < count; worker++) {
      this.#behind++
      this.#schedule.after(this.random.next() * applyMsMax, () => {
        this.#behind--
        this.#configure(this.#workers[worker] ?? null)
      })
    }
  }

  #configure(worker: Worker | null): void {
    worker?.engine.receive({ type: 'apply', id: 1, force: true, spec: this.#spec })
  }

  #start(number: number): void {
    const io = new WorkerIo(this.#network, this.random, this.profile.rules, proxy.host)
    io.onConnect = (events) => this.#connecting(events)
    const workers = {
      self: number,
      count,
      counters: this.#counters,
      clockOffsetMs: 0,
      handOver: (socket: Socket, to: number, bytes: Uint8Array, placedLife: number | null) =>
        this.#hand(socket, to, Uint8Array.from(bytes), placedLife),
      wake: (to: number) => this.#wake(to),
    }
    const engine = new Engine(io, { listen: proxy, workers, process: this.#process }, (message) =>
      this.#fromEngine(message),
    )
    this.#workers[number] = { io, engine }
    this.#configure(this.#workers[number])
    this.checker.trace(`worker ${number} begins`)
  }

  /** A random worker accepts. */
  #accept(end: End): void {
    const { io } = this.random.pick(this.#alive)
    assert(io.onAccept !== null, 'a worker that lives accepts')
    const socket = new SimSocket(io, end, true)
    io.sockets.add(socket)
    io.turns++
    socket.events = io.onAccept(socket)
  }

  /** As by an eventfd: one read serves every wake-up before it. */
  #wake(to: number): void {
    if (this.#woken.has(to)) return
    this.#woken.add(to)
    this.#schedule.after(this.random.next(), () => {
      this.#woken.delete(to)
      this.#workers[to]?.engine.lookAround()
    })
  }

  #hand(socket: Socket, to: number, bytes: Uint8Array, placedLife: number | null): boolean {
    assert(socket instanceof SimSocket)
    if (!socket.part()) return false
    this.checker.seen.add('a client was handed over')
    this.#arrive(socket, to, bytes, placedLife)
    return true
  }

  /** A connection for a dead worker waits for its successor. */
  #arrive(socket: SimSocket, to: number, bytes: Uint8Array, placedLife: number | null): void {
    this.#schedule.after(this.random.next() * this.#handMsMax, () => {
      const worker = this.#workers[to]
      if (worker === null || worker === undefined) this.#arrive(socket, to, bytes, placedLife)
      else socket.arrive(worker.io, bytes, (arrived) => worker.engine.adopt(arrived, placedLife))
    })
  }

  /** The thread ends at any moment; its descriptors are closed, and another thread takes its place. */
  #die(number: number): void {
    const worker = this.#workers[number]
    if (worker === null || worker === undefined || this.#alive.length < count) return
    this.checker.trace(`worker ${number} dies`)
    this.checker.seen.add('a worker died')
    const { io } = worker
    this.#workers[number] = null
    for (const timer of io.timers) timer.cancel()
    for (const socket of io.sockets) {
      if (socket.accepted) this.#excuse(socket)
      socket.events = { ...deaf }
      socket.close()
    }
    this.#counters.workerEnded(number)
    this.#schedule.after(this.random.next() * restartMsMax, () => this.#start(number))
  }

  #excuse(socket: SimSocket): void {
    for (const { id, options } of this.checker.clients)
      if (options.host === socket.remote.host) this.checker.killed.add(id)
  }

  #fromEngine(message: FromEngine): void {
    if (message.type !== 'disconnect') return
    const { cause, state, client_hurt } = message.disconnect
    this.checker.lost(cause, state, client_hurt)
  }

  // Invariants of all workers together

  #connecting(events: object): void {
    if (!(events instanceof Server)) return
    const { source, settings } = events.serverSet
    const { poolSize, reservePoolSize, reservePoolTimeoutMs, maxDbConnections } = settings
    const same = this.#alive.flatMap(({ engine }) => sameSources(engine, source))
    const reserve = same.some(({ maxWaitMs }) => maxWaitMs >= reservePoolTimeoutMs) ? reservePoolSize : 0
    const size = same.reduce((sum, { current }) => sum + (current?.size ?? 0), 0)
    if (size >= poolSize + reserve) this.checker.fail(`a connection above pool_size ${poolSize} of all workers`)
    const ofDatabase = this.#alive.reduce((sum, { engine }) => sum + operations.serversLeft(engine, source.database), 0)
    if (maxDbConnections > 0 && ofDatabase >= maxDbConnections) {
      this.checker.fail(`a connection above max_db_connections ${maxDbConnections} of all workers`)
    }
  }

  #look(): void {
    for (const { engine } of this.#alive) {
      const wrong = violation(engine, this.#schedule.nowMs) ?? this.#misCounted(engine) ?? this.#neglected(engine)
      if (wrong !== null) this.checker.fail(wrong)
    }
  }

  /** No client waits for long while another worker has a server that has been idle as long. */
  #neglected({ pools }: Engine): string | null {
    for (const source of pools.sources()) {
      const { database, key, maxWaitMs } = source
      if (maxWaitMs < neglectMs) continue
      for (const { current } of this.#alive.flatMap(({ engine }) => sameSources(engine, source))) {
        const head = current?.idle.head ?? null
        if (head === null || this.#schedule.nowMs - head.idleSinceMs < neglectMs) continue
        return `a client of ${database}/${key} waits for ${maxWaitMs} ms, and another worker has an idle server`
      }
    }
    return null
  }

  /** The shared counters of a worker equal the sizes of its lists. */
  #misCounted({ pools, context }: Engine): string | null {
    const worker = context.workers?.self ?? 0
    for (const { slots, current, database, key } of pools.sources()) {
      if (slots === null || slots.servers === null) return 'it has no shared counters'
      const servers = this.#counters.count(slots.servers, worker)
      if (servers !== (current?.size ?? 0)) {
        return `worker ${worker} has ${current?.size} servers of ${database}/${key}, ${servers} counted`
      }
    }
    for (const { slots, database, user, clientCount } of pools.all()) {
      if (slots === null || slots.placed === null) return 'it has no shared counters'
      const placedClients = this.#counters.count(slots.placed, worker)
      if (placedClients < clientCount) {
        return `worker ${worker} has ${clientCount} clients of ${database}/${user}, ${placedClients} counted`
      }
    }
    return null
  }

  // Phases

  #injectFaults(): void {
    for (let left = this.profile.clients * 3; left > 0; left--) this.#comeIn()
    this.#injectLater()
    this.#run.until(() => this.#run.events >= faultyEvents, faultyMsMax)
    this.#injecting = false
  }

  #injectLater(): void {
    this.#schedule.after(this.random.next() * 2 * this.profile.chaosEveryMs, () => {
      if (!this.#injecting) return
      this.#inject()
      this.#injectLater()
    })
  }

  #inject(): void {
    const { random } = this
    const client = this.checker.clients.size === 0 ? null : random.pick([...this.checker.clients])
    const fault = random.weighted({ comeIn: 4, leave: 2, cancel: 4, terminate: 2, die: 1, remove: 1 })
    switch (fault) {
      case 'comeIn':
        if (this.checker.clients.size < this.profile.clients * 4) this.#comeIn()
        return
      case 'leave':
        client?.leave(random.pick(['terminate', 'close', 'reset']))
        return
      case 'cancel':
        client?.cancel()
        return
      case 'terminate':
        this.#terminate()
        return
      case 'die':
        this.#die(random.integer(0, count - 1))
        return
      case 'remove':
        if (this.#behind === 0) this.#remove()
        return
      default:
        fault satisfies never
    }
  }

  /** Removes one pool from the configuration and restores all others. */
  #remove(): void {
    const { pool, user } = this.random.pick(poolNames)
    const version = new Map(this.#whole)
    if (this.checker.version.has(poolKey(pool, user))) version.delete(poolKey(pool, user))
    this.checker.seen.add('a pool was removed')
    this.#apply(version)
  }

  #terminate(): void {
    const sessions = this.#servers.flatMap((server) => [...server.sessions].filter((session) => session.key !== null))
    if (sessions.length === 0) return
    const session = this.random.pick(sessions)
    this.checker.seen.add('fault serverTerminate')
    this.checker.hit.add(session)
    session.terminate('57P01', 'terminating connection')
  }

  #comeIn(): void {
    const { profile, random } = this
    // Most clients want one pool, so that workers want what others have.
    const { pool, user } = random.chance(0.7) ? poolNames[0] : random.pick(poolNames)
    const id = `c${this.#nextClient++}`
    const client = new Client(this.#network, random, this.checker, proxy, {
      id,
      // Unique, because it identifies the client.
      host: `10.2.${this.#nextClient >> 8}.${this.#nextClient & 255}`,
      pool,
      user,
      password: passwords.get(user) ?? '',
      stray: false,
      startup: new Map(),
      options: new Map(),
      ...habitsOf(profile),
      only: null,
      askSsl: random.chance(0.2),
    })
    this.checker.clients.add(client)
    this.checker.trace(`${id} connects to ${pool}/${user}`)
  }

  #heal(): void {
    this.checker.trace('the world heals')
    this.checker.phase = 'healing'
    this.#run.until(() => this.#behind === 0, restartMsMax)
    this.#apply(this.#whole)
    for (const client of this.checker.clients) {
      client.quiet = true
      client.act()
    }
    this.#run.pass(noticeMs)
    const unrested = (): Client | undefined => [...this.checker.clients].find((client) => !client.resting)
    if (!this.#run.until(() => unrested() === undefined, servedWithinMs)) {
      this.checker.fail(`not served in a healthy world: ${unrested()?.describe()}`)
    }
    this.checker.phase = 'healthy'
  }

  #leave(): void {
    for (const client of this.checker.clients) client.leave(this.random.pick(['terminate', 'close', 'reset']))
    this.#run.pass(settleMs)
    for (const { engine } of this.#alive) {
      const wrong = violationAtRest(engine, this.#schedule.nowMs)
      if (wrong !== null) this.checker.fail(wrong)
      for (const { slots, database, user } of engine.pools.all()) {
        for (const slot of [slots?.placed, slots?.databaseClients, slots?.userClients]) {
          const left = this.#counters.total(slot ?? 0)
          if (left !== 0) this.checker.fail(`${left} clients of ${database}/${user} remain in the shared counters`)
        }
      }
    }
  }

  #stop(): void {
    this.checker.phase = 'stopping'
    for (const { engine } of this.#alive) engine.receive({ type: 'stop', mode: 'drain', timeoutMs: 0 })
    this.#run.pass(settleMs)
    for (const { io, engine } of this.#alive) {
      if (!engine.ended) this.checker.fail('an engine does not stop')
      if (io.sockets.size + io.timers.size > 0) this.checker.fail('an engine that has ended keeps something')
    }
  }
}

/** Sources that are counted together: those of one key, where workers run the same. */
function sameSources(engine: Engine, { database, key, current }: ServerSource): ServerSource[] {
  return [...engine.pools.sources()].filter(
    (one) =>
      one.database === database &&
      one.key === key &&
      current !== null &&
      one.current !== null &&
      sameServers(one.current, current),
  )
}

const deaf: SocketEvents = {
  onConnect: () => undefined,
  onData: (_bytes, _start, end) => end,
  onDrain: () => undefined,
  onClose: () => undefined,
}
