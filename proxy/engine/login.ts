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
import { proxyOf, secretBytesOf, workerOf } from './cancel/cancel.ts'
import type { AccessRules } from '../spec.ts'
import type { FailedLogins } from './auth/failed-logins.ts'
import type { EngineConsole } from './console.ts'
import { Client } from './pool/client.ts'
import type { Context } from './pool/context.ts'
import type { Pools } from './pool/pools.ts'
import type { TlsHold } from './wire/tls.ts'
import { Inbox } from './wire/conversation.ts'
import type { Conversation, Exchange } from './wire/conversation.ts'
import { clientLimits } from './pool/limits.ts'
import type { Pool } from './pool/pool.ts'
import { Parameters } from './session/parameters.ts'
import { replicationOf } from './session/replication.ts'
import type { Replication } from './session/replication.ts'
import { isConsole, route, serving } from './router.ts'

/** Longest message of an unauthenticated peer. */
const loginBytesMax = 10_000

/** The newest minor version of protocol 3 that is spoken: PostgreSQL 18's. */
const newestMinor = 2

/** Console sessions that are let in although `max_client_connections` is reached, for the operator who looks why. */
const consoleReserve = 8

/** What a login needs of the engine it is for. */
export interface LoginEngine {
  readonly context: Context
  readonly pools: Pools
  readonly logins: Set<Login>
  readonly failedLogins: FailedLogins
  readonly access: AccessRules
  /** Logins refused before a pool was known, by SQLSTATE. */
  readonly refused: Record<string, number>
  /** With what clients are offered TLS; null when they are not. */
  readonly clientTls: TlsHold | null
  /** Whom operators are handed to; null where there is no console. */
  readonly console: EngineConsole | null
  /** Nothing is accepted any more. */
  readonly closed: boolean
  cameByCancelSocket(socket: Socket): boolean
}

/** `placedLife`: in which life of this worker the client was counted for it; null when it was not. */
interface Handover {
  readonly placedLife: number | null
}

type Started = Extract<StartupPacket, { kind: 'startup' }>

/**
 * A connection from its first byte until it has proven who it is. Then it becomes a Client or a console session and
 * this object is forgotten.
 */
export class Login implements SocketEvents {
  readonly #engine: LoginEngine
  readonly #socket: Socket
  readonly #id: number
  /** Ends the login when it takes too long, or answers one that has failed. */
  #timer: Timer
  readonly #inbox = new Inbox()
  readonly #conversation: Conversation
  readonly #exchange: Exchange<void>
  /** Who speaks with the peer once the login is over. */
  #successor: SocketEvents | null = null
  #over = false
  readonly #wake = (): void => this.#resume()
  readonly #handed: Handover | null
  /** Where the packet that decides begins in the inbox. */
  #packetAt = 0
  /** As its startup packet says. */
  #named: { readonly database: string | null; readonly user: string | null } = { database: null, user: null }
  /** What the log says of a refusal and the peer must not read; null when there is nothing. */
  #untold: string | null = null
  /** It is counted among this pool's clients, by whose numbers workers are chosen. */
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
    // What follows the login in the same bytes is for whoever speaks now, or waits until RESUME.
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

  /** Where passwords are guessed, the answer comes later each time. */
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

  /** There is a configuration now: what waited for it is delivered again. */
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
    const { user, database, parameters, minor, replication } = this.#read(packet)
    this.#requireTls()
    this.#limit(database)
    const channel = this.#socket.tls?.serverEndPoint ?? null

