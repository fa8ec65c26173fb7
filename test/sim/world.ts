/**
 * One simulated world: the engine between model clients and model servers, with faults and changes of configuration at
 * any moment, all decided by a seed. First faults are injected; then the world heals, and every waiting client must be
 * served; then all clients leave, and nothing may remain.
 */
import assert from 'node:assert/strict'

import { causes } from '../../shared/causes.ts'
import type { Cause } from '../../shared/causes.ts'
import { generalSettings } from '../../shared/config/settings.ts'
import type { GeneralSettings } from '../../shared/config/settings.ts'
import { Client as EngineClient } from '../../proxy/engine/pool/client.ts'
import { Engine } from '../../proxy/engine/engine.ts'
import type { FromEngine } from '../../proxy/port.ts'
import type { ClosedServers } from '../../proxy/engine/pool/closed-servers.ts'
import type { Pool } from '../../proxy/engine/pool/pool.ts'
import * as operations from '../../proxy/console/operations.ts'
import { suspend, unsuspend, whenFlushed } from '../../proxy/engine/suspension.ts'
import { Server } from '../../proxy/engine/pool/server.ts'
import type { ServerSet } from '../../proxy/engine/pool/server-set.ts'
import { Client } from './client.ts'
import type { ClientOptions } from './client.ts'
import { Configurer, hashOf, planOf, poolKey, poolNames, specOf } from './configuration.ts'
import type { Plan, Version } from './configuration.ts'
import { Checker } from './checker.ts'
import { Run } from './run.ts'
import { SimIo } from './io.ts'
import { Network } from './network.ts'
import type { Postgres } from './postgres.ts'
import { habitsOf, randomProfile } from './profile.ts'
import type { Profile } from './profile.ts'
import { Random } from './random.ts'
import { Schedule } from './schedule.ts'
import { noticeMs, passwords, servedWithinMs, proxy, settleMs, startServers } from './setting.ts'
import { injectFault } from './faults.ts'
import { Before, violation, violationAtRest } from './watch.ts'

const faultyEvents = 3000

const faultyMsMax = 300_000

/** Longest time from a PAUSE to its RESUME. */
const pauseMsMax = 10_000

/** Longest time from a SUSPEND to its RESUME. */
const suspendMsMax = 5000

export class World {
  readonly random: Random
  readonly schedule: Schedule
  readonly network: Network
  readonly profile: Profile
  readonly checker: Checker
  readonly io: SimIo
  readonly engine: Engine
  readonly servers: readonly Postgres[]
  readonly #run: Run
  readonly #configurer: Configurer
  readonly #general: GeneralSettings
  #number = 0
  #nextClient = 1
  #expectedPlan: Plan | null = null
  #injecting = true
  #serverConnects = 0
  #lost = 0
  #posted: FromEngine['type'][] = []
  readonly #counted = new Set<ClosedServers>()
  readonly #closed: Partial<Record<Cause, number>> = {}

