/**
 * auth_query: looks up users without a configured password in a database. It uses connections of its own, whose session
 * is not influenced by clients: `search_path` is set at startup, and the user name is a parameter of a Bind.
 */
import { createHash } from 'node:crypto'
import { passwordKind, readVerifier } from '../../../shared/config/password.ts'
import { authQuerySettings } from '../../../shared/config/settings.ts'
import { SqlError } from '../../../shared/errors.ts'
import type { Exchange } from '../wire/conversation.ts'
import type { AuthQuerySnapshot } from '../../snapshot.ts'
import type { ClientSecret, PoolSpec } from '../../spec.ts'
import { targetsOf } from '../pool/target.ts'
import type { TlsHold } from '../wire/tls.ts'
import { AuthConnection, authState } from './auth-connection.ts'
import type { Answer, AuthContext, AuthSpec, ConnectionSource, UserQuery } from './auth-connection.ts'
import { unknownUser } from './methods.ts'
import type { SaltedKeys } from './scram.ts'

/** Maximum number of waiting queries; further ones are rejected. */
const lineMax = 1000
/** Answers cached per source. */
const answersMax = 10_000
/** An idle connection is closed, and an unused source removed, after this time. */
const unusedMs = 30_000
/** A wrong proof triggers at most one further query per user in this time. */
const againMs = 1000
/** Minimum interval between logged failures. */
const logEveryMs = 1000

/** All sources, by what determines their connections and answers. */
export class AuthQueries {
  readonly #context: AuthContext
  readonly #sources = new Map<string, AuthSource>()
  /** Removed sources with queries in progress. */
  readonly #ending = new Set<AuthSource>()
  /** Sources by specification. */
  #bySpec = new WeakMap<PoolSpec, AuthSource>()

  constructor(context: AuthContext) {
    this.#context = context
  }

  /** The source of a pool; null if it does not use auth_query. */
  sourceOf(spec: PoolSpec): AuthSource | null {
    if (!looksUp(spec)) return null
    const known = this.#bySpec.get(spec)
    if (known !== undefined && !known.closed) return known
    const key = authKeyOf(spec)
    let source = this.#sources.get(key)
    if (source === undefined) {
      source = new AuthSource(this.#context, spec, {
        open: () => sum(this.sources(), (one) => (one.key === key ? one.connections.size : 0)),
        ended: (ended) => this.#ended(ended),
        key,
      })
      this.#sources.set(key, source)
    }
    this.#bySpec.set(spec, source)
    return source
  }

  /** All sources with connections, including removed ones. */
  *sources(): Generator<AuthSource> {
    yield* this.#sources.values()
    yield* this.#ending
  }

  /** A connection has closed: another source with the same key may open one. */
  #ended(source: AuthSource): void {
    if (!source.busy) this.#ending.delete(source)
    for (const other of this.sources()) if (other !== source && other.key === source.key) other.dispatch()
  }

  /** The configuration may have changed, or a RELOAD was requested: cached answers are void. */
  clear(): void {
    for (const source of this.#sources.values()) {
      source.close()
      if (source.busy) this.#ending.add(source)
    }
    this.#sources.clear()
    this.#bySpec = new WeakMap()
  }

  /** The engine stops. */
  stop(): void {
    for (const source of this.sources()) source.stop()
    this.clear()
  }

  /** Called about once a second. */
  maintain(nowMs: number): void {
    for (const [key, source] of this.#sources) {
      source.maintain(nowMs)
      if (source.closed) this.#sources.delete(key)
    }
    for (const source of this.#ending) if (!source.busy) this.#ending.delete(source)
  }
}

/** Whether clients of the pool are looked up by auth_query. */
export function looksUp({ settings, clientSecret }: PoolSpec): boolean {
  const { authUser, authType } = settings
  return authUser !== '' && authType !== 'trust' && clientSecret.md5 === null && clientSecret.scram === null
}

/** Pools with the same key share a source. */
export function authKeyOf({ serverDatabase, settings, hosts, authPassword, serverTls }: PoolSpec): string {
  const own = authQuerySettings(settings)
  const digest = createHash('sha256')
    .update(authPassword ?? '')
    .digest('base64')
  return JSON.stringify([
    hosts,
    digest,
    { ...own, authDatabase: own.authDatabase || serverDatabase },
    serverTls ?? null,
  ])
}

/** What a source needs to know of the others. */
interface Ties {
  readonly key: string
  /** Number of connections of all sources with this key. */
  readonly open: () => number
  readonly ended: (source: AuthSource) => void
}

