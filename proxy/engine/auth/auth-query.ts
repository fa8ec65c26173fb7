/**
 * auth_query: what a database knows of users that have no password here. It is asked over connections of the engine's
 * own, whose session nothing of a client reaches: `search_path` is fixed when they begin, and the name that is asked for
 * travels as the parameter of a Bind.
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

/** Questions in line; one more is refused at once. */
const lineMax = 1000
/** Answers one source keeps. */
const answersMax = 10_000
/** A connection that nobody has asked anything for so long is closed, a source forgotten. */
const unusedMs = 30_000
/** Of one user, a wrong proof leads to one more question in so long. */
const againMs = 1000
/** Failures are logged as often as this. */
const logEveryMs = 1000

/** Every place that is asked, by what decides who answers there and what. */
export class AuthQueries {
  readonly #context: AuthContext
  readonly #sources = new Map<string, AuthSource>()
  /** Sources that were forgotten, while questions are still under way there. */
  readonly #ending = new Set<AuthSource>()
  /** The source of each specification that was asked about before. */
  #bySpec = new WeakMap<PoolSpec, AuthSource>()

  constructor(context: AuthContext) {
    this.#context = context
  }

  /** Where the clients of this pool are looked up; null when it knows them itself. */
  sourceOf(spec: PoolSpec): AuthSource | null {
    if (!looksUp(spec)) return null
    const known = this.#bySpec.get(spec)
    if (known !== undefined && !known.closed) return known
    const key = keyOf(spec)
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

  /** All that have connections, or may have. */
  *sources(): Generator<AuthSource> {
    yield* this.#sources.values()
    yield* this.#ending
  }

  /** A connection has: there is room for one where the same is asked now. */
  #ended(source: AuthSource): void {
    if (!source.busy) this.#ending.delete(source)
    for (const other of this.sources()) if (other !== source && other.key === source.key) other.dispatch()
  }

  /** The configuration may have changed, or somebody wants it looked at anew: nothing that was answered counts. */
  clear(): void {
    for (const source of this.#sources.values()) {
      source.close()
      if (source.busy) this.#ending.add(source)
    }
    this.#sources.clear()
    this.#bySpec = new WeakMap()
  }

  /** The engine ends. */
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

/** Its clients are known to auth_query and not to the configuration. */
export function looksUp({ settings, clientSecret }: PoolSpec): boolean {
  const { authUser, authType } = settings
  return authUser !== '' && authType !== 'trust' && clientSecret.md5 === null && clientSecret.scram === null
}

/** Pools with the same key are looked up by the same source. */
function keyOf({ serverDatabase, settings, hosts, authPassword, serverTls }: PoolSpec): string {
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

/** What one source has to do with the others. */
interface Ties {
  readonly key: string
  /** Connections of all sources with this key. */
  readonly open: () => number
  readonly ended: (source: AuthSource) => void
}

/** One database that is asked as one role: its connections, the questions in line, and the answers that are believed. */
export class AuthSource implements ConnectionSource {
  readonly context: AuthContext
  readonly spec: AuthSpec
  readonly tls: TlsHold | null
  /** A reconnect derives nothing anew. */
  readonly saltedKeys: SaltedKeys = new Map()
  /** What it last knew of somebody: whoever is not known is asked in the same way. */
  like: ClientSecret | null = null
  readonly connections = new Set<AuthConnection>()
  readonly key: string
  readonly #connectionsMax: number
  readonly #tied: Ties
  /** In line or on a connection, by user. */
  readonly #asked = new Map<string, UserQuery>()
  readonly #line: UserQuery[] = []
  readonly #answers = new Map<string, Answer>()
  #nextTarget = 0
  /** Connections that failed since one did not. */
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

  /** Somebody waits for an answer, or a connection is still open. */
  get busy(): boolean {
    return this.#asked.size > 0 || this.connections.size > 0
  }

  /** Questions in line. */
  get waiting(): number {
    return this.#line.length
  }

  get database(): string {
    return this.spec.settings.authDatabase || this.spec.serverDatabase
  }

  /** What is believed of `user`, asked for where it has to be. `wake` resumes the exchange. Throws SqlError. */
  *find(user: string, wake: () => void): Exchange<ClientSecret> {
    const { authQueryCacheTtlMs: ttlMs } = this.spec.settings
    const known = this.#answers.get(user)
    const believed = known !== undefined && this.context.io.nowMs() - known.askedAtMs < ttlMs
    return believed ? known.secret : yield* this.#ask(user, wake)
  }

  /** After a wrong proof: the role may have another password by now. Null where it was asked just before. */
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

  /** Gives questions in line to connections that are free, and opens what is wanting. */
  dispatch(): void {
    let opening = 0
    for (const connection of this.connections) {
      if (connection.ready && connection.query === null) {
        const query = this.#line.shift()
        if (query === undefined) break
        connection.ask(query)
      } else if (!connection.ready) opening++
    }
    while (opening++ < this.#line.length && this.#tied.open() < this.#connectionsMax) this.#open(false)
  }

  /** `secured` is for servers that have refused plaintext (`server_tls_sslmode = "allow"`). */
  #open(secured: boolean): void {
    const targets = targetsOf(this.spec)
    // A pool is prepared with at least one address.
    const target = targets[this.#nextTarget % targets.length]!
    this.connections.add(new AuthConnection(this, target, secured))
  }

  /** A row, or that there is none: name and verifier of the user that was asked for. */
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

  /** It cannot be answered; the reason is for operators. */
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

  /** A connection has ended: with `reason` null as it should, before or after its login. */
  ended(connection: AuthConnection, reason: string | null, plaintextRefused: boolean): void {
    this.connections.delete(connection)
    const { query } = connection
    if (query !== null && query.outcome === null) {
      // It may have been lost since it was last used, and is no reason to refuse anybody.
      if (!query.retried && connection.reused) {
        query.retried = true
        query.connection = null
        this.#line.unshift(query)
      } else this.failed(query, reason ?? 'the connection was lost')
    }
    if (!connection.ready && reason !== null) {
      if (plaintextRefused) {
        this.#open(true)
        return
      }
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

  /** What is asked already is answered still. */
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

/** What metrics are made of; sources that differ in something else have one line together. */
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