    const { pools, context } = this.#engine
    if (!isConsole(database)) yield* this.#untilResumed(database, user)
    const target = route(pools, database, user)
    if (target.to === 'console') {
      const { console } = this.#engine
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
        channel,
      })
      const session = console.open({ socket: this.#socket, id: this.#id, user, parameters })
      this.#become(session)
      session.begin()
      return
    }

    const served = serving(target)
    // Which databases exist is told after a proof of identity only, as which users do.
    const exists = pools.hasDatabase(database)
    const serverSet = exists ? served : pools.elsewhere(user)
    if (!exists) this.#untold = noDatabaseText(database)
    if (exists && pools.isDisabled(database)) throw disabled(database)
    const lookup = this.#lookup(database, user)
    const found = yield* lookup.find()
    // Somebody who is not known is asked as the others are.
    const model = pools.modelOf(database)
    const settings = (serverSet ?? model)?.settings ?? usual
    const visitor = { database, user, replication, socket: this.#socket }
    const wallMs = context.io.wallMs()
    let secret = found ?? (serverSet === null ? unknownUser : secretAt(serverSet.spec.clientSecret, wallMs))
    let keys: ScramKeys | null = null
    let byFormer = false
    yield* authenticate(this.#conversation, {
      user,
      ...demandOf(visitor, settings, this.#engine.access, context.general),
      secret: serverSet === null ? unknownUser : secret,
      like: found === null ? (model === null ? null : secretAt(model.spec.clientSecret, wallMs)) : lookup.like,
      mockKey: context.mockKey,
      channel,
      again: function* () {
        const fresh = yield* lookup.again()
        secret = fresh ?? secret
        return serverSet === null ? null : fresh
      },
      proven: (scram, isFormer) => {
        keys = scram
        byFormer = isFormer
      },
    })
    // Its server is opened at once. Others wait in line for one.
    if (replication !== null) yield* pools.resumed(database, this.#wake)
    // The configuration may have changed during the exchange, and others may have come in.
    const now = route(pools, database, user)
    this.#untold = null
    if (served === null || serving(now) === null) throw noDatabase(database)
    if (pools.isDisabled(database)) throw disabled(database)
    this.#limit(database)
    const pool = now.to === 'pool' ? now.pool : pools.make(database, user)
    if (pool === null) throw new SqlError('too_many_connections', 'too many pools for "*" (max_dynamic_pools)')
    const refusal = context.limits.refusal(pool)
    if (refusal !== null) throw new SqlError('too_many_connections', refusal)
    pool.learn({ md5: secret.md5, scram: keys }, byFormer)
    const client = new Client(context, pool, this.#socket, this.#id, parameters, secretBytesOf(minor))
    client.replication = replication
    this.#placedPool ??= this.#placedAnew(pool)
    // The client counts from now on.
    this.#placedPool = null
    this.#become(client)
    client.begin()
  }

  /** Its pool was made meanwhile, or has come into the configuration since a worker was looked for. */
  #placedAnew(pool: Pool): Pool {
    const { workers, counts } = this.#engine.context
    if (workers !== null) counts?.placeAt(pool, workers.self)
    return pool
  }

  /** A paused database is not asked about its users either: they wait, as its clients do. */
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
   * TLS at once, or requests for encryption, each at most once: TLS begins where it is offered, all else is declined.
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
            // Nothing is known of any database yet: see `configured`.
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
    // Sent ahead of the answer, so it was not encrypted, and anybody on the way could have put it there.
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

  /** PostgreSQL 17's `sslnegotiation=direct`: the first bytes are those of a TLS handshake. */
  *#directTls(): Exchange<void> {
    const tls = isUnix(this.#socket.remote) ? null : this.#engine.clientTls
    if (tls === null) throw new SqlError('protocol_violation', 'TLS is not enabled (client_tls_sslmode)')
    const { bytes, start, end } = this.#inbox
    this.#socket.startTls(tls.context, { received: bytes.subarray(start, end) })
    this.#inbox.advanceTo(end)
    while (this.#socket.tls === null) yield
    // Without it, what speaks could be a browser that was lured here with bytes of somebody else's.
    if (this.#socket.tls.alpn === null) {
      throw new SqlError('protocol_violation', 'received direct TLS connection without ALPN protocol "postgresql"')
    }
  }

  #requireTls(): void {
    const { clientTlsSslmode: mode } = this.#engine.context.general
    if (mode === 'disable' || mode === 'allow' || mode === 'prefer') return
    // Nobody is on the way, so PostgreSQL does not offer TLS there either.
    if (isUnix(this.#socket.remote)) return
    if (this.#socket.tls === null) {
      throw new SqlError('invalid_authorization_specification', 'TLS is required (client_tls_sslmode)')
    }
  }

  /** Of the certificate, for the console; for databases a map may lead to another name. */
  #requireName(user: string): void {
    const { clientTlsSslmode: mode } = this.#engine.context.general
    if (isUnix(this.#socket.remote)) return
    if (mode === 'verify-full' && this.#socket.tls?.peerName !== user) throw otherName(user)
  }

  /** The worker that has to go on with this connection; null for this one. */
  #workerFor(packet: Extract<StartupPacket, { kind: 'startup' | 'cancel' }>): number | null {
    const { pools, context } = this.#engine
    const { workers, counts } = context
    if (workers === null || counts === null) return null
    const other = (worker: number): number | null =>
      this.#handed !== null || worker === workers.self || worker >= workers.count ? null : worker
    // What names another proxy is passed on from here.
    if (packet.kind === 'cancel') return context.cancels.isOwn(proxyOf(packet.pid)) ? other(workerOf(packet.pid)) : null
    const given = new Map(packet.parameters)
    const user = given.get('user') ?? ''
    const database = given.get('database') || user
    if (this.#handed?.placedLife === workers.counters.life(workers.self)) {
      // The pool may have left the configuration since, or not have come into it here.
      this.#placedPool = pools.find(database, user)
      if (this.#placedPool === null) counts.unplaceUnknown(database, user)
      return null
    }
    const target = route(pools, database, user)
    if (this.#handed !== null) {
      // This worker has died since, or the pool was made here meanwhile.
      if (target.to === 'pool') this.#placedPool = this.#placedAnew(target.pool)
      return null
    }
    if (target.to === 'wildcard') {
      return this.#engine.closed ? null : other(pools.workerFor(target.template, database, user, workers.count))
    }
    if (target.to !== 'pool') return null
    const { pool } = target
    // While this process is left, other workers may have ended already.
    // Connections for replication are counted by one of them.
    const sole = pool.worker ?? (given.has('replication') ? 0 : null)
    const chosen = this.#engine.closed ? workers.self : sole
    const placed = chosen ?? counts.place(pool)
    if (chosen !== null) counts.placeAt(pool, chosen)
    const worker = other(placed)
    if (worker === null) this.#placedPool = pool
    else this.#placedLife = workers.counters.life(worker)
    return worker
  }

  /** Gives the connection to another worker, which reads the startup packet again. */
  *#handOver(worker: number): Exchange<boolean> {
    const { bytes, end } = this.#inbox
    const unread = Uint8Array.from(bytes.subarray(this.#packetAt, end))
    this.#inbox.advanceTo(end)
    // What was sent to ask for encryption may still be queued.
    while (this.#engine.context.workers?.handOver(this.#socket, worker, unread, this.#placedLife) === false) {
      this.#socket.pauseReading()
      yield
    }
    this.#finish()
    return true
  }

  #cancel(pid: number, secret: Uint8Array): void {
    this.#finish()
    // Held open until it was passed on, so that the requester knows when it is.
    this.#engine.context.cancels.take({ pid, secret }, this.#socket.tls !== null, () => this.#socket.close())
  }

  #read(packet: Started): {
    user: string
    database: string
    parameters: Parameters
    minor: number
    replication: Replication | null
  } {
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

/** How somebody is asked in a database where nobody has to prove anything. */
const usual = { authType: 'scram-sha-256', authIdentMap: '' } as const

function noDatabase(database: string): SqlError {
  return new SqlError('invalid_catalog_name', noDatabaseText(database))
}

function noDatabaseText(database: string): string {
  return `database "${database}" does not exist`
}

function disabled(database: string): SqlError {
  return new SqlError('object_not_in_prerequisite_state', `database does not allow connections: ${database}`)
}

const declineEncryption = Buffer.from('N')
const acceptEncryption = Buffer.from('S')

/** ContentType of a TLS record that belongs to a handshake (RFC 8446, 5.1): no startup packet begins so. */
const tlsHandshake = 0x16
