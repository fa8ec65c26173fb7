/**
 * auth_query: what a database knows of users that have no password here. It is asked over connections of the engine's
 * own, whose session nothing of a client reaches: `search_path` is fixed when they begin, and the name that is asked for
 * travels as the parameter of a Bind.
 */
import { createHash } from 'node:crypto'
import { passwordKind, readVerifier } from '../../../shared/config/password.ts'
import { SqlError } from '../../../shared/errors.ts'
import type { Timer } from '../../io/io.ts'
import type { Context } from '../context.ts'
import type { Exchange } from '../conversation.ts'
import type { ClientSecret, PoolSpec } from '../messages.ts'
import { targetsOf } from '../pool.ts'
import type { TlsHold } from '../tls.ts'
import { AuthConnection } from './auth-connection.ts'
import { unknownUser } from './methods.ts'
import type { SaltedKeys } from './scram.ts'

/** Connections that one source has at a time; further questions wait in line. */
const connectionsMax = 4
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

/** What auth_query said of a user: `unknownUser` when there is none who could log in with a password. */
export interface Answer {
  readonly secret: ClientSecret
  /** It is not older than this. */
  readonly askedAtMs: number
}

/** A question, and who waits for its answer. */
export interface Question {
  readonly user: string
  readonly askedAtMs: number
  readonly waiting: Set<() => void>
  /** Sent on a connection that was lost before it answered. */
  retried: boolean
  connection: AuthConnection | null
  timer: Timer | null
  outcome: Answer | 'failed' | null
}

/** Every place that is asked, by what decides who answers there and what. */
export class AuthQueries {
  readonly #context: Context
  readonly #sources = new Map<string, AuthSource>()
  /** The source of each specification that was asked about before. */
  #bySpec = new WeakMap<PoolSpec, AuthSource>()

  constructor(context: Context) {
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
      source = new AuthSource(this.#context, spec)
      this.#sources.set(key, source)
    }
    this.#bySpec.set(spec, source)
    return source
  }

