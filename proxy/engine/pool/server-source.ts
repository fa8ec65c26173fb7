import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import { changeOf } from '../../../shared/change.ts'
import { sqlstates } from '../../../shared/errors.ts'
import type { Timer } from '../../io/io.ts'
import * as write from '../../protocol/write.ts'
import type { ServingSnapshot } from '../../snapshot.ts'
import type { PoolSpec } from '../../spec.ts'
import type { SaltedKeys } from '../auth/scram.ts'
import type { ServerKeys } from '../auth/server-login.ts'
import { foreseenReport } from '../session/parameters.ts'
import type { Parameters } from '../session/parameters.ts'
import type { ServerSlots } from '../workers/process-counts.ts'
import type { Client } from './client.ts'
import type { ClosedServers } from './closed-servers.ts'
import type { Context } from './context.ts'
import { Health } from './health.ts'
import { OldestFirst } from './oldest-first.ts'
import type { Pool } from './pool.ts'
import type { Server } from './server.ts'
import { ServerSet } from './server-set.ts'
import type { Trial } from './server-set.ts'
import type { Target } from './target.ts'

/** The ParameterStatus messages for a client at the end of its login. */
export interface Welcome {
  readonly parameters: Parameters
  readonly statuses: Uint8Array
}

const welcomesMax = 256
const retryFirstMs = 100

/** Interval at which a worker checks whether waiting clients need what other workers have. */
const borrowEveryMs = 100

/** Errors of a server's login that do not pass by waiting: clients get them at once. */
const lasting: ReadonlySet<string> = new Set(['28000', '28P01', '3D000', '42501'])

/**
 * Where pools of a database take their servers from: one (database, server user). It has what belongs to no single
 * configuration and outlives each: the current server set and those that drain, the pause, health of addresses, failed
 * logins. Of its pools, the one whose client has waited for longest is served first.
 */
export class ServerSource {
  readonly context: Context
  readonly database: string
  /** The role of its servers. */
  readonly serverUser: string
  /** Distinguishes it from the other sources of the database. */
  readonly key: string
  /** User under which its servers are counted and shown: that of its only pool, or the role that its pools share. */
  get user(): string {
    return this.#user
  }

  #user: string
  /** In the order of the configuration. */
  readonly pools = new Set<Pool>()
  /** The serving server set; null if no pool takes servers any more. */
  current: ServerSet | null = null
  /** Former server sets with servers that finish a transaction. */
  readonly draining = new Set<ServerSet>()
  /** Server sets that are tried, and serve no clients. */
  readonly trials = new Set<ServerSet>()
  /** No server is opened or kept: clients wait. */
  #paused = false
  /** SCRAM keys of the login to servers: a reconnect, or a rebuild with the same password, derives nothing anew. */
  readonly saltedKeys: SaltedKeys = new Map()
  /** Keys proven by its last client, with `server_auth = "passthrough"`. In memory only, never shown. */
  serverKeys: ServerKeys | null = null
  readonly #welcomes = new Map<string, Welcome>()
  /** Parameters reported by the last server that logged in, in its spelling; empty before the first. */
  readonly #reported = new Map<string, string>()
  /** Those of the database. */
  readonly closed: ClosedServers
  /** The last failed login to a server, until one succeeds: told to clients that waited in vain. */
  failure: { sqlstate: string; message: string; sinceMs: number } | null = null
  /** A server of the current configuration has logged in. */
  #proven = false
  #failures = 0
  #retry: Timer | null = null
  /** Runs while clients wait, for the reserve and for what other workers have. */
  #waitTimer: Timer | null = null
  #waitDueMs = 0
  readonly #queues = new OldestFirst<Pool>()
  readonly health = new Health()
  /** Slots of its shared counters; null for a single worker. */
  readonly slots: ServerSlots | null
  /** The only worker that has its servers; null if all do. */
  #worker: number | null = null

  constructor(
    context: Context,
    { database, serverUser, key, closed }: Pick<ServerSource, 'database' | 'serverUser' | 'key' | 'closed'>,
  ) {
    this.context = context
    this.database = database
    this.serverUser = serverUser
    this.#user = serverUser
    this.key = key
    this.closed = closed
    this.slots = context.counts?.serverSlotsOf(this) ?? null
  }

  // Pools

  add(pool: Pool): void {
    this.pools.add(pool)
    if (pool.waiting.size > 0) this.awaited(pool)
  }

  remove(pool: Pool): void {
    this.pools.delete(pool)
    this.#queues.remove(pool)
  }

