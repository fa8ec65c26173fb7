import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import type { PoolSettings } from '../../../shared/config/settings.ts'
import { wildcard } from '../../../shared/config/wildcard.ts'
import { sqlstates } from '../../../shared/errors.ts'
import type { Cause } from '../../../shared/causes.ts'
import type { Timer } from '../../io/io.ts'
import * as write from '../../protocol/write.ts'
import type { SaltedKeys } from '../auth/scram.ts'
import type { ServerKeys } from '../auth/server-login.ts'
import type { Client } from './client.ts'
import type { Context } from './context.ts'
import { Health } from './health.ts'
import { List } from './list.ts'
import { waitBoundsMs } from '../../snapshot.ts'
import type { PoolSpec } from '../../spec.ts'
import { foreseenReport } from '../session/parameters.ts'
import type { Parameters } from '../session/parameters.ts'
import { ClientTimeouts } from './client-timeouts.ts'
import { lacksOthersNames, othersNamesText, ServerSet } from './server-set.ts'
import type { Target } from './target.ts'
import { Statements } from '../session/prepared.ts'
import type { Replication } from '../session/replication.ts'
import type { Server } from './server.ts'
import type { Slots } from '../workers/process-counts.ts'
import { noTotals } from './totals.ts'

/** The ParameterStatus messages for a client at the end of its login. */
export interface Welcome {
  readonly parameters: Parameters
  readonly statuses: Uint8Array
}

const welcomesMax = 256
const retryFirstMs = 100

/** Minimum interval between checks for clients to be told that they wait. */
const notifyEveryMs = 100

/** Interval at which a worker checks whether waiting clients need what other workers have. */
const borrowEveryMs = 100

/** Errors of a server's login that do not pass by waiting: clients get them at once. */
const lasting: ReadonlySet<string> = new Set(['28000', '28P01', '3D000', '42501'])

/**
 * What clients of one (database, user) wait at. It contains what does not belong to one configuration and outlives
 * every rebuild: clients with their waiting line, statistics, the pause, health of addresses.
 */
export class Pool {
  readonly context: Context
  readonly database: string
  readonly user: string
  /** Logged in, without a request. */
  readonly idle = new List<Client>('idle')
  /** Joined with a server. */
  readonly active = new List<Client>('active')
  /** Waiting for a server, oldest first. */
  readonly waiting = new List<Client>('waiting')
  /** The serving server set; null after removal from the configuration. */
  current: ServerSet | null = null
  /** No server is opened or kept: clients wait. */
  #paused = false
  /** Former server sets with servers that finish a transaction. */
  readonly draining = new Set<ServerSet>()
  /** SCRAM keys of the login to servers: a reconnect, or a rebuild with the same password, derives nothing anew. */
  readonly saltedKeys: SaltedKeys = new Map()
  /** Keys proven by its last client, with `server_auth = "passthrough"`. In memory only, never shown. */
  serverKeys: ServerKeys | null = null
  /** For a pool created for a client: the one with "*" that it follows. Null for a configured pool. */
  template: Pool | null = null
  /** When it last had a client, to the second; for pools that follow "*". */
  usedAtMs = 0
  readonly statements: Statements
  readonly welcomes = new Map<string, Welcome>()
  /** Parameters reported by the last server that logged in, in its spelling; empty before the first. */
  readonly #reported = new Map<string, string>()
  readonly totals = noTotals()
  readonly closed: Partial<Record<Cause, number>> = {}
  readonly refused: Record<string, number> = {}
  /** Checkouts by wait: none, then by the classes of `waitBoundsMs`. */
  readonly waits: number[] = [0, ...waitBoundsMs, Infinity].map(() => 0)
  /** Errors of PostgreSQL by the first two characters of their SQLSTATE. */
  readonly serverErrors: Record<string, number> = {}
  /** The last failed login to a server, until one succeeds: told to clients that waited in vain. */
  failure: { sqlstate: string; message: string } | null = null
  #failures = 0
  #retry: Timer | null = null
  #lineTimer: Timer | null = null
  #lineDueMs = 0
  /** Start of the longest wait not yet announced by a NOTICE. */
  #untoldSinceMs = Infinity
  readonly #clientTimeouts = new ClientTimeouts(this)
  readonly health = new Health()
  /** Slots of its shared counters; null for a single worker. */
  readonly slots: Slots | null
  /** The only worker that serves it; null if all do. */
  worker: number | null = null

  constructor(context: Context, database: string, user: string) {
    this.context = context
    this.database = database
    this.user = user
    this.statements = new Statements(context.statementMemory)
    this.slots = context.counts?.slotsOf(database, user) ?? null
  }