/** One database and role: its connections, waiting queries and cached answers. */
export class AuthSource implements ConnectionSource {
  readonly context: AuthContext
  readonly spec: AuthSpec
  readonly tls: TlsHold | null
  /** A reconnect derives nothing anew. */
  readonly saltedKeys: SaltedKeys = new Map()
  /** A secret that was found, like which unknown users are challenged. */
  like: ClientSecret | null = null
  readonly connections = new Set<AuthConnection>()
  readonly key: string
  readonly #connectionsMax: number
  readonly #tied: Ties
  /** Waiting or on a connection, by user. */
  readonly #asked = new Map<string, UserQuery>()
  readonly #line: UserQuery[] = []
  readonly #answers = new Map<string, Answer>()
  #nextTarget = 0
  /** Number of connections that have failed since one succeeded. */
  #failures = 0
  #usedAtMs = 0
  #loggedAtMs = -Infinity
  #closed = false
  #tlsReleased = false

  constructor(context: AuthContext, spec: AuthSpec, ties: Ties) {
    this.context = context
    this.spec = spec
    this.key = ties.key
    this.#tied = ties
    this.#connectionsMax = Math.max(
      1,
      Math.floor(spec.settings.maxAuthQueryConnections / (context.workers?.count ?? 1)),
    )
    this.tls = spec.serverTls === undefined ? null : context.tls.acquire(spec.serverTls)
  }

  get closed(): boolean {
    return this.#closed
  }

  /** A login waits for an answer, or a connection is open. */
  get busy(): boolean {
    return this.#asked.size > 0 || this.connections.size > 0
  }

  /** Number of waiting queries. */
  get waiting(): number {
    return this.#line.length
  }

  get database(): string {
    return this.spec.settings.authDatabase || this.spec.serverDatabase
  }

  /** The cached or queried answer for `user`. `wake` resumes the exchange. Throws SqlError. */
  *find(user: string, wake: () => void): Exchange<ClientSecret> {
    const { authQueryCacheTtlMs: ttlMs } = this.spec.settings
    const known = this.#answers.get(user)
    const believed = known !== undefined && this.context.io.nowMs() - known.askedAtMs < ttlMs
    return believed ? known.secret : yield* this.#ask(user, wake)
  }

  /** After a wrong proof: the role may have another password by now. Null if it was queried just before. */
  *again(user: string, wake: () => void): Exchange<ClientSecret | null> {
    const known = this.#answers.get(user)
    if (this.#closed || (known !== undefined && this.context.io.nowMs() - known.askedAtMs < againMs)) return null
    return yield* this.#ask(user, wake)
  }

  *#ask(user: string, wake: () => void): Exchange<ClientSecret> {
    const query = this.#asked.get(user) ?? this.#begin(user)
    query.waiting.add(wake)
    while (query.outcome === null) yield
    if (query.outcome === 'failed') throw new SqlError('connection_failure', cannotAsk)
    return query.outcome.secret
  }

  #begin(user: string): UserQuery {
    const { io } = this.context
    const nowMs = io.nowMs()
    this.#usedAtMs = nowMs
    const query: UserQuery = {
      user,
      askedAtMs: nowMs,
      waiting: new Set(),
      retried: false,
      connection: null,
      timer: null,
      outcome: null,
    }
    if (this.#line.length >= lineMax || this.#closed) {
      query.outcome = 'failed'
      return query
    }
    query.timer = io.after(this.spec.settings.authQueryTimeoutMs, () => {
      query.timer = null
      const { connection } = query
      this.failed(query, 'no response within auth_query_timeout')
      connection?.close()
    })
    this.#asked.set(user, query)
    this.#line.push(query)
    this.dispatch()
    return query
  }

  /** Assigns waiting queries to idle connections, and opens missing ones. */
  dispatch(): void {
    let opening = 0
    for (const connection of this.connections) {
      if (connection.ready && connection.query === null) {
        const query = this.#line.shift()
        if (query === undefined) break
        connection.ask(query)
      } else if (!connection.ready) opening++
    }
    while (opening++ < this.#line.length && this.#tied.open() < this.#connectionsMax) this.#open()
  }

  #open(): void {
    const targets = targetsOf(this.spec)
    // There is at least one address.
    const target = targets[this.#nextTarget % targets.length]!
    this.connections.add(new AuthConnection(this, target))
  }

  /** A row, or its absence: name and verifier of the user. */
  answered(query: UserQuery, name: string | null, verifier: string | null): void {
    const secret = name === null || verifier === null ? unknownUser : this.#secretOf(query, name, verifier)
    if (secret !== unknownUser) this.like = secret
    const answer: Answer = { secret, askedAtMs: query.askedAtMs }
    this.#answers.delete(query.user)
    this.#answers.set(query.user, answer)
    if (this.#answers.size > answersMax) {
      for (const oldest of this.#answers.keys()) {
        this.#answers.delete(oldest)
        break
      }
    }
    this.#finish(query, answer)
  }

  #secretOf(query: UserQuery, name: string, verifier: string): ClientSecret {
    if (name !== query.user) {
      this.#log('auth_query returned another user than requested')
      return unknownUser
    }
    const scram = readVerifier(verifier)
    if (scram !== undefined) return { md5: null, scram }
    if (passwordKind(verifier) === 'md5') return { md5: verifier, scram: null }
    this.#log('auth_query returned neither an md5 hash nor a SCRAM-SHA-256 verifier')
    return unknownUser
  }

  /** The query failed; the reason is for operators. */
  failed(query: UserQuery, reason: string): void {
    if (query.outcome !== null) return
    this.#log(`auth_query failed: ${reason}`)
    this.#finish(query, 'failed')
  }

  #finish(query: UserQuery, outcome: Answer | 'failed'): void {
    query.timer?.cancel()
    query.timer = null
    query.outcome = outcome
    if (this.#asked.get(query.user) === query) this.#asked.delete(query.user)
    const at = this.#line.indexOf(query)
    if (at !== -1) this.#line.splice(at, 1)
    if (this.#closed) this.#releaseTls()
    for (const wake of query.waiting) wake()
  }

  connected(): void {
    this.#failures = 0
    this.dispatch()
  }

  /** A connection has closed: with `reason` null in order, before or after its login. */
  ended(connection: AuthConnection, reason: string | null): void {
    this.connections.delete(connection)
    const { query } = connection
    if (query !== null && query.outcome === null) {
      // It may have been lost since its last use, which is no reason to fail the login.
      if (!query.retried && connection.reused) {
        query.retried = true
        query.connection = null
        this.#line.unshift(query)
      } else this.failed(query, reason ?? 'the connection was lost')
    }
    if (!connection.ready && reason !== null) {
      this.#nextTarget++
      this.#failures++
      if (this.#failures >= targetsOf(this.spec).length) {
        this.#failures = 0
        for (const waiting of this.#line.splice(0)) this.failed(waiting, reason)
      }
    }
    this.dispatch()
    if (this.#closed) this.#releaseTls()
    this.#tied.ended(this)
  }

  maintain(nowMs: number): void {
    if (nowMs - this.#usedAtMs < unusedMs || this.#asked.size > 0) return
    this.#closeFree()
    if (nowMs - this.#usedAtMs >= this.spec.settings.authQueryCacheTtlMs) this.close()
  }

  /** Queries in progress are still answered. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#closeFree()
    this.#releaseTls()
  }

  #closeFree(): void {
    for (const connection of this.connections) {
      if (connection.ready && connection.query === null) connection.close()
    }
  }

  stop(): void {
    for (const query of this.#asked.values()) this.#finish(query, 'failed')
    for (const connection of this.connections) connection.close()
  }

  #releaseTls(): void {
    if (this.busy || this.#tlsReleased) return
    this.#tlsReleased = true
    this.tls?.release()
  }

  #log(message: string): void {
    const { io, post } = this.context
    const nowMs = io.nowMs()
    if (nowMs - this.#loggedAtMs < logEveryMs) return
    this.#loggedAtMs = nowMs
    const { database: pool, settings } = this.spec
    const fields = { pool, auth_user: settings.authUser, auth_database: this.database }
    post({ type: 'log', level: 'warn', message, fields })
  }
}

/** For metrics; sources that differ in anything else are merged. */
export function authQuerySnapshots(sources: Iterable<AuthSource>): AuthQuerySnapshot[] {
  const snapshots = new Map<string, Counted>()
  for (const { database, spec, connections, waiting } of sources) {
    const user = spec.settings.authUser
    const key = JSON.stringify([database, user])
    const known = snapshots.get(key) ?? { database, user, connections: { new: 0, idle: 0, active: 0 }, waiting: 0 }
    snapshots.set(key, known)
    known.waiting += waiting
    for (const connection of connections) known.connections[authState(connection)]++
  }
  return [...snapshots.values()]
}

interface Counted {
  readonly database: string
  readonly user: string
  readonly connections: { new: number; idle: number; active: number }
  waiting: number
}

function sum<Item>(items: Iterable<Item>, of: (item: Item) => number): number {
  let total = 0
  for (const item of items) total += of(item)
  return total
}

const cannotAsk = 'could not look up the user: auth_query failed'
