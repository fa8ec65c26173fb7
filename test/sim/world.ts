/**
 * One simulated world: the engine between model clients and model servers, with faults and changes of configuration at
 * any moment, all decided by a seed. First comes a storm; then everything heals, and whoever waits must be served;
 * then everybody leaves, and nothing may be left.
 */
import assert from 'node:assert/strict'

import { causes } from '../../shared/causes.ts'
import type { Cause } from '../../shared/causes.ts'
import { parseDuration } from '../../shared/config/duration.ts'
import { Engine } from '../../proxy/engine/engine.ts'
import type { FromEngine, HostSpec } from '../../proxy/engine/messages.ts'
import { Server } from '../../proxy/engine/server.ts'
import { Client } from './client.ts'
import type { Umpire } from './client.ts'
import { planOf, poolKey, randomValues, specOf } from './configuration.ts'
import type { Plan, Version, Wanted } from './configuration.ts'
import { SimIo } from './io.ts'
import { Network } from './network.ts'
import type { HostState, WireRules } from './network.ts'
import { Postgres } from './postgres.ts'
import type { Judge, Session } from './postgres.ts'
import { Random } from './random.ts'
import { Schedule } from './schedule.ts'

export class SimulationFailure extends Error {
  readonly seed: number
  constructor(seed: number, text: string, options?: { cause: unknown }) {
    super(`seed ${seed}: ${text}`, options)
    this.name = 'SimulationFailure'
    this.seed = seed
  }
}

/** What a world may suffer. */
interface Profile {
  readonly kind: 'calm' | 'changing' | 'rude' | 'broken' | 'everything'
  readonly session: boolean
  /** A login takes its time. */
  readonly slow: boolean
  readonly clients: number
  readonly rules: WireRules
  readonly bytesMax: number
  readonly thinkMsMax: number
  readonly pipelineMax: number
  readonly chaosEveryMs: number
}

const proxy = { host: '10.1.0.1', port: 6432 }

/** Machines of PostgreSQL, by the name that stands in the configuration. */
const machines: Readonly<Record<string, readonly string[]>> = {
  db0: ['10.0.0.1', '10.0.0.2'],
  db1: ['10.0.0.3', '10.0.0.4'],
}

const users: ReadonlyMap<string, string> = new Map([
  ['web', 'web-password'],
  ['jobs', 'jobs-password'],
  ['app_rw', 'rw-password'],
])

const poolNames = [
  { pool: 'app', user: 'web' },
  { pool: 'app', user: 'jobs' },
  { pool: 'ledger', user: 'web' },
]

/** The engine may have begun to count before the client: by what an answer takes to arrive. */
const slackMs = 2000

/** Events of the storm; a world that needs more than the second number to calm down turns in circles. */
const stormEvents = 3000
const eventsMax = 400_000

/**
 * Time after which every broken connection has been noticed: keepalive probes, and a user time-out that begins when
 * something is sent to it just before they end.
 */
const noticeMs = 75_000

/** Time in which everybody who waits must be served in a healthy world: retries, logins, and slow statements. */
const patienceMs = 60_000

export class World implements Judge, Umpire {
  readonly seed: number
  readonly random: Random
  readonly schedule: Schedule
  readonly network: Network
  readonly io: SimIo
  readonly engine: Engine
  readonly profile: Profile
  readonly servers: Postgres[] = []
  readonly clients = new Set<Client>()
  readonly #trace: ((line: string) => void) | null
  #version: Version = new Map()
  readonly #versions: Version[] = []
  #number = 0
  readonly #dns = new Map<string, readonly string[]>()
  #nextClient = 1
  #expectedPlan: Plan | null = null
  #healed = false
  #stopped = false
  #events = 0
  /** For each pool: how many dials there were when each of its generations began. */
  readonly #generations = new Map<string, number[]>()
  /** For each client: the generation that its oldest unanswered work was sent under. */
  readonly #sentUnder = new Map<string, number>()
  readonly #removedAtMs = new Map<string, number>()
  readonly #refusals = new Set<string>()
  /** Connections of the engine to servers that a fault hit, and those that a client was told of. */
  readonly #hit = new Set<object>()
  #hurt = 0
  #serverConnects = 0
  #lost = 0
  readonly #closed = new Set<Partial<Record<Cause, number>>>()