  /** Replaces the running configuration; waiting clients stay in line. */
  replace(spec: PoolSpec): void {
    this.drainCurrent()
    this.current = new ServerSet(this, spec)
    this.welcomes.clear()
    this.#reported.clear()
    this.failure = null
    this.#resetRetry()
    this.retuned()
  }

  /** A template: it serves no clients, and has no servers. */
  get isWildcard(): boolean {
    return this.database === wildcard || this.user === wildcard
  }

  get clientCount(): number {
    return this.idle.size + this.active.size + this.waiting.size
  }

  /**
   * Keys proven by a client: they may open servers with the same verifier. Those of a former password are used only
   * without others: servers have one password, more likely the new one.
   */
  learn(keys: ServerKeys, isFormer: boolean): void {
    if (this.settings?.serverAuth !== 'passthrough' || (keys.md5 === null && keys.scram === null)) return
    if (isFormer && this.serverKeys !== null) return
    if (isDeepStrictEqual(keys, this.serverKeys)) return
    this.serverKeys = keys
    this.failure = null
    this.#resetRetry()
    this.grow()
  }

  /** Removed from the configuration: its clients are disconnected as soon as they are between transactions. */
  remove(): void {
    this.drainCurrent()
    this.#clientTimeouts.retuned()
    this.#resetRetry()
    for (const client of this.waiting) client.fatal(sqlstates.admin_shutdown, removedText)
    for (const client of this.idle) client.fatal(sqlstates.admin_shutdown, removedText)
    for (const client of this.active.copy()) {
      // Replication does not end by itself.
      if (client.replication === null) client.dismissWhenFree()
      else client.fatal(sqlstates.admin_shutdown, removedText)
    }
  }

  drainCurrent(): void {
    const old = this.current
    if (old === null) return
    this.current = null
    this.draining.add(old)
    old.drain()
    this.dropDrained(old)
  }

  /** The serving server set, if any, and draining ones. */
  get serverSets(): ServerSet[] {
    return this.current === null ? [...this.draining] : [this.current, ...this.draining]
  }

  /** All its servers, those of draining server sets too. */
  *servers(): Generator<Server> {
    for (const serverSet of this.serverSets) for (const list of serverSet.lists) yield* list
  }

  get settings(): PoolSettings | null {
    return this.current?.settings ?? null
  }

  get paused(): boolean {
    return this.#paused
  }

