import { wildcard } from '../../shared/config/wildcard.ts'
import { SqlError, sqlstates } from '../../shared/errors.ts'
import { isUnix } from '../io/io.ts'
import type { Socket, SocketEvents, Timer } from '../io/io.ts'
import { parseOptions } from '../protocol/options.ts'
import { parseStartup } from '../protocol/startup.ts'
import type { StartupPacket } from '../protocol/startup.ts'
import * as write from '../protocol/write.ts'
import { demandOf, otherName } from './auth/access.ts'
import { Lookup } from './auth/lookup.ts'
import { authenticate, secretAt, unknownUser } from './auth/methods.ts'
import type { ScramKeys } from './auth/scram.ts'
import type { ServerKeys } from './auth/server-login.ts'
import { proxyOf, secretBytesOf, workerOf } from './cancel/cancel.ts'
import type { AccessRules, UnpreparedPool } from '../spec.ts'
import type { FailedLogins } from './auth/failed-logins.ts'
import type { EngineConsole } from './console.ts'
import { Client } from './pool/client.ts'
import type { Context } from './pool/context.ts'
import type { Pools } from './pool/pools.ts'
import type { PoolSpec } from '../spec.ts'
import type { TlsHold } from './wire/tls.ts'
import { Inbox } from '../protocol/framing.ts'
import type { Conversation, Exchange } from './wire/conversation.ts'
import { clientLimits } from './pool/limits.ts'
import type { Pool } from './pool/pool.ts'
import { Parameters } from './session/parameters.ts'
import { replicationOf } from './session/replication.ts'
import type { Replication } from './session/replication.ts'
import { isConsole, route, serving } from './router.ts'

/** Longest message of an unauthenticated peer. */
const loginBytesMax = 10_000

/** Newest supported minor version of protocol 3: PostgreSQL 18's. */
const newestMinor = 2

/** Console sessions admitted beyond `max_client_connections`, for an operator who investigates. */
const consoleReserve = 8

/** What a login needs of its engine. */
export interface LoginEngine {
  readonly context: Context
  readonly pools: Pools
  readonly logins: Set<Login>
  readonly failedLogins: FailedLogins
  readonly access: AccessRules
  /** Pools that could not be prepared. */
  readonly unprepared: readonly UnpreparedPool[]
  /** Logins refused before a pool was known, by SQLSTATE. */
  readonly refused: Record<string, number>
  /** TLS context for clients; null without TLS. */
  readonly clientTls: TlsHold | null
  /** The console for operators; null without one. */
  readonly console: EngineConsole | null
  /** No more connections are accepted. */
  readonly closed: boolean
  cameByCancelSocket(socket: Socket): boolean
}

/** `placedLife`: the life of this worker in which the client was counted for it; null if it was not. */
interface Handover {
  readonly placedLife: number | null
}

type Started = Extract<StartupPacket, { kind: 'startup' }>

/** From the startup packet. */
interface LoginRequest {
  readonly user: string
  readonly database: string
  readonly parameters: Parameters
  /** Minor version of protocol 3. */
  readonly minor: number
  readonly replication: Replication | null
}

/** What the client has proven to know: by it servers can be opened for it. */
interface Proof extends ServerKeys {
  /** By a former password of the user. */
  readonly byFormer: boolean
}

/**
 * A connection from its first byte until it has authenticated. Then it becomes a Client or a console session, and this
 * object is dropped.
 */
export class Login implements SocketEvents {
  readonly #engine: LoginEngine
  readonly #socket: Socket
  readonly #id: number
  /** Ends the login after the timeout, or sends a delayed error. */
  #timer: Timer
  readonly #inbox = new Inbox()
  readonly #conversation: Conversation
  readonly #exchange: Exchange<void>
  /** Handles the connection after the login. */
  #successor: SocketEvents | null = null
  #over = false
  readonly #wake = (): void => this.#resume()
  readonly #handed: Handover | null
  /** Offset in the inbox of the packet that selects the worker. */
  #packetAt = 0
  /** From its startup packet. */
  #named: { readonly database: string | null; readonly user: string | null } = { database: null, user: null }
  /** Details of an error for the log only; null without any. */
  #untold: string | null = null
  /** The pool for which it is counted, to choose workers by the number of clients. */
  #placedPool: Pool | null = null
  /** The life of the worker for which it was counted. */
  #placedLife: number | null = null

