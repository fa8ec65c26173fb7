import assert from 'node:assert/strict'
import { changeOf } from '../../../shared/change.ts'
import type { Change } from '../../../shared/change.ts'
import type { PoolSettings } from '../../../shared/config/settings.ts'
import { wildcard } from '../../../shared/config/wildcard.ts'
import { sqlstates } from '../../../shared/errors.ts'
import { waitBoundsMs } from '../../snapshot.ts'
import type { PoolSpec } from '../../spec.ts'
import type { ServerKeys } from '../auth/server-login.ts'
import type { Parameters } from '../session/parameters.ts'
import type { Statements } from '../session/prepared.ts'
import type { Replication } from '../session/replication.ts'
import type { ClientSlots } from '../workers/process-counts.ts'
import type { Client } from './client.ts'
import { ClientTimeouts } from './client-timeouts.ts'
import type { ClosedServers } from './closed-servers.ts'
import type { Context } from './context.ts'
import { List } from './list.ts'
import type { Queue } from './oldest-first.ts'
import type { Server } from './server.ts'
import { lacksOthersNames, othersNamesText } from './server-set.ts'
import type { ServerSource, Welcome } from './server-source.ts'
import { noTotals } from './totals.ts'
import { WaitingLine } from './waiting-line.ts'

/**
 * What clients of one (database, user) wait at. It contains what does not belong to one configuration and outlives every
 * one: clients with their waiting line, and statistics. Its servers come from a source, possibly shared with the pools
 * of other users.
 */
export class Pool implements Queue {
  readonly context: Context
  readonly database: string
  readonly user: string
  /** Logged in, without a request. */
  readonly idle = new List<Client>('idle')
  /** Joined with a server. */
  readonly active = new List<Client>('active')
  readonly #line = new WaitingLine<Client>(this)
  /** Its configuration; null after removal from it. */
  get spec(): PoolSpec | null {
    return this.#spec
  }

  #spec: PoolSpec | null = null
  /** Where its servers come from; null for "*", which has none, and after removal from the configuration. */
  source: ServerSource | null = null
  queued = false
  /** For a pool created for a client: the one with "*" that it follows. Null for a configured pool. */
  template: Pool | null = null
  /** When it last had a client, to the second; for pools that follow "*". */
  usedAtMs = 0
  /** Those of the database, so that a pool may change its source. */
  readonly statements: Statements
  /** Of the database. */
  readonly closedServers: ClosedServers
  readonly totals = noTotals()
  readonly refused: Record<string, number> = {}
  /** Checkouts by wait: none, then by the classes of `waitBoundsMs`. */
  readonly waits: number[] = [0, ...waitBoundsMs, Infinity].map(() => 0)
  /** Errors of PostgreSQL by the first two characters of their SQLSTATE. */
  readonly serverErrors: Record<string, number> = {}
  readonly #clientTimeouts = new ClientTimeouts(this)
  /** Slots of its shared counters; null for a single worker. */
  readonly slots: ClientSlots | null
  /** The only worker that serves it; null if all do. */
  worker: number | null = null

  constructor(
    context: Context,
    name: Pick<Pool, 'database' | 'user'>,
    ofDatabase: Pick<Pool, 'statements' | 'closedServers'>,
  ) {
    this.context = context
    this.database = name.database
    this.user = name.user
    this.statements = ofDatabase.statements
    this.closedServers = ofDatabase.closedServers
    this.slots = context.counts?.clientSlotsOf(this) ?? null
  }