  constructor(seed: number, options: { trace?: (line: string) => void } = {}) {
    this.seed = seed
    this.#trace = options.trace ?? null
    this.random = new Random(seed)
    this.profile = randomProfile(this.random)
    this.schedule = new Schedule(this.random)
    this.network = new Network(this.schedule, this.random)
    this.io = new SimIo(this.network, this.random, this.profile.rules, proxy.host)
    this.io.onConnect = (events) => this.#connecting(events)
    const auth = this.random.pick(['trust', 'cleartext', 'md5'] as const)
    for (const host of Object.values(machines).flat()) {
      const rules = { auth, passwords: users, workMsMax: this.random.pick([0.1, 3, 30]), bufferBytesMax: 8192 }
      this.servers.push(new Postgres(this.network, this.random, this, { host, port: 5432 }, rules))
    }
    for (const [name, addresses] of Object.entries(machines)) this.#dns.set(name, addresses.slice(0, 1))
    this.engine = new Engine(this.io, { listen: proxy }, (message) => this.#fromEngine(message))
    this.trace(`profile ${JSON.stringify(this.profile)}`)
  }

  run(): void {
    try {
      this.#storm()
      this.#heal()
      this.#probe()
      this.#leave()
      this.#stop()
    } catch (error) {
      if (error instanceof SimulationFailure) throw error
      throw new SimulationFailure(this.seed, error instanceof Error ? error.message : String(error), { cause: error })
    }
  }

  // Judging

  trace(text: string): void {
    this.#trace?.(`${this.schedule.nowMs.toFixed(3)} ${text}`)
  }

  fail(text: string): never {
    throw new SimulationFailure(this.seed, `at ${this.schedule.nowMs.toFixed(3)} ms: ${text}`)
  }

  sent(client: Client, owner: string): void {
    this.trace(`${owner} is begun`)
    const { pool, user } = client.options
    if (client.quietNow) {
      this.#sentUnder.set(client.id, this.#generations.get(poolKey(pool, user))?.length ?? 0)
    }
  }

  /** A transaction that was asked for under one configuration must not run on a server of an older one. */
  began(owner: string, session: Session): void {
    const client = [...this.clients].find((candidate) => owner.startsWith(`${candidate.id}.`))
    if (client === undefined || client.options.session) return
    const starts = this.#generations.get(poolKey(client.options.pool, client.options.user)) ?? []
    const generation = starts.filter((start) => start <= session.serial).length
    const sentUnder = this.#sentUnder.get(client.id) ?? 0
    if (generation < sentUnder) {
      this.fail(
        `${owner} was sent under generation ${sentUnder} and runs on ${session.name} of generation ${generation}`,
      )
    }
  }

  blameFatal(client: Client, code: string, text: string): string | null {
    const { pool, user } = client.options
    const key = poolKey(pool, user)
    if (this.#stopped) return null
    const removed = !this.#version.has(key) || this.#removedAtMs.has(key)
    if (removed && ['57P01', '3D000', '28P01'].includes(code) && !text.startsWith('server')) return null
    if (this.#healed) return 'the world is healthy'
    if (text.startsWith('query_wait_timeout')) {
      const waitedMs = this.schedule.nowMs - client.progressMs
      const shortestMs = this.#shortestWaitMs(key)
      return waitedMs + slackMs >= shortestMs ? null : `it waited ${waitedMs} ms, and may wait ${shortestMs} ms`
    }
    if (this.#refusals.has(code) && (client.state === 'login' || client.busy)) {
      if (code === '3D000') return null
    }
    if (code === '08006' || code === '57P01' || code === '57P02') {
      this.#hurt++
      return this.#hurt <= this.#hit.size ? null : `${this.#hurt} clients lost ${this.#hit.size} servers`
    }
    return 'there is no reason for it'
  }

  #shortestWaitMs(key: string): number {
    const times = this.#versions.map(
      (version) => parseDuration(version.get(key)?.values.query_wait_timeout ?? '') || Infinity,
    )
    return Math.min(...times)
  }

  blameEnd(client: Client, kind: string, midMessage: boolean): string | null {
    if (client.wire.faulted || this.#stopped) return null
    if (midMessage && this.#hit.size > 0) {
      this.#hurt++
      return this.#hurt <= this.#hit.size ? null : `${this.#hurt} clients lost ${this.#hit.size} servers`
    }
    return `nothing happened to it (${kind})`
  }

  blameUnknown(client: Client): string | null {
    const key = poolKey(client.options.pool, client.options.user)
    return !this.#version.has(key) || this.#removedAtMs.has(key) ? null : 'its pool was never removed'
  }

  left(client: Client): void {
    this.clients.delete(client)
  }

  // The engine

  #fromEngine(message: FromEngine): void {
    switch (message.type) {
      case 'applied':
        assert.deepEqual(
          { ...message.outcome, applied: true, running: null },
          { ...this.#expectedPlan, applied: true, running: null },
        )
        return
      case 'lost':
        this.#lost++
        this.trace(`lost ${JSON.stringify(message.server)}`)
        if (causes[message.server.cause].planned)
          this.fail(`${message.server.cause} is planned, and was reported as lost`)
        return
      case 'stopped':
        this.trace('the engine has stopped')
        return
      case 'log':
        this.trace(`log: ${message.level} ${message.message}`)
        return
      case 'listening':
      case 'snapshot':
      case 'reload':
        return
      default:
        message satisfies never
    }
  }

  #connecting(events: object): void {
    if (!(events instanceof Server)) return
    this.#serverConnects++
    const { pool } = events
    if (pool.draining) this.fail('a draining pool opens a connection')
    if (pool.size >= pool.settings.poolSize) this.fail(`a connection above pool_size ${pool.settings.poolSize}`)
  }

  #apply(version: Version): void {
    const plan = planOf(this.#version, version)
    for (const key of new Set([...this.#version.keys(), ...version.keys()])) {
      const single = planOf(only(this.#version, key), only(version, key))
      if (single.removed > 0) this.#removedAtMs.set(key, this.schedule.nowMs)
      if (single.added + single.rebuilt === 0) continue
      const starts = this.#generations.get(key) ?? []
      starts.push(this.network.dials)
      this.#generations.set(key, starts)
    }
    this.#version = version
    this.#versions.push(version)
    this.#number++
    this.trace(`apply version ${this.#number}: ${JSON.stringify(plan)}`)
    this.#expectedPlan = plan
    this.engine.receive({ type: 'apply', id: this.#number, force: false, spec: specOf(version, this.#number, users) })
    this.#expectedPlan = null
    for (const name of this.engine.pools.names()) this.#closed.add(name.closed)
    // An older version that comes late changes nothing.
    if (this.#number > 1 && this.random.chance(0.2)) {
      this.#expectedPlan = planOf(new Map(), new Map())
      const late = specOf(this.random.pick(this.#versions), this.#number - 1, users)
      this.engine.receive({ type: 'apply', id: 0, force: false, spec: late })
    }
    this.#assertRunning()
  }

  /** What runs is what is wanted, whatever was seen before. */
  #assertRunning(): void {
    const { pools } = this.engine.snapshot()
    const wanted = specOf(this.#version, 0, users).pools
    for (const spec of wanted) {
      const running = pools.find(({ pool, user }) => pool === spec.pool && user === spec.user)
      if (running?.hash !== spec.hash) this.fail(`${spec.pool}/${spec.user} does not run what is wanted`)
    }
  }

  // Time

  /** Lets events happen until `done`, or until the time is over; false then. */
  #until(done: () => boolean, limitMs: number): boolean {
    const untilMs = this.schedule.nowMs + limitMs
    while (!done()) {
      if (!this.schedule.step(untilMs)) return done()
      this.engine.assertInvariants()
      if (++this.#events > eventsMax) this.fail('it turns in circles')
    }
    return true
  }

  #storm(): void {
    this.#apply(this.#randomVersion())
    for (let left = this.profile.clients; left > 0; left--) this.#comeIn()
    this.#chaosLater()
    this.#until(() => this.#events >= stormEvents, 300_000)
  }

  #chaosLater(): void {
    this.schedule.after(this.random.next() * 2 * this.profile.chaosEveryMs, () => {
      if (this.#healed) return
      this.#chaos()
      this.#chaosLater()
    })
  }

  #heal(): void {
    this.trace('everything heals')
    this.#healing = true
    for (const server of this.servers) {
      server.refusal = null
      this.network.setHost(server.address.host, 'up')
    }
    for (const client of this.clients) {
      client.quiet = true
      if (client.frozen || client.wire.silent) client.leave('reset')
      else client.act()
    }
    this.#until(() => false, noticeMs)
    // In session mode a client that rests keeps its server; those who wait get it when it leaves.
    const stuck = (): Client | undefined => {
      if (!this.profile.session) return [...this.clients].find((client) => !client.resting)
      for (const client of this.clients) if (client.resting) client.leave('terminate')
      return [...this.clients][0]
    }
    if (!this.#until(() => stuck() === undefined, patienceMs)) {
      this.fail(`left hanging in a healthy world: ${stuck()?.describe()}`)
    }
    this.#healed = true
    for (const name of this.engine.pools.names()) {
      if (name.waiting.size > 0) this.fail(`${name.database}/${name.user}: somebody waits, and nobody asks`)
      if (!this.profile.session && name.draining.size > 0) this.fail(`${name.database}/${name.user} drains for ever`)
    }
  }

  #healing = false

  /** Every pool serves newcomers. */
  #probe(): void {
    for (const client of this.clients) client.leave('terminate')
    const probes = [...this.#version.values()].map((wanted) => this.#comeIn(wanted))
    this.#until(() => probes.every((probe) => probe.works >= 3), patienceMs)
    for (const probe of probes) {
      probe.quiet = true
      probe.act()
    }
    const stuck = (): Client | undefined => probes.find((probe) => !probe.resting || probe.works < 3)
    if (!this.#until(() => stuck() === undefined, patienceMs))
      this.fail(`a newcomer is not served: ${stuck()?.describe()}`)
  }

  #leave(): void {
    for (const client of this.clients) client.leave(this.random.pick(['terminate', 'close', 'reset']))
    this.#until(() => false, 12_000)
    for (const name of this.engine.pools.names()) {
      const clients = name.idle.size + name.active.size + name.waiting.size
      if (clients > 0) this.fail(`${clients} clients of ${name.database}/${name.user} are kept after they left`)
      if (name.draining.size > 0) this.fail(`${name.database}/${name.user} drains for ever`)
      const { current } = name
      if (current !== null && current.size > current.settings.poolSize) this.fail('more servers than pool_size')
      if (current !== null && current.active.size > 0) this.fail('a server stays active without a client')
    }
    if (this.engine.context.clients.size + this.engine.logins.size > 0) this.fail('a client or login is kept')
    if (this.engine.context.cancels.keys > 0) this.fail('cancel keys of clients that left are kept')
  }

  #stop(): void {
    this.#stopped = true
    this.engine.receive({ type: 'stop', mode: 'drain', timeoutMs: 5000 })
    this.#until(() => false, 15_000)
    if (!this.engine.ended) this.fail('the engine does not stop')
    if (this.io.sockets.size > 0) this.fail(`${this.io.sockets.size} sockets are left open`)
    if (this.io.listeners.size > 0) this.fail('a listener is left open')
    if (this.io.timers.size > 0) this.fail(`${this.io.timers.size} timers are left`)
    let closed = 0
    let unplanned = 0
    for (const counts of this.#closed) {
      for (const [cause, count] of Object.entries(counts) as [Cause, number][]) {
        closed += count
        if (!causes[cause].planned) unplanned += count
      }
    }
    if (closed !== this.#serverConnects)
      this.fail(`${this.#serverConnects} servers were opened, and ${closed} have a cause`)
    if (unplanned !== this.#lost) this.fail(`${unplanned} servers were lost, and ${this.#lost} reported`)
    for (const server of this.servers) {
      for (const session of server.sessions) {
        if (!session.faulted) this.fail(`${session.name} is still open on the server`)
      }
    }
  }

  // What happens to it

  #comeIn(wanted?: Wanted): Client {
    const { profile, random } = this
    const { pool, user } = wanted ?? random.pick(poolNames)
    const startup = new Map<string, string>()
    const id = `c${this.#nextClient++}`
    if (random.chance(0.5)) startup.set('application_name', random.chance(0.5) ? 'common' : id)
    if (random.chance(0.2)) startup.set('TimeZone', 'Europe/Berlin')
    if (random.chance(0.2)) startup.set('work_mem', '16MB')
    const client = new Client(this.network, random, this, proxy, {
      id,
      host: `10.2.0.${this.#nextClient % 250}`,
      pool,
      user,
      password: users.get(user) ?? '',
      startup,
      session: profile.session,
      rules: profile.rules,
      thinkMsMax: profile.thinkMsMax,
      sleepMsMax: 500,
      pipelineMax: profile.pipelineMax,
      bytesMax: profile.bytesMax,
      askSsl: random.chance(0.2),
    })
    this.clients.add(client)
    this.trace(`${id} comes in for ${pool}/${user}`)
    return client
  }

  #chaos(): void {
    if (this.#healing) return
    const { kind } = this.profile
    const changing = kind === 'changing' || kind === 'everything'
    const rude = kind === 'rude' || kind === 'everything'
    const broken = kind === 'broken' || kind === 'everything'
    const what = this.random.weighted({
      comeIn: this.clients.size < this.profile.clients ? 10 : 0.5,
      terminate: 1,
      cancel: 4,
      apply: changing ? 8 : 0,
      addresses: changing ? 2 : 0,
      leave: rude ? 6 : 0,
      freeze: rude ? 3 : 0,
      clientCut: broken ? 2 : 0,
      serverCut: broken ? 5 : 0,
      serverSilence: broken ? 3 : 0,
      serverTerminate: broken ? 3 : 0,
      host: broken ? 1 : 0,
      refuse: broken ? 1 : 0,
      crash: broken ? 0.5 : 0,
    })
    this.#cause(what)
  }

  #cause(
    what:
      | 'comeIn'
      | 'terminate'
      | 'cancel'
      | 'apply'
      | 'addresses'
      | 'leave'
      | 'freeze'
      | 'clientCut'
      | 'serverCut'
      | 'serverSilence'
      | 'serverTerminate'
      | 'host'
      | 'refuse'
      | 'crash',
  ): void {
    const { random } = this
    const client = this.clients.size === 0 ? null : random.pick([...this.clients])
    const sockets = [...this.io.sockets].filter((socket) => !socket.accepted)
    const socket = sockets.length === 0 ? null : random.pick(sockets)
    const server = random.pick(this.servers)
    switch (what) {
      case 'comeIn':
        this.#comeIn()
        return
      case 'terminate':
        client?.leave('terminate')
        return
      case 'cancel':
        client?.cancel()
        return
      case 'leave':
        client?.leave(random.pick(['terminate', 'close', 'reset', 'half', 'silence']))
        return
      case 'freeze':
        if (client === null) return
        this.trace(`${client.id} freezes`)
        client.freeze(true)
        if (random.chance(0.8)) this.schedule.after(random.next() * 3000, () => client.freeze(false))
        return
      case 'apply':
        this.#apply(this.#nextVersion())
        return
      case 'addresses': {
        const name = random.pick(Object.keys(machines))
        const addresses = machines[name]?.filter(() => random.chance(0.6)) ?? []
        if (addresses.length === 0) return
        this.trace(`${name} is now at ${addresses.join(' and ')}`)
        this.#dns.set(name, addresses)
        this.engine.receive({ type: 'addresses', hosts: { [name]: addresses } })
        return
      }
      case 'clientCut':
        this.trace(`the connection of ${client?.id} is cut`)
        client?.wire.cut()
        return
      case 'serverCut':
        if (socket === null) return
        this.trace(`the connection to ${socket.remote.host} from port ${socket.local.port} is cut`)
        this.#hit.add(socket)
        socket.wire.cut()
        return
      case 'serverSilence':
        if (socket === null) return
        this.#hit.add(socket)
        socket.wire.silence(random.chance(0.5) ? Infinity : random.next() * 20_000)
        this.trace(`the connection to ${socket.remote.host} from port ${socket.local.port} is silent`)
        return
      case 'serverTerminate': {
        const sessions = [...server.sessions].filter((session) => session.key !== null)
        if (sessions.length === 0) return
        const session = random.pick(sessions)
        this.#hit.add(session)
        server.terminate(session)
        return
      }
      case 'host':
        this.#breakHost(server, random.pick(['refusing', 'unreachable', 'silent'] as const))
        return
      case 'refuse': {
        const code = random.pick(['53300', '57P03', '3D000'])
        this.trace(`${server.address.host} refuses logins with ${code}`)
        server.refusal = { code, text: 'no login now' }
        this.#refusals.add(code)
        this.schedule.after(random.next() * 5000, () => {
          server.refusal = null
        })
        return
      }
      case 'crash':
        this.trace(`${server.address.host} crashes`)
        for (const session of server.sessions) this.#hit.add(session)
        server.crash()
        return
      default:
        what satisfies never
    }
  }

  #breakHost(server: Postgres, state: HostState): void {
    const { host } = server.address
    const durationMs = this.random.next() * 20_000
    this.trace(`${host} is ${state} for ${durationMs} ms`)
    this.network.setHost(host, state)
    if (state === 'silent') {
      for (const socket of this.io.sockets) {
        if (socket.accepted || socket.remote.host !== host) continue
        this.#hit.add(socket)
        socket.wire.silence(this.random.chance(0.5) ? Infinity : durationMs)
      }
    }
    this.schedule.after(durationMs, () => this.network.setHost(host, 'up'))
  }

  // Configurations

  #randomWanted({ pool, user }: { pool: string; user: string }): Wanted {
    const { random } = this
    return {
      pool,
      user,
      database: random.pick(['main', 'other']),
      serverUser: random.chance(0.7) ? user : 'app_rw',
      hosts: this.#hosts(random.pick(Object.keys(machines)), random.chance(0.2)),
      values: this.#values(),
    }
  }

  #values(): Wanted['values'] {
    const values = randomValues(this.random, this.profile.session)
    return this.profile.slow ? { ...values, connect_timeout: '5s' } : values
  }

  #hosts(name: string, replica: boolean): HostSpec[] {
    const hosts: HostSpec[] = [{ host: name, port: 5432, role: 'primary', addresses: this.#dns.get(name) ?? [] }]
    const other = Object.keys(machines).find((candidate) => candidate !== name)
    if (replica && other !== undefined) {
      hosts.push({ host: other, port: 5432, role: 'replica', addresses: this.#dns.get(other) ?? [] })
    }
    return hosts
  }

  #randomVersion(): Version {
    const version = new Map<string, Wanted>()
    for (const name of poolNames) version.set(poolKey(name.pool, name.user), this.#randomWanted(name))
    return version
  }

  #nextVersion(): Version {
    const { random } = this
    if (random.chance(0.4)) return this.#resolved(random.pick(this.#versions))
    if (random.chance(0.1)) return this.#resolved(this.#version)
    const next = new Map(this.#version)
    const name = random.pick(poolNames)
    const key = poolKey(name.pool, name.user)
    const now = next.get(key)
    if (now === undefined) next.set(key, this.#randomWanted(name))
    else if (random.chance(0.15)) next.delete(key)
    else if (random.chance(0.5)) next.set(key, { ...now, values: this.#values() })
    else next.set(key, { ...this.#randomWanted(name), values: now.values })
    return this.#resolved(next)
  }

  /** With the addresses that the names have now. */
  #resolved(version: Version): Version {
    const resolve = (host: HostSpec): HostSpec => ({ ...host, addresses: this.#dns.get(host.host) ?? host.addresses })
    return new Map([...version].map(([key, wanted]) => [key, { ...wanted, hosts: wanted.hosts.map(resolve) }]))
  }
}

function only(version: Version, key: string): Version {
  const wanted = version.get(key)
  return wanted === undefined ? new Map() : new Map([[key, wanted]])
}

function randomProfile(random: Random): Profile {
  const grainBytes = random.pick([1, 7, 100, 5000, 70_000])
  const latencyMsMax = random.pick([0.1, 2, 20])
  return {
    kind: random.weighted({ calm: 2, changing: 3, rude: 2, broken: 3, everything: 5 }),
    session: random.chance(0.2),
    slow: latencyMsMax / grainBytes > 0.2,
    clients: random.integer(2, 8),
    rules: {
      latencyMsMax,
      capacityBytes: random.pick([64, 1000, 65_536]),
      grainBytes,
    },
    bytesMax: Math.min(grainBytes * 150, 40_000),
    thinkMsMax: random.pick([2, 50, 1000]),
    pipelineMax: random.integer(1, 4),
    chaosEveryMs: random.pick([5, 50, 500]),
  }
}