  /** `handed`: another worker has read its startup packet, which comes again. */
  constructor(engine: LoginEngine, socket: Socket, id: number, handed: Handover | null = null) {
    this.#handed = handed
    this.#engine = engine
    this.#socket = socket
    this.#id = id
    const { io, general } = engine.context
    this.#timer = io.after(general.clientLoginTimeoutMs, () => {
      this.fatal(sqlstates.query_canceled, 'canceling authentication due to timeout (client_login_timeout)')
    })
    this.#conversation = {
      take: () => this.#inbox.take(loginBytesMax),
      send: (bytes) => this.#write(bytes),
      random: (bytes) => io.random(bytes),
    }
    this.#exchange = this.#run()
    engine.logins.add(this)
  }

  onConnect(): void {}

  onData(bytes: Uint8Array, start: number, end: number): number {
    this.#inbox.open(bytes, start, end)
    this.#resume()
    const next = this.#inbox.start
    this.#inbox.close()
    // Bytes after the login are for the successor, or wait until RESUME.
    const successor = this.#successor
    if (successor instanceof Client && this.#engine.context.suspended) return next
    if (successor !== null) return successor.onData(bytes, next, end)
    return this.#over ? end : next
  }

  onDrain(): void {
    if (!this.#over) this.#resume()
  }

  onSecured(): void {
    this.#resume()
  }

  onClose(): void {
    this.#finish()
  }

  #resume(): void {
    if (this.#over) return
    try {
      this.#exchange.next()
    } catch (error) {
      if (!(error instanceof SqlError)) throw error
      if (error.sqlstate === sqlstates.invalid_password) this.#failed(error)
      else this.fatal(error.sqlstate, error.message)
    }
  }

  /** After repeated failures the answer is delayed. */
  #failed({ sqlstate, message }: SqlError): void {
    const { failedLogins, context } = this.#engine
    const delayMs = failedLogins.failed(this.#socket.remote.host, context.io.nowMs(), context.general)
    if (delayMs === 0) {
      this.fatal(sqlstate, message)
      return
    }
    this.#socket.pauseReading()
    this.#timer.cancel()
    this.#timer = context.io.after(delayMs, () => this.fatal(sqlstate, message))
  }

  #write(bytes: Uint8Array): void {
    this.#socket.send(bytes, 0, bytes.length)
  }

  /** There is a configuration now: waiting bytes are delivered again. */
  configured(): void {
    this.#socket.resumeReading()
  }

  fatal(sqlstate: string, message: string): void {
    if (this.#over) return
    this.#write(write.errorResponse({ severity: 'FATAL', code: sqlstate, message }))
    this.#refuse(sqlstate, message)
  }

  /** Ends the connection without an answer. */
  #refuse(sqlstate: string, message: string): void {
    const { refused, context } = this.#engine
    refused[sqlstate] = (refused[sqlstate] ?? 0) + 1
    const reason = this.#untold === null ? message : `${message} (${this.#untold})`
    context.refusals.login({ ...this.#named, from: this.#socket.remote }, sqlstate, reason)
    this.#finish()
    this.#socket.end()
  }

  #finish(): void {
    this.#over = true
    this.#timer.cancel()
    if (this.#placedPool !== null) this.#engine.context.counts?.unplace(this.#placedPool)
    this.#placedPool = null
    this.#engine.logins.delete(this)
    this.#engine.pools.heldUp.delete(this.#wake)
  }

  #become(successor: SocketEvents): void {
    this.#finish()
    this.#engine.failedLogins.succeeded(this.#socket.remote.host)
    this.#successor = successor
    this.#socket.events = successor
  }

  *#run(): Exchange<void> {
    const packet = yield* this.#startup()
    if (packet.kind === 'startup' && this.#engine.cameByCancelSocket(this.#socket)) {
      throw new SqlError('cannot_connect_now', 'only cancel requests are accepted here')
    }
    if (this.#engine.context.workers !== null) {
      const worker = this.#workerFor(packet)
      if (worker !== null && (yield* this.#handOver(worker))) return
    }
    if (packet.kind === 'cancel') {
      this.#cancel(packet.pid, packet.secret)
      return
    }
    const request = this.#read(packet)
    const { database, user } = request
    this.#requireTls()
    this.#limit(database)
    if (!isConsole(database)) yield* this.#untilResumed(database, user)
    const target = route(this.#engine.pools, database, user)
    if (target.to === 'console') yield* this.#openConsole(request)
    else yield* this.#joinPool(request, serving(target))
  }

  *#openConsole({ database, user, parameters, replication }: LoginRequest): Exchange<void> {
    const { console, context } = this.#engine
    if (console === null) throw noDatabase(database)
    if (replication !== null) throw new SqlError('feature_not_supported', 'the console does not support replication')
    const known = console.find(user)
    const secret = known === undefined ? unknownUser : known.clientSecret
    this.#requireName(user)
    yield* authenticate(this.#conversation, {
      user,
      method: secret === null ? 'trust' : 'scram-sha-256',
      secret,
      mockKey: context.mockKey,
      channel: this.#channel,
    })
    const session = console.open({ socket: this.#socket, id: this.#id, user, parameters })
    this.#become(session)
    session.begin()
  }

  /** Channel binding of its TLS connection; null without TLS. */
  get #channel(): Uint8Array | null {
    return this.#socket.tls?.serverEndPoint ?? null
  }

  /** `served`: the configuration that its database and user have, before it has authenticated. */
  *#joinPool(request: LoginRequest, served: PoolSpec | null): Exchange<void> {
    const { database, replication } = request
    const proof = yield* this.#authenticate(request, served)
    // Its server is opened at once. Other clients wait in line for one.
    if (replication !== null) yield* this.#engine.pools.resumed(database, this.#wake)
    this.#untold = null
    if (served === null) throw noDatabase(database)
    this.#admit(request, proof)
  }

  *#authenticate({ database, user, replication }: LoginRequest, served: PoolSpec | null): Exchange<Proof> {
    const { pools, context, access } = this.#engine
    // Which databases exist is told only after authentication, as for users.
    const exists = pools.hasDatabase(database)
    const lacks = this.#lack(database, user, exists && served !== null)
    if (lacks !== null) throw unprepared(database, lacks)
    const spec = exists ? served : pools.elsewhere(user)
    if (!exists) this.#untold = noDatabaseText(database)
    if (exists && pools.isDisabled(database)) throw disabled(database)
    const lookup = this.#lookup(database, user)
    const found = yield* lookup.find()
    // An unknown user is challenged like the others.
    const model = pools.modelOf(database)
    const settings = (spec ?? model)?.settings ?? usual
    const visitor = { database, user, replication, socket: this.#socket }
    const wallMs = context.io.wallMs()
    let secret = found ?? (spec === null ? unknownUser : secretAt(spec.clientSecret, wallMs))
    let keys: ScramKeys | null = null
    let byFormer = false
    yield* authenticate(this.#conversation, {
      user,
      ...demandOf(visitor, settings, access, context.general),
      secret: spec === null ? unknownUser : secret,
      like: found === null ? (model === null ? null : secretAt(model.clientSecret, wallMs)) : lookup.like,
      mockKey: context.mockKey,
      channel: this.#channel,
      again: function* () {
        const fresh = yield* lookup.again()
        secret = fresh ?? secret
        return spec === null ? null : fresh
      },
      proven: (scram, isFormer) => {
        keys = scram
        byFormer = isFormer
      },
    })
    return { md5: secret.md5, scram: keys, byFormer }
  }

  /** Why the pool of this user could not be prepared; null if there is none such. */
  #lack(database: string, user: string, isServed: boolean): string | null {
    const { unprepared, pools } = this.#engine
    for (const { database: one, user: other, code } of unprepared) {
      if (one === database && other === user) return code
      if (isServed) continue
      const isDatabase = one === database || (one === wildcard && !pools.hasDatabase(database))
      if (isDatabase && (other === user || other === wildcard)) return code
    }
    return null
  }

  /**
   * It becomes a client. The configuration may have changed while it authenticated, and other clients may have been
   * admitted.
   */
  #admit({ database, user, parameters, minor, replication }: LoginRequest, { md5, scram, byFormer }: Proof): void {
    const { pools, context } = this.#engine
    const now = route(pools, database, user)
    if (serving(now) === null) throw noDatabase(database)
    if (pools.isDisabled(database)) throw disabled(database)
    this.#limit(database)
    const pool = now.to === 'pool' ? now.pool : pools.make(database, user)
    if (pool === null) throw new SqlError('too_many_connections', 'too many pools for "*" (max_dynamic_pools)')
    const refusal = context.limits.refusal(pool)
    if (refusal !== null) throw new SqlError('too_many_connections', refusal)
    pool.learn({ md5, scram }, byFormer)
    const client = new Client(pool, this.#socket, {
      id: this.#id,
      parameters,
      replication,
      secretBytes: secretBytesOf(minor),
    })
    this.#placedPool ??= this.#placedAnew(pool)
    // The client counts from now on.
    this.#placedPool = null
    this.#become(client)
    client.begin()
  }

  /** Its pool was created meanwhile, or was added to the configuration after a worker was chosen. */
  #placedAnew(pool: Pool): Pool {
    const { workers, counts } = this.#engine.context
    if (workers !== null) counts?.placeAt(pool, workers.self)
    return pool
  }

  /** A paused database is not queried for its users either: they wait, like its clients. */
  *#untilResumed(database: string, user: string): Exchange<void> {
    const { pools } = this.#engine
    const spec = pools.askedAbout(database, user)
    if (spec !== null) yield* pools.resumed(database, this.#wake)
  }

  #lookup(database: string, user: string): Lookup {
    const { pools } = this.#engine
    const spec = pools.askedAbout(database, user)
    const source = spec === null ? null : pools.authQueries.sourceOf(spec)
    return new Lookup(source, user, this.#socket, this.#wake)
  }

  /**
   * Direct TLS, or requests for encryption, each at most once: TLS is accepted if enabled, everything else is declined.
   * Then comes the startup packet or a cancel request.
   */
  *#startup(): Exchange<Extract<StartupPacket, { kind: 'startup' | 'cancel' }>> {
    const asked = new Set<string>()
    while (this.#inbox.start === this.#inbox.end) yield
    if (this.#inbox.bytes[this.#inbox.start] === tlsHandshake) yield* this.#directTls()
    for (;;) {
      const packet = parseStartup(this.#inbox.bytes, this.#inbox.start, this.#inbox.end)
      switch (packet.kind) {
        case 'incomplete':
          yield
          break
        case 'invalid':
          if (packet.told) throw new SqlError('protocol_violation', packet.reason)
          this.#refuse(sqlstates.protocol_violation, packet.reason)
          yield
          break
        case 'ssl':
        case 'gss':
          if (asked.has(packet.kind) || this.#socket.tls !== null) {
            throw new SqlError('protocol_violation', 'encryption was requested twice')
          }
          asked.add(packet.kind)
          this.#inbox.advanceTo(packet.end)
          yield* this.#answerEncryption(packet.kind)
          break
        case 'cancel':
        case 'startup':
          if (packet.kind === 'startup' && this.#engine.pools.running === null) {
            // No database is known yet: see `configured`.
            this.#socket.pauseReading()
            yield
            break
          }
          this.#packetAt = this.#inbox.start
          this.#inbox.advanceTo(packet.end)
          return packet
        default:
          packet satisfies never
      }
    }
  }

  *#answerEncryption(kind: 'ssl' | 'gss'): Exchange<void> {
    // Sent ahead of the answer, so it was not encrypted, and an attacker on the network could have sent it.
    if (this.#inbox.start < this.#inbox.end) {
      throw new SqlError('protocol_violation', `received unencrypted data after ${kind.toUpperCase()} request`)
    }
    const tls = kind === 'ssl' && !isUnix(this.#socket.remote) ? this.#engine.clientTls : null
    if (tls === null) {
      this.#write(declineEncryption)
      return
    }
    this.#write(acceptEncryption)
    this.#socket.startTls(tls.context, {})
    while (this.#socket.tls === null) yield
  }

  /** PostgreSQL 17's `sslnegotiation=direct`: the first bytes are a TLS handshake. */
  *#directTls(): Exchange<void> {
    const tls = isUnix(this.#socket.remote) ? null : this.#engine.clientTls
    if (tls === null) throw new SqlError('protocol_violation', 'TLS is not enabled (client_tls_sslmode)')
    const { bytes, start, end } = this.#inbox
    this.#socket.startTls(tls.context, { received: bytes.subarray(start, end) })
    this.#inbox.advanceTo(end)
    while (this.#socket.tls === null) yield
    // Without ALPN the peer could be a browser lured here with an attacker's bytes.
    if (this.#socket.tls.alpn === null) {
      throw new SqlError('protocol_violation', 'received direct TLS connection without ALPN protocol "postgresql"')
    }
  }

  #requireTls(): void {
    const { clientTlsSslmode: mode } = this.#engine.context.general
    if (mode === 'disable' || mode === 'allow' || mode === 'prefer') return
    // A Unix socket cannot be eavesdropped, so PostgreSQL does not offer TLS there either.
    if (isUnix(this.#socket.remote)) return
    if (this.#socket.tls === null) {
      throw new SqlError('invalid_authorization_specification', 'TLS is required (client_tls_sslmode)')
    }
  }

  /** Checks the certificate's name for the console; for databases a map may lead to another name. */
  #requireName(user: string): void {
    const { clientTlsSslmode: mode } = this.#engine.context.general
    if (isUnix(this.#socket.remote)) return
    if (mode === 'verify-full' && this.#socket.tls?.peerName !== user) throw otherName(user)
  }

  /** The worker that serves this connection; null for this one. */
  #workerFor(packet: Extract<StartupPacket, { kind: 'startup' | 'cancel' }>): number | null {
    const { pools, context } = this.#engine
    const { workers, counts } = context
    if (workers === null || counts === null) return null
    const other = (worker: number): number | null =>
      this.#handed !== null || worker === workers.self || worker >= workers.count ? null : worker
    // Requests that name another proxy are forwarded from here.
    if (packet.kind === 'cancel') return context.cancels.isOwn(proxyOf(packet.pid)) ? other(workerOf(packet.pid)) : null
    const given = new Map(packet.parameters)
    const user = given.get('user') ?? ''
    const database = given.get('database') || user
    if (this.#handed?.placedLife === workers.counters.life(workers.self)) {
      // The pool may have been removed from the configuration since, or not have been added here yet.
      this.#placedPool = pools.find(database, user)
      if (this.#placedPool === null) counts.unplaceUnknown(database, user)
      return null
    }
    const target = route(pools, database, user)
    if (this.#handed !== null) {
      // This worker has died since, or the pool was created here meanwhile.
      if (target.to === 'pool') this.#placedPool = this.#placedAnew(target.pool)
      return null
    }
    if (target.to === 'wildcard') {
      return this.#engine.closed ? null : other(pools.workerFor(target.template, database, user, workers.count))
    }
    if (target.to !== 'pool') return null
    const { pool } = target
    // While this process hands over, other workers may have exited already. Replication connections are counted by one
    // of them.
    const sole = pool.worker ?? (given.has('replication') ? 0 : null)
    const chosen = this.#engine.closed ? workers.self : sole
    const placed = chosen ?? counts.place(pool)
    if (chosen !== null) counts.placeAt(pool, chosen)
    const worker = other(placed)
    if (worker === null) this.#placedPool = pool
    else this.#placedLife = workers.counters.life(worker)
    return worker
  }

  /** Hands the connection to another worker, which reads the startup packet again. */
  *#handOver(worker: number): Exchange<boolean> {
    const { bytes, end } = this.#inbox
    const unread = Uint8Array.from(bytes.subarray(this.#packetAt, end))
    this.#inbox.advanceTo(end)
    // The answer to a request for encryption may still be queued.
    while (this.#engine.context.workers?.handOver(this.#socket, worker, unread, this.#placedLife) === false) {
      this.#socket.pauseReading()
      yield
    }
    this.#finish()
    return true
  }

  #cancel(pid: number, secret: Uint8Array): void {
    this.#finish()
    // Held open until the request was forwarded, so that the requester knows when it is.
    this.#engine.context.cancels.take({ pid, secret }, this.#socket.tls !== null, () => this.#socket.close())
  }

  #read(packet: Started): LoginRequest {
    if (packet.major !== 3) {
      throw new SqlError(
        'feature_not_supported',
        `unsupported frontend protocol ${packet.major}.${packet.minor}: server supports 3.0 to 3.${newestMinor}`,
      )
    }
    const minor = Math.min(packet.minor, newestMinor)
    if (packet.minor > newestMinor || packet.protocolOptions.length > 0) {
      this.#write(write.negotiateProtocolVersion(minor, packet.protocolOptions))
    }
    const given = new Map(packet.parameters)
    const user = given.get('user') ?? ''
    if (user === '') {
      throw new SqlError('invalid_authorization_specification', 'no PostgreSQL user name specified in startup packet')
    }
    const database = given.get('database') || user
    this.#named = { database, user }
    const replication = replicationOf(given)
    const options = parseOptions(given.get('options') ?? '')
    for (const name of ['user', 'database', 'replication', 'options']) given.delete(name)
    return { user, database, parameters: Parameters.of([...options, ...given]), minor, replication }
  }

  #limit(database: string): void {
    const { context } = this.#engine
    const limit = context.general.maxClientConnections
    const allowance = isConsole(database) ? consoleReserve : 0
    if ((context.counts?.clients ?? context.clients.size) >= limit + allowance) {
      throw new SqlError('too_many_connections', clientLimits.process)
    }
  }
}

/** Default challenge in a database whose users are all trusted. */
const usual = { authType: 'scram-sha-256', authIdentMap: '' } as const

function noDatabase(database: string): SqlError {
  return new SqlError('invalid_catalog_name', noDatabaseText(database))
}

function noDatabaseText(database: string): string {
  return `database "${database}" does not exist`
}

function unprepared(database: string, code: string): SqlError {
  return new SqlError(
    'cannot_connect_now',
    `database is not available: ${database}: the proxy could not prepare its configuration (${code})`,
  )
}

function disabled(database: string): SqlError {
  return new SqlError('object_not_in_prerequisite_state', `database does not allow connections: ${database}`)
}

const declineEncryption = Buffer.from('N')
const acceptEncryption = Buffer.from('S')

/** ContentType of a TLS record with a handshake (RFC 8446, 5.1): no startup packet begins with it. */
const tlsHandshake = 0x16
