import assert from 'node:assert/strict'
import { causes } from '../../../shared/causes.ts'
import type { Cause } from '../../../shared/causes.ts'
import type { PoolSettings } from '../../../shared/config/settings.ts'
import type { TcpOptions } from '../../io/io.ts'
import type { Schema } from '../../memory/schema-changes.ts'
import type { LimitedSource } from './limits.ts'
import { List } from './list.ts'
import { shownHash } from '../../spec.ts'
import type { PoolSpec } from '../../spec.ts'
import type { ServerSource } from './server-source.ts'
import { LearnedTexts } from '../session/learning.ts'
import { followedWith } from '../session/parameters.ts'
import type { Parameters } from '../session/parameters.ts'
import type { Replication } from '../session/replication.ts'
import { Server } from './server.ts'
import { targetsOf, tcpOptionsOf, withAddresses } from './target.ts'
import type { Target } from './target.ts'
import type { TlsHold } from '../wire/tls.ts'
import { anything } from '../session/session-state.ts'

/** How many idle servers are looked at for one that has the settings of a client. */
const fittingMax = 16

/** Why a server could not log in. */
export interface LoginFailure {
  readonly cause: Cause
  readonly errno: string | null
  readonly sqlstate: string | null
  readonly message: string | null
}

/** Who tries a server set before it serves. */
export interface Trial {
  passed(): void
  failed(failure: LoginFailure): void
}

/** A client, as far as its choice of a server goes. */
interface Settled {
  readonly parameters: Parameters
  readonly custom: ReadonlySet<string> | null
}

function fits(server: Server, client: Settled): boolean {
  return server.parameters === client.parameters && (server.custom === null || lacksOthersNames(server, client))
}

/** A custom parameter that a session has had reads as empty, not as NULL, until the session ends. */
export function lacksOthersNames({ custom }: Server, client: Settled): boolean {
  if (custom === null) return true
  for (const name of custom) if (client.custom?.has(name) !== true) return false
  return true
}

export const othersNamesText = 'its session has had custom parameters of another client (isolation = "strict")'

/**
 * The servers of one (database, server user) under one effective configuration. Each is in exactly one of the lists below; the list is its
 * state, and only `move` changes it.
 *
 *   login ──► idle ◄──► active ──► reset ──► idle
 *            │            └──► canceled ──► idle        (a cancel request is still on its way to it)
 *            └──► reset ──► idle                         (server_check_query)
 *
 * A server opened for replication is in a list of its own until it ends. It does not count for the size of the set,
 * belongs to one client, and has a limit of its own.
 */
export class ServerSet {
  readonly source: ServerSource
  spec: PoolSpec
  settings: PoolSettings
  readonly login = new List<Server>('login')
  readonly idle = new List<Server>('idle')
  readonly active = new List<Server>('active')
  readonly reset = new List<Server>('reset')
  readonly canceled = new List<Server>('canceled')
  readonly replication = new List<Server>('replication')
  /** Accepts no new client; servers close as they become free. */
  draining = false
  /** TLS context for its servers; null without TLS. */
  tls: TlsHold | null = null
  /** Run-time parameters that follow a client, in lower case. */
  followed: ReadonlySet<string>
  readonly learned = new LearnedTexts()
  /** Sessions are reset after each transaction. */
  strict = false
  /** Of the database on its servers. */
  readonly schema: Schema
  /** It is tried, and serves no clients yet; null for one that serves or drains. */
  trial: Trial | null
  #targets: readonly Target[] = []
  #next = 0

  constructor(source: ServerSource, spec: PoolSpec, trial: Trial | null = null) {
    this.source = source
    this.trial = trial
    this.spec = spec
    this.settings = spec.settings
    this.#holdTls()
    this.followed = followedWith(spec.settings.trackExtraParameters)
    this.strict = spec.settings.isolation === 'strict'
    this.schema = source.context.schemaChanges.of(spec.serverDatabase)
    this.#setTargets()
  }