  /** Runs the servers' part of `spec`, at the cost that the difference requires. */
  configure(spec: PoolSpec, { user, worker }: { readonly user: string; readonly worker: number | null }): void {
    this.#user = user
    this.#worker = worker
    const running = this.current
    const change = changeOf(running?.spec, spec)
    if (running === null || change === 'add' || change === 'rebuild') this.#replace(spec)
    else if (change === 'retune') running.retune(spec)
    else running.adopt(spec)
    // Pools that have just come here may have brought waiting clients.
    while (this.current !== null && this.current.idle.head !== null && this.serve(this.current.idle.head));
  }

  #replace(spec: PoolSpec): void {
    const tried = this.#triedWith(spec)
    this.drainCurrent()
    this.current = tried ?? new ServerSet(this, spec)
    this.#welcomes.clear()
    this.#reported.clear()
    this.failure = null
    this.#proven = false
    this.#resetRetry()
    tried?.passTrial()
    tried?.adopt(spec)
    this.retuned()
  }

  // Trials

  /** A server set that is tried before it serves, or only to be tried. */
  tryOut(spec: PoolSpec, trial: Trial): ServerSet {
    const serverSet = new ServerSet(this, spec, trial)
    this.trials.add(serverSet)
    return serverSet
  }

  /** The server set that has a server with these settings. */
  #triedWith({ connectHash }: PoolSpec): ServerSet | null {
    for (const serverSet of this.trials) {
      if (serverSet.spec.connectHash !== connectHash || serverSet.idle.size === 0) continue
      this.trials.delete(serverSet)
      return serverSet
    }
    return null
  }

  /** It does not serve; nothing if it does by now. */
  endTrial(serverSet: ServerSet): void {
    if (!this.trials.delete(serverSet)) return
    for (const list of serverSet.lists) for (const server of list.copy()) server.close('drained')
    serverSet.releaseTls()
  }

  drainCurrent(): void {
    const old = this.current
    if (old === null) return
    this.current = null
    this.#stopWaiting()
    this.#resetRetry()
    this.draining.add(old)
    old.drain()
    this.dropDrained(old)
  }

  dropDrained(serverSet: ServerSet): void {
    if (serverSet.connections > 0 || !this.draining.delete(serverSet)) return
    serverSet.releaseTls()
  }

  /** New settings may allow more servers. */
  retuned(): void {
    this.#stopWaiting()
    this.#watch()
    this.context.limits.freed()
    this.grow()
  }

  /** The serving server set, if any, tried and draining ones. */
  get serverSets(): ServerSet[] {
    const others = [...this.trials, ...this.draining]
    return this.current === null ? others : [this.current, ...others]
  }

  /** All its servers, those of draining server sets too. */
  *servers(): Generator<Server> {
    for (const serverSet of this.serverSets) for (const list of serverSet.lists) yield* list
  }

  /** Neither a pool nor a server is left. */
  get abandoned(): boolean {
    return this.pools.size === 0 && this.current === null && this.draining.size + this.trials.size === 0
  }

  // Operators

  get paused(): boolean {
    return this.#paused
  }

  /** While paused, servers close as they become free and clients wait, whatever the configuration. */
  setPaused(paused: boolean): void {
    if (this.#paused === paused) return
    this.#paused = paused
    if (paused) {
      this.current?.retire()
      for (const trial of this.trials) trial.retire()
      return
    }
    this.#resetRetry()
    this.grow()
  }

  /** Closes all servers now. */
  kill(): void {
    for (const serverSet of this.serverSets)
      for (const list of serverSet.lists) for (const server of list.copy()) server.close('admin')
  }

  /**
   * Keys proven by a client: they may open servers with the same verifier. Those of a former password are used only
   * without others: servers have one password, more likely the new one.
   */
  learn(keys: ServerKeys, isFormer: boolean): void {
    if (this.current?.settings.serverAuth !== 'passthrough' || (keys.md5 === null && keys.scram === null)) return
    if (isFormer && this.serverKeys !== null) return
    if (isDeepStrictEqual(keys, this.serverKeys)) return
    this.serverKeys = keys
    this.failure = null
    this.#resetRetry()
    this.grow()
  }

  // Waiting clients

  /** The longest wait of a client. */
  get maxWaitMs(): number {
    const first = this.#queues.first()
    return first === null ? 0 : Math.max(0, this.context.io.nowMs() - first.waitingSinceMs)
  }

  get hasWaiting(): boolean {
    return this.#queues.first() !== null
  }

  /** Whether more than `count` clients wait. */
  #awaitedByMoreThan(count: number): boolean {
    let waiting = 0
    for (const pool of this.#queues) {
      waiting += pool.waiting.size
      if (waiting > count) return true
    }
    return false
  }

  /** A client has joined the line of `pool`. */
  awaited(pool: Pool): void {
    this.#queues.add(pool)
    this.#watch()
    this.grow()
  }

  /** HOT. A free server for `client`, which passes no waiting one; null if it must wait. */
  take(client: Client): Server | null {
    const serverSet = this.current
    if (serverSet === null || this.hasWaiting) return null
    const server = serverSet.idleFor(client)
    if (server !== null) serverSet.move(server, serverSet.active)
    return server
  }

  /** HOT. Assigns a free server of the current set to the client that has waited for longest; false if none waits. */
  serve(server: Server): boolean {
    const pool = this.#queues.first()
    if (pool === null) return false
    pool.serve(server)
    return true
  }

  /** One timer for all waiting clients: the oldest makes the reserve available. */
  #watch(): void {
    if (this.current === null || !this.hasWaiting) return
    const { io } = this.context
    const dueMs = this.#waitNextMs(this.current, io.nowMs())
    if (this.#waitTimer !== null && this.#waitDueMs <= dueMs) return
    this.#stopWaiting()
    if (dueMs === Infinity) return
    this.#waitDueMs = dueMs
    this.#waitTimer = io.after(Math.max(0, dueMs - io.nowMs()), () => {
      this.#waitTimer = null
      if (this.slots !== null && !this.hasWaiting) this.context.counts?.withdrawWant(this.slots.servers)
      this.grow()
      this.#watch()
    })
  }

  #waitNextMs({ settings }: ServerSet, nowMs: number): number {
    const { reservePoolSize, reservePoolTimeoutMs } = settings
    const borrowMs = this.slots === null ? Infinity : nowMs + borrowEveryMs
    if (reservePoolSize === 0) return borrowMs
    const reserveMs = (this.#queues.first()?.waitingSinceMs ?? nowMs) + reservePoolTimeoutMs
    return Math.min(borrowMs, reserveMs > nowMs ? reserveMs : nowMs + reservePoolTimeoutMs)
  }

  #stopWaiting(): void {
    this.#waitTimer?.cancel()
    this.#waitTimer = null
  }

  // Servers

  /** Opens as many servers as clients wait, within pool_size and the shared limits. */
  grow(): void {
    const serverSet = this.current
    if (serverSet === null || this.#paused || this.#retry !== null || this.context.suspended) return
    const { limits } = this.context
    const { hasWaiting } = this
    if (!hasWaiting && this.#lacksKeys(serverSet)) return
    if (limits.isBlocked(this) || (!hasWaiting && limits.isContested(this))) return
    for (;;) {
      const sizeMax = this.#sizeMax(serverSet)
      if (!this.#wantsMore(serverSet) || !limits.hasRoom(serverSet, sizeMax) || !serverSet.connect(sizeMax)) return
    }
  }

  /** The keys for its servers are unknown until a client has logged in. */
  #lacksKeys({ settings, spec }: ServerSet): boolean {
    return settings.serverAuth === 'passthrough' && spec.serverPassword === null && this.serverKeys === null
  }

  /** A client that has waited for long makes the reserve available. */
  #sizeMax({ settings }: ServerSet): number {
    const { poolSize, reservePoolSize, reservePoolTimeoutMs } = settings
    return reservePoolSize > 0 && this.maxWaitMs >= reservePoolTimeoutMs ? poolSize + reservePoolSize : poolSize
  }

  #wantsMore(serverSet: ServerSet): boolean {
    if (this.#awaitedByMoreThan(serverSet.login.size)) return true
    // Waiting clients are served while the proxy stops; nothing is opened in advance.
    return !this.context.stopping && serverSet.size < serverSet.sizeMin
  }

  get serving(): ServingSnapshot {
    const { current, failure } = this
    if (current !== null && current.size > current.login.size) return { state: 'present' }
    if (failure === null) return { state: this.#proven ? 'proven' : 'untried' }
    const { sqlstate, message, sinceMs } = failure
    return { state: 'failed', sqlstate, message, forMs: this.context.io.nowMs() - sinceMs }
  }

  /** A server of the current set logged in and reported these parameters. */
  connected(target: Target, reported: ReadonlyMap<string, string>): void {
    this.failure = null
    this.#proven = true
    this.health.succeeded(target)
    for (const [parameter, value] of reported) this.noteReported(parameter, value)
    this.#resetRetry()
  }

  /**
   * A server of the current set could not log in: delay the next attempt further, and tell clients if waiting cannot
   * help.
   */
  connectFailed(target: Target, sqlstate: string | null, message: string): void {
    const serverSet = this.current
    if (serverSet === null) return
    const sinceMs = this.failure?.sinceMs ?? this.context.io.nowMs()
    this.failure = { sqlstate: sqlstate ?? sqlstates.connection_failure, message, sinceMs }
    // The keys are wrong: they are not used again.
    if (sqlstate === sqlstates.invalid_password) this.serverKeys = null
    this.#failures++
    const rounds = Math.floor((this.#failures - 1) / serverSet.addressCount)
    const delayMs =
      this.#failures < serverSet.addressCount
        ? 0
        : Math.min(serverSet.settings.serverLoginRetryMs, retryFirstMs * 2 ** Math.min(rounds, 20))
    this.health.failed(target, { message, nowMs: this.context.io.nowMs(), pauseMs: delayMs })
    if (sqlstate === sqlstates.too_many_connections) this.context.limits.makeRoomAt(this, target)
    this.#retry ??= this.context.io.after(delayMs, () => {
      this.#retry = null
      this.grow()
    })
    if (sqlstate === null || !lasting.has(sqlstate) || this.#expectsServer(serverSet)) return
    for (const pool of this.pools) for (const client of pool.waiting) client.fatal(sqlstate, message)
  }

  /** Whether a live server becomes free by itself: one pinned by session state does not. */
  #expectsServer({ idle, reset, canceled, active, settings }: ServerSet): boolean {
    if (idle.size + reset.size + canceled.size > 0) return true
    return settings.poolMode !== 'session' && [...active].some((server) => !server.pinned)
  }

  #resetRetry(): void {
    this.#failures = 0
    this.#retry?.cancel()
    this.#retry = null
  }

  // What servers report

  /**
   * A server reports the defaults of new sessions, which may have changed after a failover or a reload of PostgreSQL.
   */
  noteReported(parameter: string, value: string): void {
    if (this.#reported.get(parameter) === value) return
    this.#reported.set(parameter, value)
    this.#welcomes.clear()
  }

  /** Undefined if only a server can tell what a client with `parameters` is to be told. */
  welcome(parameters: Parameters): Welcome | undefined {
    if (this.#reportIsOld) return undefined
    const known = this.#welcomes.get(parameters.key)
    if (known !== undefined || this.#reported.size === 0) return known
    const foreseen = foreseenReport(this.#reported, parameters)
    if (foreseen === null) return undefined
    const welcome = { parameters, statuses: write.parameterStatuses(foreseen) }
    this.remember(welcome)
    return welcome
  }

  /**
   * There is no server, so PostgreSQL may have changed; or it was a standby, whose idle sessions do not report a
   * promotion, while busy ones have reported it.
   */
  get #reportIsOld(): boolean {
    const serverSet = this.current
    if (serverSet === null || this.#paused) return false
    if (serverSet.size === serverSet.login.size) return true
    return this.#reported.get('in_hot_standby') === 'on' && serverSet.idle.size > 0
  }

  remember(welcome: Welcome): void {
    if (this.#welcomes.size >= welcomesMax) this.#welcomes.clear()
    this.#welcomes.set(welcome.parameters.key, welcome)
  }

  /** It is abandoned, or the proxy stops: closes all servers. */
  close(): void {
    this.#resetRetry()
    this.#stopWaiting()
    for (const serverSet of this.serverSets) {
      for (const list of serverSet.lists) for (const server of list.copy()) server.close('shutdown')
      serverSet.releaseTls()
    }
    if (this.slots !== null) this.context.counts?.releaseServerSlots(this)
  }

  /** This worker's part of a shared number. */
  partOf(total: number): number {
    const { workers } = this.context
    if (workers === null) return total
    const { self, count } = workers
    if (this.#worker !== null) return this.#worker === self ? total : 0
    return Math.floor(total / count) + (self < total % count ? 1 : 0)
  }

  assertInvariants(): void {
    for (const serverSet of this.serverSets) {
      serverSet.assertInvariants()
      for (const { client } of [...serverSet.active, ...serverSet.replication]) {
        if (client !== null) assert(client.pool.database === this.database, 'a client is of the database of its server')
      }
    }
    for (const pool of this.pools) assert(pool.source === this, 'a source and its pools know each other')
    const { current } = this
    assert((current === null) === (this.pools.size === 0), 'a source serves as long as it has a pool')
    if (current === null) return
    if (this.#paused) assert(current.idle.size + current.login.size === 0, 'a paused source keeps no idle server')
    const since = [...this.pools].map(({ waitingSinceMs }) => waitingSinceMs)
    assert((this.#queues.first()?.waitingSinceMs ?? Infinity) === Math.min(Infinity, ...since), 'the oldest is first')
    if (this.hasWaiting) assert(current.idle.size === 0, 'no client waits while a server is idle')
  }
}