  constructor(seed: number, trace: ((line: string) => void) | null = null) {
    this.random = new Random(seed)
    this.profile = randomProfile(this.random)
    this.schedule = new Schedule(this.random)
    this.network = new Network(this.schedule, this.random)
    this.checker = new Checker(seed, this.schedule, this.profile, trace)
    this.#configurer = new Configurer(this.random, this.profile)
    this.#general = generalSettings({ max_client_connections: this.profile.clientsMax })
    this.io = new SimIo(this.network, this.random, this.profile.rules, proxy.host)
    this.io.onConnect = (events) => this.#connecting(events)
    this.io.onRead = (events) => this.#reading(events)
    const auth = this.random.pick(['trust', 'cleartext', 'md5', 'scram'] as const)
    this.servers = startServers(this.network, this.random, this.checker, auth)
    this.#run = new Run(this.schedule, this.checker, () => this.#checkAfterTurn())
    this.engine = new Engine(this.io, { listen: proxy }, (message) => this.#fromEngine(message))
    this.trace(`profile ${JSON.stringify(this.profile)}`)
  }

  get clients(): Set<Client> {
    return this.checker.clients
  }

  get hit(): Set<object> {
    return this.checker.hit
  }

  get refusals(): Set<string> {
    return this.checker.refusals
  }

  get seen(): Set<string> {
    return this.checker.seen
  }

  trace(text: string): void {
    this.checker.trace(text)
  }

  run(): void {
    this.#run.play(() => {
      this.#injectFaults()
      if (this.profile.stop === 'at rest') {
        this.#heal()
        this.#probe()
        this.#leave()
      }
      this.#stop()
    })
  }

  // Faults

  anyClient(): Client | null {
    return this.clients.size === 0 ? null : this.random.pick([...this.clients])
  }

  /** One that waits for an answer, so that a cancel request may hit something; if there is none, any client. */
  busyClient(): Client | null {
    const busy = [...this.clients].filter(({ state, busy: waits }) => state === 'ready' && waits)
    return busy.length === 0 ? this.anyClient() : this.random.pick(busy)
  }

  comeIn(given: Partial<ClientOptions> = {}): Client {
    const { profile, random } = this
    const { pool, user } = random.pick(poolNames)
    const id = `c${this.#nextClient++}`
    const startup = new Map<string, string>()
    const switches = new Map<string, string>()
    if (!profile.statementsOnly) {
      if (random.chance(0.5)) startup.set('application_name', random.chance(0.5) ? 'common' : `${id} of ${pool}`)
      if (random.chance(0.2)) startup.set('TimeZone', 'Europe/Berlin')
      if (random.chance(0.2)) startup.set('work_mem', '16MB')
      if (random.chance(0.1)) switches.set('search_path', 'a, b')
    }
    const client = new Client(this.network, random, this.checker, proxy, {
      id,
      host: `10.2.0.${this.#nextClient % 250}`,
      pool,
      user,
      password: passwords.get(given.user ?? user) ?? '',
      stray: given.pool === 'nowhere' || given.password === 'wrong',
      startup,
      options: switches,
      ...habitsOf(profile),
      only: profile.statementsOnly ? random.pick(['named', 'unnamed'] as const) : null,
      askSsl: random.chance(0.2),
      ...given,
    })
    this.clients.add(client)
    this.trace(`${id} connects to ${client.options.pool}/${client.options.user}`)
    return client
  }

  applyNext(): void {
    this.#apply(this.#configurer.next(this.checker.versions))
  }

  moveHost(): void {
    const { name, addresses } = this.#configurer.move()
    this.trace(`${name} is now at ${addresses.join(' and ')}`)
    this.checker.moving(name, addresses)
    this.engine.receive({ type: 'addresses', hosts: { [name]: addresses } })
    this.#check()
  }

  // Operators

  /** For a while, also beyond the phase of faults. */
  pause(): void {
    const database = this.#anyDatabase()
    this.trace(`PAUSE ${database ?? ''}`)
    operations.pause(this.engine, database)
    this.schedule.after(this.random.next() * pauseMsMax, () => {
      if (!this.engine.ended) operations.resume(this.engine, database)
    })
    this.#check()
  }

  /** For less than suspend_timeout, so that no client is closed because it has not read everything. */
  suspend(): void {
    // A console command runs after other handlers, and before what they have sent leaves.
    this.io.onceHandled = () => this.#suspend()
  }

  #suspend(): void {
    if (this.engine.ended || !this.#injecting || !suspend(this.engine)) return
    this.trace('SUSPEND')
    whenFlushed(this.engine, (holds) => {
      this.trace('everything is flushed or resumed')
      if (holds && this.#unsent()) this.checker.fail('a SUSPEND ends before everything is sent')
    })
    this.schedule.after(this.random.next() * suspendMsMax, () => {
      if (this.engine.ended) return
      this.trace('RESUME')
      unsuspend(this.engine)
      this.#check()
    })
    this.#check()
  }

  /** Consoles and logins may be answered meanwhile. */
  #unsent(): boolean {
    return [...this.io.sockets].some(
      ({ events, unsentBytes }) => unsentBytes > 0 && (events instanceof EngineClient || events instanceof Server),
    )
  }

  reconnect(): void {
    const database = this.#anyDatabase()
    this.trace(`RECONNECT ${database ?? ''}`)
    operations.reconnect(this.engine, database)
    this.#check()
  }

  kill(): void {
    const { pool } = this.random.pick(poolNames)
    this.trace(`KILL ${pool}`)
    this.checker.killed.add(pool)
    operations.kill(this.engine, pool)
    this.schedule.after(this.random.next() * pauseMsMax, () => {
      if (!this.engine.ended) operations.resume(this.engine, pool)
    })
    this.#check()
  }

  killClient(): void {
    const client = this.anyClient()
    const known = [...this.engine.context.clients]
    const victim = known.find(({ socket }) => socket.remote.host === client?.options.host)
    if (client === null || victim === undefined) return
    this.checker.killed.add(client.id)
    this.trace(`KILL_CLIENT ${victim.id}`)
    operations.killClient(this.engine, victim.id)
    this.#check()
  }

  #anyDatabase(): string | null {
    return this.random.chance(0.2) ? null : this.random.pick(poolNames).pool
  }

  // The engine

  #fromEngine(message: FromEngine): void {
    this.#posted.push(message.type)
    switch (message.type) {
      case 'applied': {
        const { applied: _applied, running: _running, ...done } = message.outcome
        assert.deepEqual(done, this.#expectedPlan)
        return
      }
      case 'disconnect': {
        const { cause } = message.disconnect
        this.#lost++
        this.trace(`lost ${JSON.stringify(message.disconnect)}`)
        this.checker.lost(cause, message.disconnect.state, message.disconnect.client_hurt)
        return
      }
      case 'log':
        this.trace(`log: ${message.level} ${message.message}`)
        return
      case 'listening':
      case 'unlistened':
      case 'hand':
      case 'query':
      case 'answer':
      case 'snapshot':
      case 'preflighted':
      case 'reload':
      case 'operated':
      case 'state':
      case 'shutdown':
      case 'peers':
      case 'stopped':
        this.trace(`engine: ${message.type}`)
        return
      default:
        message satisfies never
    }
  }

  #connecting(events: object): void {
    if (!(events instanceof Server)) return
    this.#serverConnects++
    const { serverSet } = events
    if (serverSet.draining) this.checker.fail('a draining pool opens a connection')
    const { poolSize, reservePoolSize, reservePoolTimeoutMs, maxDbConnections } = serverSet.settings
    const { source } = serverSet
    const reserve = source.maxWaitMs >= reservePoolTimeoutMs ? reservePoolSize : 0
    let size = 0
    for (const { database, current } of this.engine.pools.sources()) {
      if (database === source.database && current !== null && this.#together(current, serverSet)) size += current.size
    }
    if (size >= poolSize + reserve) this.checker.fail(`a connection above pool_size ${poolSize}`)
    if (size >= poolSize) this.seen.add('the reserve pool was used')
    if (source.paused) this.checker.fail('a paused name opens a connection')
    if (this.engine.context.suspended) this.checker.fail('a suspended engine opens a connection')
    const servers = operations.serversLeft(this.engine, source.database)
    if (maxDbConnections > 0 && servers >= maxDbConnections) {
      this.checker.fail(`a connection above max_db_connections ${maxDbConnections}`)
    }
    if (this.checker.phase !== 'stopping') return
    if (this.engine.ended) this.checker.fail('a stopped engine opens a connection')
    if (!source.hasWaiting) this.checker.fail('a stopping engine opens a connection that no client waits for')
  }

  /** Whether they count for one pool_size: servers of one role, unless users disagree on how these are opened. */
  #together(one: ServerSet, other: ServerSet): boolean {
    return this.profile.sharesServers ? one.spec.serverUser === other.spec.serverUser : one === other
  }

  /** Logins are read meanwhile, on either side. */
  #reading(events: object): void {
    if (!this.engine.context.suspended) return
    this.seen.add('something was read during a SUSPEND')
    if (events instanceof EngineClient) this.checker.fail('a suspended engine reads a client')
    if (events instanceof Server && events.loggedIn) this.checker.fail('a suspended engine reads a server')
  }

  #apply(version: Version): void {
    const running = this.checker.version
    const plan = planOf(running, version)
    this.checker.applying(version, this.network.dials)
    this.#number++
    this.trace(`apply version ${this.#number}: ${JSON.stringify(plan)}`)
    const before = new Before(this.engine)
    this.#send(version, this.#number, plan)
    const wrong = before.wrongAfter(running, version)
    if (wrong !== null) this.checker.fail(wrong)
    // An older version that arrives late changes nothing.
    const none = { added: 0, rebuilt: 0, retuned: 0, removed: 0, kept: 0 }
    if (this.random.chance(0.2)) this.#send(this.random.pick(this.checker.versions), this.#number, none)
    this.#check()
    this.#assertRunning()
  }

  #send(version: Version, number: number, plan: Plan): void {
    const spec = specOf(version, number, passwords, this.#general)
    this.#expectedPlan = plan
    this.engine.receive({ type: 'apply', id: number, force: false, spec })
    this.#expectedPlan = null
    for (const { closedServers } of this.engine.pools.all()) this.#count(closedServers)
  }

  /** The engine forgets the counts of what is gone. */
  #count(closedServers: ClosedServers): void {
    if (this.#counted.has(closedServers)) return
    this.#counted.add(closedServers)
    const count = closedServers.count.bind(closedServers)
    closedServers.count = (user, cause) => {
      this.#closed[cause] = (this.#closed[cause] ?? 0) + 1
      count(user, cause)
    }
  }

  /** Running equals desired, whatever ran before. */
  #assertRunning(): void {
    const { pools } = this.engine.snapshot()
    for (const [key, wanted] of this.checker.version) {
      const running = pools.find(({ pool, user }) => pool === wanted.pool && user === wanted.user)
      if (running?.hash !== hashOf(wanted)) this.checker.fail(`${key} does not run the desired configuration`)
    }
  }

  // Phases

  #turnsSeen = 0

  /** Skips events that did not call the engine. */
  #checkAfterTurn(): void {
    if (this.io.turns === this.#turnsSeen) return
    this.#turnsSeen = this.io.turns
    this.#check()
  }

  #check(): void {
    const wrong = violation(this.engine, this.schedule.nowMs)
    if (wrong !== null) this.checker.fail(wrong)
  }

  #injectFaults(): void {
    this.#apply(this.#configurer.first())
    for (let left = this.profile.clients; left > 0; left--) this.comeIn()
    this.#injectLater()
    this.#run.until(() => this.#run.events >= faultyEvents, faultyMsMax)
    this.#injecting = false
  }

  #injectLater(): void {
    this.schedule.after(this.random.next() * 2 * this.profile.chaosEveryMs, () => {
      if (!this.#injecting) return
      injectFault(this)
      this.#injectLater()
    })
  }

  #heal(): void {
    this.trace('the world heals')
    this.checker.phase = 'healing'
    for (const server of this.servers) {
      server.refusal = null
      this.network.setHost(server.address.host, 'up')
    }
    for (const client of this.clients) {
      client.quiet = true
      if (client.frozen || client.wire.silent) client.leave('reset')
      else client.act()
    }
    this.#run.pass(noticeMs)
    if (!this.#run.until(() => this.#unrested() === undefined, servedWithinMs)) {
      this.checker.fail(`not served in a healthy world: ${this.#unrested()?.describe()}`)
    }
    this.#run.pass(settleMs)
    this.checker.phase = 'healthy'
    for (const client of this.clients) {
      const { pool, user } = client.options
      if (!this.checker.version.has(poolKey(pool, user)))
        this.checker.fail(`${client.describe()} is still connected to a removed pool`)
    }
    for (const name of this.engine.pools.all()) {
      if (name.waiting.size > 0) this.checker.fail(`${label(name)}: a client waits although none has work`)
      if (this.profile.mode !== 'transaction') continue
      // A client that still listens, because its UNLISTEN was canceled, keeps its server.
      const kept = [...this.clients].filter((client) => client.pinned && isOf(client, name)).length
      const draining = [...name.active].filter(({ server }) => server?.serverSet.draining === true).length
      if (draining > kept) this.checker.fail(`${label(name)} does not finish draining`)
    }
  }

  /** A client with unfinished work. Where a session keeps its server, idle clients leave first to make room. */
  #unrested(): Client | undefined {
    if (this.profile.mode === 'transaction') return [...this.clients].find((client) => !client.resting)
    for (const client of this.clients) if (client.resting) client.leave('terminate')
    return [...this.clients][0]
  }

  /** Every pool serves new clients. */
  #probe(): void {
    for (const client of this.clients) client.leave('terminate')
    this.#run.pass(settleMs)
    const names = [...this.checker.version.values()]
    // A session keeps its server, which others may need.
    if (this.profile.mode === 'transaction') this.#serveNew(names)
    else for (const name of names) this.#serveNew([name])
  }

  #serveNew(names: readonly { readonly pool: string; readonly user: string }[]): void {
    const probes = names.map(({ pool, user }) => this.comeIn({ pool, user }))
    this.#run.until(() => probes.every((probe) => probe.works >= 3), servedWithinMs)
    for (const probe of probes) {
      probe.quiet = true
      probe.act()
    }
    const unserved = (): Client | undefined => probes.find((probe) => !probe.resting || probe.works < 3)
    if (!this.#run.until(() => unserved() === undefined, servedWithinMs)) {
      this.checker.fail(`a new client is not served: ${unserved()?.describe()}`)
    }
    if (this.profile.mode === 'transaction') return
    for (const probe of probes) probe.leave('terminate')
    this.#run.pass(settleMs)
  }

  #leave(): void {
    for (const client of this.clients) client.leave(this.random.pick(['terminate', 'close', 'reset']))
    this.#run.pass(settleMs)
    this.#assertAtRest()
  }

  #assertAtRest(): void {
    const wrong = violationAtRest(this.engine, this.schedule.nowMs)
    if (wrong !== null) this.checker.fail(wrong)
  }

  #stop(): void {
    const timeoutMs = this.random.pick([0, 1000, 20_000])
    const mode = this.profile.stop === 'now' ? 'now' : 'drain'
    this.trace(`the engine stops: ${mode}, ${timeoutMs} ms`)
    this.checker.phase = 'stopping'
    this.checker.deadlineMs = mode === 'now' ? 0 : this.schedule.nowMs + timeoutMs
    this.engine.receive({ type: 'stop', mode, timeoutMs })
    this.#run.pass(timeoutMs + settleMs)
    if (!this.engine.ended) this.checker.fail('the engine does not stop')
    if (this.#posted.filter((type) => type === 'stopped').length !== 1)
      this.checker.fail('the engine reports its stop more than once, or never')
    if (this.io.sockets.size > 0) this.checker.fail(`${this.io.sockets.size} sockets remain open`)
    if (this.io.listeners.size > 0) this.checker.fail('a listener remains open')
    if (this.io.timers.size > 0) this.checker.fail(`${this.io.timers.size} timers remain`)
    const { context, logins } = this.engine
    if (context.clients.size + logins.size + context.cancels.keys > 0) this.checker.fail('a client remains')
    this.#assertCauses()
    for (const server of this.servers) {
      for (const session of server.sessions) {
        if (!session.faulted) this.checker.fail(`${session.name} is still open on the server`)
      }
    }
  }

  /** Every server that was opened is closed by exactly one cause, and every lost one was reported. */
  #assertCauses(): void {
    let closed = 0
    let lost = 0
    for (const [cause, count] of Object.entries(this.#closed) as [Cause, number][]) {
      this.seen.add(`closed ${cause}`)
      closed += count
      if (!causes[cause].planned) lost += count
    }
    if (closed !== this.#serverConnects) {
      this.checker.fail(`${this.#serverConnects} servers were opened, ${closed} closed`)
    }
    if (lost !== this.#lost) this.checker.fail(`${lost} servers were lost, ${this.#lost} reported`)
  }
}

function isOf({ options }: Client, { database, user }: Pool): boolean {
  return options.pool === database && options.user === user
}

function label(pool: Pool): string {
  return `${pool.database}/${pool.user}`
}