  #holdTls(): void {
    const former = this.tls
    const { serverTls } = this.spec
    this.tls = serverTls === undefined ? null : this.source.context.tls.acquire(serverTls)
    former?.release()
  }

  /** It has no servers any more and will have none. */
  releaseTls(): void {
    this.tls?.release()
    this.tls = null
  }

  get hash(): string {
    return shownHash(this.spec)
  }

  get lists(): readonly List<Server>[] {
    return [this.login, this.idle, this.active, this.reset, this.canceled, this.replication]
  }

  /** Connections to PostgreSQL, in any state, that clients share. */
  get size(): number {
    return this.login.size + this.idle.size + this.active.size + this.reset.size + this.canceled.size
  }

  /** All connections to PostgreSQL. */
  get connections(): number {
    return this.size + this.replication.size
  }

  /** Servers kept without need; this worker's part of them. */
  get sizeMin(): number {
    const { minPoolSize, poolSize } = this.settings
    return this.source.partOf(Math.min(minPoolSize, poolSize))
  }

  get addressCount(): number {
    return this.#targets.length
  }

  /** Addresses to which new servers are opened, in turn. */
  get targets(): readonly Target[] {
    return this.#targets
  }

  get tcpOptions(): TcpOptions {
    return tcpOptionsOf(this.settings)
  }

  /**
   * The only function that changes the list of a server. Idle servers are used last in, first out, except a `last` one.
   */
  move(server: Server, to: List<Server>, last = false): void {
    // HOT: the texts are created only on failure.
    if (server.serverSet !== this) assert.fail('a server stays in its server set')
    const from = server.list
    if (from === null || !this.#leads(from, to)) assert.fail(`${from?.name ?? 'closed'} -> ${to.name}`)
    from.remove(server)
    if (to === this.idle && !last) to.pushHead(server)
    else to.pushTail(server)
  }

  #leads(from: List<Server>, to: List<Server>): boolean {
    switch (from) {
      case this.idle:
        return to === this.active || to === this.reset
      case this.active:
        return to === this.idle || to === this.reset || to === this.canceled
      case this.reset:
        return to === this.idle || to === this.canceled
      case this.login:
      case this.canceled:
        return to === this.idle
      default:
        return false
    }
  }

  /**
   * HOT. An idle server for a client: one that has its settings, if there is one among the first, and without custom
   * parameters of others; otherwise the one that was used last. With strict isolation a server that has custom parameters
   * of others is closed instead.
   */
  idleFor(client: Settled): Server | null {
    let server = this.idle.head
    if (server !== null && fits(server, client)) return server
    let second: Server | null = null
    for (let left = fittingMax; left > 0 && server !== null; left--) {
      if (fits(server, client)) return server
      if (second === null && lacksOthersNames(server, client)) second = server
      server = server.next
    }
    if (second !== null || !this.strict) return second ?? this.idle.head
    for (const unfit of this.idle.copy()) {
      if (lacksOthersNames(unfit, client)) return unfit
      unfit.close('client_gone', { message: othersNamesText })
    }
    return null
  }

  /**
   * Opens a server to the next address. False if a shared limit does not allow it, or the workers together have
   * `sizeMax`.
   */
  connect(sizeMax: number): boolean {
    const target = this.#nextTarget()
    if (target === null || !this.source.context.limits.open(this, target, sizeMax)) return false
    this.login.pushTail(new Server(this, target))
    return true
  }

  /** Opens a server to try the settings of the set; false if a shared limit does not allow it. */
  tryTarget(target: Target, place: LimitedSource): boolean {
    if (!this.source.context.limits.admitTrial(this, target, place)) return false
    this.login.pushTail(new Server(this, target))
    return true
  }

  /** A server has logged in, and reported these parameters. */
  loggedIn(server: Server, reported: ReadonlyMap<string, string>): void {
    if (this.trial === null) {
      this.source.connected(server.target, reported)
      this.checkin(server)
      return
    }
    this.move(server, this.idle)
    server.becameIdle()
    this.trial.passed()
  }

  loginFailed(target: Target, failure: LoginFailure): void {
    if (this.trial !== null) this.trial.failed(failure)
    else if (!causes[failure.cause].planned) this.source.connectFailed(target, failure.sqlstate, textOf(failure))
  }

  /** From now on it serves. */
  passTrial(): void {
    assert(this.trial !== null, 'a server set is tried once')
    this.trial = null
    this.source.context.counts?.tried(this)
    for (const server of this.idle) this.source.connected(server.target, server.reported)
  }

  /** Opens a server for one client alone; null if a shared limit does not allow it. */
  dedicate(replication: Replication): Server | null {
    const target = this.#nextTarget()
    if (target === null) return null
    this.source.context.counts?.dedicated(this, target)
    const server = new Server(this, target, replication)
    this.replication.pushTail(server)
    return server
  }

  #nextTarget(): Target | null {
    const { limits } = this.source.context
    if (!limits.admit(this)) return null
    for (let left = this.#targets.length; left > 0; left--) {
      const target = this.#targets[this.#next++ % this.#targets.length] as Target
      if (limits.admitTo(this, target)) return target
    }
    return null
  }

  /**
   * Takes back a server that owes nothing and has no client: it goes to the next client, becomes idle or closes. One
   * that was only `checked` remains idle since its last use.
   */
  checkin(server: Server, checked = false): void {
    if (server.cancels > 0) {
      if (server.list !== this.canceled) this.move(server, this.canceled)
      return
    }
    if (this.draining || server.closeNeeded || server.cancelLost || this.#hasExcess()) {
      server.close(server.retired ? 'admin' : 'drained')
      return
    }
    // A new server serves a client first: if logins take long, all would otherwise close before they were used.
    if (server.list !== this.login) {
      if (this.#expired(server)) {
        server.close('lifetime')
        return
      }
      if (this.source.context.limits.givesWay(this.source)) {
        server.close('evicted')
        return
      }
    }
    this.move(server, this.idle, checked)
    if (!checked) server.becameIdle()
    if (!this.source.serve(server)) this.source.context.limits.serverIdle()
  }

  /** There are more servers than allowed; those of the reserve stay while clients wait. */
  #hasExcess(): boolean {
    const size = this.source.context.limits.sizeOf(this)
    const { poolSize, reservePoolSize } = this.settings
    if (size <= poolSize) return false
    return size > poolSize + reservePoolSize || !this.source.hasWaiting
  }

  #expired(server: Server): boolean {
    const { serverLifetimeMs } = this.settings
    return serverLifetimeMs > 0 && this.source.context.io.nowMs() - server.connectedAtMs >= serverLifetimeMs
  }

  /** Present servers serve no further transaction; needed ones are opened anew. */
  retire(): void {
    for (const list of this.lists) {
      for (const server of list) {
        server.retire()
      }
    }
    for (const server of this.login.copy()) server.close('admin')
    for (const server of this.idle.copy()) server.close('admin')
  }

  /** Idle servers close at once, linked ones when their transaction ends. */
  drain(): void {
    this.source.context.counts?.drained(this)
    this.draining = true
    for (const server of this.login.copy()) server.close('drained')
    for (const server of this.idle.copy()) server.close('drained')
  }

  /** New values for the same servers: sizes and timeouts, and keepalive options of open sockets. */
  retune(spec: PoolSpec): void {
    this.adopt(spec)
    for (const list of this.lists) for (const server of list) server.setTcpOptions(this.tcpOptions)
    this.#shrink()
    this.source.retuned()
  }

  /** The same configuration, resolved again. */
  adopt(spec: PoolSpec): void {
    const watched = this.settings.poolMode !== 'session' || spec.settings.poolMode === 'session'
    // Session mode does not watch session state, so the present client may have left anything.
    if (!watched) for (const server of this.active) server.note(anything)
    this.spec = spec
    this.settings = spec.settings
    this.#holdTls()
    this.followed = followedWith(spec.settings.trackExtraParameters)
    this.strict = spec.settings.isolation === 'strict'
    this.#setTargets()
    this.#leaveAddresses()
  }

  /** Servers on an address that is not a target any more drain; on one that is again, they stay. */
  #leaveAddresses(): void {
    for (const list of this.lists) {
      for (const server of list.copy()) {
        const stays = this.#targets.some(
          (target) =>
            target.address === server.target.address &&
            target.host.host === server.target.host.host &&
            target.host.port === server.target.host.port,
        )
        server.leaveAddress(!stays)
        if (server.closeNeeded && (list === this.idle || list === this.login)) server.close('drained')
      }
    }
  }

  #shrink(): void {
    const { limits } = this.source.context
    while (limits.sizeOf(this) > this.settings.poolSize && this.idle.tail !== null) this.idle.tail.close('drained')
  }

  /** Closes idle servers while there are more than `size` and than the minimum. */
  keepOnly(size: number): void {
    while (this.size > Math.max(size, this.sizeMin) && this.idle.tail !== null) this.idle.tail.close('drained')
  }

  /** Addresses of a host name changed: servers on an address that disappeared drain. */
  readdress(hosts: Readonly<Record<string, readonly string[]>>): void {
    const spec = withAddresses(this.spec, hosts)
    if (spec !== this.spec) this.adopt(spec)
  }

  /** Called about once a second: age, idle time, and the minimum. */
  maintain(nowMs: number): void {
    const { idleTimeoutMs, serverCheckQuery, serverCheckDelayMs } = this.settings
    const { sizeMin } = this
    for (const server of this.idle.copy()) {
      if (this.#expired(server)) server.close('lifetime')
      else if (idleTimeoutMs > 0 && nowMs - server.idleSinceMs >= idleTimeoutMs && this.size > sizeMin) {
        server.close('idle')
      } else if (serverCheckQuery !== '' && nowMs - server.lastReceivedMs >= serverCheckDelayMs) {
        server.startCheck(serverCheckQuery)
      }
    }
    this.source.grow()
  }

  #setTargets(): void {
    this.#targets = targetsOf(this.spec)
    assert(this.#targets.length > 0, 'a server set has at least one address')
  }

  assertInvariants(): void {
    for (const list of this.lists) {
      let counted = 0
      for (const server of list) {
        counted++
        assert(server.list === list && server.serverSet === this, 'a server is in exactly one list of one server set')
        const linked = list === this.active || list === this.replication
        assert(linked || server.client === null, 'only an active server has a client')
        assert(list !== this.idle || server.free, 'an idle server owes nothing')
      }
      assert(counted === list.size, 'a list counts its items')
    }
    if (this.draining) assert(this.idle.size + this.login.size === 0, 'a draining server set keeps no idle server')
    if (this.trial !== null) assert(this.size <= 1 && this.source.trials.has(this), 'a trial is one server')
    else if (!this.draining)
      assert(this.source.current === this, 'a server set that does not drain is its source’s current one')
  }
}

export function textOf({ cause, message }: Pick<LoginFailure, 'cause' | 'message'>): string {
  return message ?? `server login failed: ${causes[cause].help}`
}