  /** Takes the clients' part of a configuration. Returns what it is to the one that runs. */
  configure(spec: PoolSpec): Change {
    const change = changeOf(this.#spec ?? undefined, spec)
    this.#spec = spec
    return change
  }

  /** The same configuration, resolved again. */
  adopt(spec: PoolSpec): void {
    this.#spec = spec
  }

  /** Takes its servers from `source` from now on; waiting clients stay in line. */
  draw(source: ServerSource | null): void {
    if (this.source === source) return
    this.source?.remove(this)
    this.source = source
    source?.add(this)
  }

  /** New settings may make clients due earlier. */
  retuned(): void {
    this.#line.retuned()
    this.#clientTimeouts.retuned()
  }

  /** A template: it serves no clients, and has no servers. */
  get isWildcard(): boolean {
    return this.database === wildcard || this.user === wildcard
  }

  get settings(): PoolSettings | null {
    return this.spec?.settings ?? null
  }

  /** Waiting for a server, oldest first. */
  get waiting(): List<Client> {
    return this.#line.clients
  }

  get clientCount(): number {
    return this.idle.size + this.active.size + this.waiting.size
  }

  get waitingSinceMs(): number {
    const { head } = this.#line.clients
    return head === null ? Infinity : head.waitingSinceMs
  }

  /** Wait of the oldest waiting client. */
  get maxWaitMs(): number {
    const { head } = this.waiting
    return head === null ? 0 : Math.max(0, this.context.io.nowMs() - head.waitingSinceMs)
  }

  /** Removed from the configuration: its clients are disconnected as soon as they are between transactions. */
  remove(): void {
    this.#spec = null
    this.draw(null)
    this.#line.close()
    this.#clientTimeouts.retuned()
    for (const client of this.waiting) client.fatal(sqlstates.admin_shutdown, removedText)
    for (const client of this.idle) client.fatal(sqlstates.admin_shutdown, removedText)
    for (const client of this.active.copy()) {
      // Replication does not end by itself.
      if (client.replication === null) client.dismissWhenFree()
      else client.fatal(sqlstates.admin_shutdown, removedText)
    }
  }

  /** Closes all its clients now. */
  kill(): void {
    for (const list of [this.waiting, this.idle, this.active]) {
      for (const client of list.copy()) client.fatal(sqlstates.admin_shutdown, killedText, 'admin')
    }
  }

  /**
   * A server for `client`, or null if it now waits in line. A waiting client gets its server by `client.join`, in
   * another turn of the loop.
   */
  checkout(client: Client): Server | null {
    const { source } = this
    if (source === null) {
      client.fatal(sqlstates.admin_shutdown, removedText)
      return null
    }
    const server = source.take(client)
    if (server !== null) {
      this.#assigned(client, 0)
      return server
    }
    client.wait()
    this.#line.joined(client)
    source.awaited(this)
    return null
  }

  /** A server for `client` alone, which begins to log in; null if the client was rejected. */
  dedicate(client: Client, replication: Replication): Server | null {
    const serverSet = this.source?.current ?? null
    if (this.source === null || serverSet === null) {
      client.fatal(sqlstates.admin_shutdown, removedText)
      return null
    }
    const { paused, serverSets } = this.source
    assert(!paused && !this.context.suspended, 'no server is opened while paused or suspended')
    const present = serverSets.reduce((sum, { replication }) => sum + replication.size, 0)
    if (present >= serverSet.settings.maxReplicationConnections) {
      client.fatal(sqlstates.too_many_connections, 'too many replication connections (max_replication_connections)')
      return null
    }
    const server = serverSet.dedicate(replication)
    if (server === null) client.fatal(sqlstates.too_many_connections, 'no more server connections allowed')
    return server
  }

  /** Assigns a free server to the client that has waited longest. */
  serve(server: Server): void {
    const client = this.waiting.head
    if (client === null) assert.fail('a pool without waiting clients is not served')
    if (server.strict && !lacksOthersNames(server, client)) {
      server.close('client_gone', { message: othersNamesText })
      return
    }
    const waitedMs = this.context.io.nowMs() - client.waitingSinceMs
    this.totals.wait_time += waitedMs * 1000
    let wait = 1
    while (wait <= waitBoundsMs.length && waitedMs > (waitBoundsMs[wait - 1] as number)) wait++
    this.#assigned(client, wait)
    server.serverSet.move(server, server.serverSet.active)
    client.join(server)
  }

  /** HOT. A server that only greets a client is no assignment in PgBouncer. */
  #assigned(client: Client, wait: number): void {
    this.waits[wait] = (this.waits[wait] as number) + 1
    if (client.greeted) this.totals.server_assignment_count++
  }

  // Of its source

  get failure(): { readonly sqlstate: string; readonly message: string } | null {
    return this.source?.failure ?? null
  }

  /** Keys proven by a client. */
  learn(keys: ServerKeys, isFormer: boolean): void {
    this.source?.learn(keys, isFormer)
  }

  welcome(parameters: Parameters): Welcome | undefined {
    return this.source?.welcome(parameters)
  }

  remember(welcome: Welcome): void {
    this.source?.remember(welcome)
  }

  noteReported(parameter: string, value: string): void {
    this.source?.noteReported(parameter, value)
  }

  /** An error that was sent to a client. */
  noteServerError(sqlstate: string): void {
    const kind = sqlstate.slice(0, 2)
    this.serverErrors[kind] = (this.serverErrors[kind] ?? 0) + 1
  }

  /** Nothing of it remains: no configuration or clients, and no client placed here that has yet to log in. */
  get abandoned(): boolean {
    if (this.spec !== null || this.clientCount > 0) return false
    return this.context.counts?.hasPlaced(this) !== true
  }

  /** The proxy stops, or it is abandoned. */
  close(): void {
    this.#line.close()
    this.#clientTimeouts.close()
    if (this.slots !== null) this.context.counts?.releaseClientSlots(this)
  }

  assertInvariants(): void {
    if (this.isWildcard) assert(this.clientCount === 0 && this.source === null, '"*" itself has no clients or servers')
    else assert((this.spec === null) === (this.source === null), 'a configured pool has a source')
    for (const client of this.active) {
      assert(client.server !== null, 'an active client has a server')
      assert(client.server.client === client, 'a link is known to both ends')
      const { serverSet, list } = client.server
      assert(list === serverSet.active || list === serverSet.replication, 'a linked server is active')
    }
    for (const client of this.idle) assert(client.server === null, 'an idle client has no server')
    for (const client of this.waiting) assert(client.server === null, 'a waiting client has no server')
  }
}

const removedText = 'terminating connection: the pool was removed from the configuration'
const killedText = 'terminating connection due to administrator command'