  /** While paused, its servers close as they become free and its clients wait, whatever its configuration. */
  setPaused(paused: boolean): void {
    if (this.#paused === paused) return
    this.#paused = paused
    if (paused) {
      this.current?.retire()
      return
    }
    this.#resetRetry()
    this.grow()
  }

  /** Closes all its clients and servers now. */
  kill(): void {
    for (const list of [this.waiting, this.idle, this.active]) {
      for (const client of list.copy()) client.fatal(sqlstates.admin_shutdown, killedText, 'admin')
    }
    for (const serverSet of this.serverSets)
      for (const list of serverSet.lists) for (const server of list.copy()) server.close('admin')
  }

  dropDrained(serverSet: ServerSet): void {
    if (serverSet.connections > 0 || !this.draining.delete(serverSet)) return
    serverSet.releaseTls()
  }

  /**
   * A server for `client`, or null if it now waits in line. A waiting client gets its server by `client.join`, in
   * another turn of the loop.
   */
  checkout(client: Client): Server | null {
    const serverSet = this.current
    if (serverSet === null) {
      client.fatal(sqlstates.admin_shutdown, removedText)
      return null
    }
    if (this.waiting.size === 0) {
      const server = serverSet.idleFor(client)
      if (server !== null) {
        serverSet.move(server, serverSet.active)
        this.#assigned(client, 0)
        return server
      }
    }
    client.wait()
    this.#untoldSinceMs = Math.min(this.#untoldSinceMs, client.waitingSinceMs)
    this.#watchLine()
    this.grow()
    return null
  }

  /** A server for `client` alone, which begins to log in; null if the client was rejected. */
  dedicate(client: Client, replication: Replication): Server | null {
    const serverSet = this.current
    if (serverSet === null) {
      client.fatal(sqlstates.admin_shutdown, removedText)
      return null
    }
    assert(!this.#paused && !this.context.suspended, 'no server is opened while paused or suspended')
    const present = this.serverSets.reduce((sum, { replication }) => sum + replication.size, 0)
    if (present >= serverSet.settings.maxReplicationConnections) {
      client.fatal(sqlstates.too_many_connections, 'too many replication connections (max_replication_connections)')
      return null
    }
    const server = serverSet.dedicate(replication)
    if (server === null) client.fatal(sqlstates.too_many_connections, 'no more server connections allowed')
    return server
  }

  /** Assigns a free server of the current set to the client that has waited longest; false if none waits. */
  serve(server: Server): boolean {
    const client = this.waiting.head
    if (client === null) return false
    if (server.strict && !lacksOthersNames(server, client)) {
      server.close('client_gone', { message: othersNamesText })
      return true
    }
    const waitedMs = this.context.io.nowMs() - client.waitingSinceMs
    this.totals.wait_time += waitedMs * 1000
    let wait = 1
    while (wait <= waitBoundsMs.length && waitedMs > (waitBoundsMs[wait - 1] as number)) wait++
    this.#assigned(client, wait)
    server.serverSet.move(server, server.serverSet.active)
    client.join(server)
    return true
  }

  /** HOT. A server that only greets a client is no assignment in PgBouncer. */
  #assigned(client: Client, wait: number): void {
    this.waits[wait] = (this.waits[wait] as number) + 1
    if (client.greeted) this.totals.server_assignment_count++
  }

  /** Opens as many servers as clients wait, within pool_size and the shared limits. */
  grow(): void {
    const serverSet = this.current
    if (serverSet === null || this.isWildcard || this.#paused || this.#retry !== null || this.context.suspended) return
    if (this.waiting.size === 0 && this.#lacksKeys(serverSet)) return
    const { limits } = this.context
    if (limits.isBlocked(this) || (this.waiting.size === 0 && limits.isContested(this))) return
    for (;;) {
      const sizeMax = this.#sizeMax(serverSet)
      if (
        this.#wanted(serverSet) <= serverSet.login.size ||
        !limits.hasRoom(serverSet, sizeMax) ||
        !serverSet.connect(sizeMax)
      )
        return
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

  #wanted(serverSet: ServerSet): number {
    // Waiting clients are served while the proxy stops; nothing is opened in advance.
    if (this.context.stopping) return this.waiting.size
    const forMinimum = serverSet.sizeMin - (serverSet.size - serverSet.login.size)
    return Math.max(this.waiting.size, forMinimum)
  }

  /** A server of the current set logged in and reported these parameters. */
  connected(target: Target, reported: ReadonlyMap<string, string>): void {
    this.failure = null
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
    this.failure = { sqlstate: sqlstate ?? sqlstates.connection_failure, message }
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
    for (const client of this.waiting) client.fatal(sqlstate, message)
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

  /** One timer for the waiting line, in which no client is due before those ahead of it. */
  #watchLine(): void {
    const { settings } = this
    if (settings === null || this.waiting.head === null) return
    const { io } = this.context
    const dueMs = this.#lineNextMs(settings, io.nowMs())
    if (this.#lineTimer !== null && this.#lineDueMs <= dueMs) return
    this.#lineTimer?.cancel()
    this.#lineTimer = null
    if (dueMs === Infinity) return
    this.#lineDueMs = dueMs
    this.#lineTimer = io.after(Math.max(0, dueMs - io.nowMs()), () => {
      this.#lineTimer = null
      this.#lookAtLine()
    })
  }

  /** Time at which the next client in line may be due; clients that join later are due later. */
  #lineNextMs(settings: PoolSettings, nowMs: number): number {
    const { queryWaitTimeoutMs, queryWaitNotifyMs, reservePoolSize, reservePoolTimeoutMs } = settings
    const sinceMs = this.waiting.head?.waitingSinceMs ?? nowMs
    let dueMs = Infinity
    if (queryWaitTimeoutMs > 0) dueMs = sinceMs + queryWaitTimeoutMs
    if (reservePoolSize > 0) {
      const reserveMs = sinceMs + reservePoolTimeoutMs
      dueMs = Math.min(dueMs, reserveMs > nowMs ? reserveMs : nowMs + reservePoolTimeoutMs)
    }
    if (this.slots !== null) dueMs = Math.min(dueMs, nowMs + borrowEveryMs)
    if (queryWaitNotifyMs > 0) {
      dueMs = Math.min(dueMs, Math.max(this.#untoldSinceMs + queryWaitNotifyMs, nowMs + notifyEveryMs))
    }
    return dueMs
  }

  #lookAtLine(): void {
    const { settings } = this
    if (settings === null) return
    const nowMs = this.context.io.nowMs()
    if (this.slots !== null && this.waiting.size === 0) this.context.counts?.withdrawWant(this.slots.servers)
    this.#expireWaiting(settings, nowMs)
    this.#tellWaiting(settings, nowMs)
    this.grow()
    this.#watchLine()
  }

  #tellWaiting({ queryWaitNotifyMs }: PoolSettings, nowMs: number): void {
    this.#untoldSinceMs = Infinity
    for (const client of this.waiting) {
      if (client.notified) continue
      if (queryWaitNotifyMs === 0 || client.waitingSinceMs + queryWaitNotifyMs > nowMs) {
        this.#untoldSinceMs = client.waitingSinceMs
        return
      }
      client.notify(queuedText)
    }
  }

  #expireWaiting({ queryWaitTimeoutMs }: PoolSettings, nowMs: number): void {
    for (const client of this.waiting) {
      if (queryWaitTimeoutMs === 0 || client.waitingSinceMs + queryWaitTimeoutMs > nowMs) break
      const { failure } = this
      if (failure === null) client.fatal(sqlstates.too_many_connections, 'query_wait_timeout')
      else client.fatal(failure.sqlstate, failingText(failure.message))
    }
  }

  /** New settings may make clients due earlier, or allow more servers. */
  retuned(): void {
    this.#lineTimer?.cancel()
    this.#lineTimer = null
    // Clients that are due now are handled in another turn of the loop.
    if (this.settings !== null) this.#tellWaiting(this.settings, this.context.io.nowMs())
    this.#watchLine()
    this.#clientTimeouts.retuned()
    this.context.limits.freed()
    this.grow()
  }

  /** Wait of the oldest waiting client. */
  get maxWaitMs(): number {
    const head = this.waiting.head
    return head === null ? 0 : Math.max(0, this.context.io.nowMs() - head.waitingSinceMs)
  }

  /**
   * A server reports the defaults of new sessions, which may have changed after a failover or a reload of PostgreSQL.
   */
  noteReported(parameter: string, value: string): void {
    if (this.#reported.get(parameter) === value) return
    this.#reported.set(parameter, value)
    this.welcomes.clear()
  }

  /** An error that was sent to a client. */
  noteServerError(sqlstate: string): void {
    const kind = sqlstate.slice(0, 2)
    this.serverErrors[kind] = (this.serverErrors[kind] ?? 0) + 1
  }

  /** Undefined if only a server can tell what a client with `parameters` is to be told. */
  welcome(parameters: Parameters): Welcome | undefined {
    if (this.#reportIsOld) return undefined
    const known = this.welcomes.get(parameters.key)
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
    if (this.welcomes.size >= welcomesMax) this.welcomes.clear()
    this.welcomes.set(welcome.parameters.key, welcome)
  }

  /** Nothing of it remains: no configuration, clients or servers, and no client placed here that has yet to log in. */
  get abandoned(): boolean {
    if (this.current !== null || this.draining.size > 0 || this.clientCount > 0) return false
    return this.context.counts?.hasPlaced(this) !== true
  }

  /** The proxy stops: closes all servers. */
  close(): void {
    this.#resetRetry()
    this.#lineTimer?.cancel()
    this.#lineTimer = null
    this.#clientTimeouts.close()
    for (const serverSet of this.serverSets) {
      for (const list of serverSet.lists) for (const server of list.copy()) server.close('shutdown')
      serverSet.releaseTls()
    }
    if (this.slots !== null) this.context.counts?.releaseSlots(this)
  }

  /** This worker's part of a shared number. */
  partOf(total: number): number {
    const { workers } = this.context
    if (workers === null) return total
    const { self, count } = workers
    if (this.worker !== null) return this.worker === self ? total : 0
    return Math.floor(total / count) + (self < total % count ? 1 : 0)
  }

  assertInvariants(): void {
    const { serverSets } = this
    if (this.isWildcard) {
      assert(this.clientCount === 0, '"*" itself has no clients')
      assert(
        serverSets.every((serverSet) => serverSet.size === 0),
        '"*" itself has no servers',
      )
    }
    const linked = new Set<Server>()
    for (const serverSet of serverSets) {
      serverSet.assertInvariants()
      for (const server of [...serverSet.active, ...serverSet.replication])
        if (server.client !== null) linked.add(server)
    }
    for (const client of this.active) {
      assert(client.server !== null, 'an active client has a server')
      assert(client.server.client === client, 'a link is known to both ends')
      assert(linked.has(client.server), 'a linked server is active in a server set of its client’s pool')
    }
    for (const client of this.idle) assert(client.server === null, 'an idle client has no server')
    for (const client of this.waiting) assert(client.server === null, 'a waiting client has no server')
    if (this.#paused && this.current !== null) {
      assert(this.current.idle.size + this.current.login.size === 0, 'a paused pool keeps no idle server')
    }
    if (this.current !== null && this.waiting.size > 0) {
      assert(this.current.idle.size === 0, 'no client waits while a server is idle')
    }
  }
}

const removedText = 'terminating connection: the pool was removed from the configuration'
const killedText = 'terminating connection due to administrator command'
/** PgBouncer's text, with the server's own SQLSTATE. */
function failingText(message: string): string {
  return `server login has been failing, cached error: ${message} (server_login_retry)`
}

const queuedText = 'No server connection available in postgres backend, client being queued'