  /** The configuration may have changed, or somebody wants it looked at anew: nothing that was answered counts. */
  forget(): void {
    for (const source of this.#sources.values()) source.close()
    this.#sources.clear()
    this.#bySpec = new WeakMap()
  }

  /** The engine ends. */
  stop(): void {
    for (const source of this.#sources.values()) source.stop()
    this.forget()
  }

  /** Called about once a second. */
  maintain(nowMs: number): void {
    for (const [key, source] of this.#sources) {
      source.maintain(nowMs)
      if (source.closed) this.#sources.delete(key)
    }
  }
}

/** Its clients are known to auth_query and not to the configuration. */
export function looksUp({ settings, clientSecret }: PoolSpec): boolean {
  const { authUser, authType } = settings
  return authUser !== '' && authType !== 'trust' && clientSecret.md5 === null && clientSecret.scram === null
}

function keyOf({ database, settings, hosts, authPassword, serverTls }: PoolSpec): string {
  const { authUser, authQuery, authDatabase, authQueryTimeoutMs, authQueryCacheTtlMs, serverTlsSslmode } = settings
  const digest = createHash('sha256')
    .update(authPassword ?? '')
    .digest('base64')
  const how = [authUser, digest, authQuery, authDatabase || database, authQueryTimeoutMs, authQueryCacheTtlMs]
  return JSON.stringify([hosts, ...how, serverTlsSslmode, settings.serverTlsNegotiation, serverTls ?? null])
}

/** One database that is asked as one role: its connections, the questions in line, and the answers that are believed. */
export class AuthSource {
  readonly context: Context
  readonly spec: PoolSpec
  readonly tls: TlsHold | null
  /** A reconnect derives nothing anew. */
  readonly saltedKeys: SaltedKeys = new Map()
  /** What it last knew of somebody: whoever is not known is asked in the same way. */
  like: ClientSecret | null = null
  readonly #connections = new Set<AuthConnection>()
  /** In line or on a connection, by user. */
  readonly #asked = new Map<string, Question>()
  readonly #line: Question[] = []
  readonly #answers = new Map<string, Answer>()
  #nextTarget = 0
  /** Connections that failed since one did not. */
  #failures = 0
  #usedAtMs = 0
  #loggedAtMs = -Infinity
  #closed = false

  constructor(context: Context, spec: PoolSpec) {
    this.context = context
    this.spec = spec
    this.tls = spec.serverTls === undefined ? null : context.tls.hold(spec.serverTls)
  }

  get closed(): boolean {
    return this.#closed
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
    const question = this.#asked.get(user) ?? this.#begin(user)
    question.waiting.add(wake)
    while (question.outcome === null) yield
    if (question.outcome === 'failed') throw new SqlError('connection_failure', cannotAsk)
    return question.outcome.secret
  }

  #begin(user: string): Question {
    const { io } = this.context
    const nowMs = io.nowMs()
    this.#usedAtMs = nowMs
    const question: Question = {
      user,
      askedAtMs: nowMs,
      waiting: new Set(),
      retried: false,
      connection: null,
      timer: null,
      outcome: null,
    }
    if (this.#line.length >= lineMax || this.#closed) {
      question.outcome = 'failed'
      return question
    }
    question.timer = io.after(this.spec.settings.authQueryTimeoutMs, () => {
      question.timer = null
      const { connection } = question
      this.failed(question, 'no answer within auth_query_timeout')
      connection?.close()
    })
    this.#asked.set(user, question)
    this.#line.push(question)
    this.dispatch()
    return question
  }

  /** Gives questions in line to connections that are free, and opens what is wanting. */
  dispatch(): void {
    let opening = 0
    for (const connection of this.#connections) {
      if (connection.ready && connection.question === null) {
        const question = this.#line.shift()
        if (question === undefined) break
        connection.ask(question)
      } else if (!connection.ready) opening++
    }
    while (opening++ < this.#line.length && this.#connections.size < connectionsMax) this.#open(false)
  }

  /** `secured` is for servers that have refused plaintext (`server_tls_sslmode = "allow"`). */
  #open(secured: boolean): void {
    const targets = targetsOf(this.spec)
    // A pool is prepared with at least one address.
    const target = targets[this.#nextTarget % targets.length]!
    this.#connections.add(new AuthConnection(this, target, secured))
  }

  /** A row, or that there is none: name and verifier of the user that was asked for. */
  answered(question: Question, name: string | null, verifier: string | null): void {
    const secret = name === null || verifier === null ? unknownUser : this.#secretOf(question, name, verifier)
    if (secret !== unknownUser) this.like = secret
    const answer: Answer = { secret, askedAtMs: question.askedAtMs }
    this.#answers.delete(question.user)
    this.#answers.set(question.user, answer)
    if (this.#answers.size > answersMax) {
      for (const oldest of this.#answers.keys()) {
        this.#answers.delete(oldest)
        break
      }
    }
    this.#settle(question, answer)
  }

  #secretOf(question: Question, name: string, verifier: string): ClientSecret {
    if (name !== question.user) {
      this.#log('auth_query gave another user than the one it was asked for')
      return unknownUser
    }
    const scram = readVerifier(verifier)
    if (scram !== undefined) return { md5: null, scram }
    if (passwordKind(verifier) === 'md5') return { md5: verifier, scram: null }
    this.#log('auth_query gave neither an md5 hash nor a SCRAM-SHA-256 verifier')
    return unknownUser
  }

  /** It cannot be answered; the reason is for operators. */
  failed(question: Question, reason: string): void {
    if (question.outcome !== null) return
    this.#log(`auth_query failed: ${reason}`)
    this.#settle(question, 'failed')
  }

  #settle(question: Question, outcome: Answer | 'failed'): void {
    question.timer?.cancel()
    question.timer = null
    question.outcome = outcome
    if (this.#asked.get(question.user) === question) this.#asked.delete(question.user)
    const at = this.#line.indexOf(question)
    if (at !== -1) this.#line.splice(at, 1)
    for (const wake of question.waiting) wake()
  }

  connected(): void {
    this.#failures = 0
    this.dispatch()
  }

  /** A connection has ended: with `reason` null as it should, before or after its login. */
  ended(connection: AuthConnection, reason: string | null, plaintextRefused: boolean): void {
    this.#connections.delete(connection)
    const { question } = connection
    if (question !== null && question.outcome === null) {
      // It may have been lost since it was last used, and is no reason to refuse anybody.
      if (!question.retried && connection.reused) {
        question.retried = true
        question.connection = null
        this.#line.unshift(question)
      } else this.failed(question, reason ?? 'the connection was lost')
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
    for (const connection of this.#connections) {
      if (connection.ready && connection.question === null) connection.close()
    }
  }

  stop(): void {
    for (const question of this.#asked.values()) this.#settle(question, 'failed')
    for (const connection of this.#connections) connection.close()
  }

  #releaseTls(): void {
    if (this.#connections.size === 0) this.tls?.release()
  }

  #log(message: string): void {
    const { io, post } = this.context
    const nowMs = io.nowMs()
    if (nowMs - this.#loggedAtMs < logEveryMs) return
    this.#loggedAtMs = nowMs
    const { pool, database, settings } = this.spec
    const fields = { pool, auth_user: settings.authUser, auth_database: settings.authDatabase || database }
    post({ type: 'log', level: 'warn', message, fields })
  }
}

const cannotAsk = 'the user cannot be looked up: auth_query failed'
