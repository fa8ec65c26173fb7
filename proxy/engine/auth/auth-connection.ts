import type { AuthQuerySettings } from '../../../shared/config/settings.ts'
import { SqlError } from '../../../shared/errors.ts'
import type { Address, CloseCause, Io, Socket, SocketEvents, Timer } from '../../io/io.ts'
import { errorFields, int16, int32, isFatal, text } from '../../protocol/read.ts'
import { BackendTag } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { Inbox } from '../../protocol/framing.ts'
import { nextMessage } from '../wire/conversation.ts'
import type { Message } from '../../protocol/framing.ts'
import type { Conversation, Exchange } from '../wire/conversation.ts'
import type { FromEngine } from '../../port.ts'
import { newServerId } from '../workers/workers.ts'
import type { Workers } from '../workers/workers.ts'
import { tcpOptionsOf } from '../pool/target.ts'
import type { Target } from '../pool/target.ts'
import { TlsRefused } from '../wire/tls.ts'
import type { TlsContexts, TlsHold } from '../wire/tls.ts'
import type { ClientSecret, PoolSpec } from '../../spec.ts'
import type { SaltedKeys } from './scram.ts'
import { LoginRefused } from './server-login.ts'
import { ServerSession } from './server-session.ts'

/** Longest message of a login or result. */
const messageBytesMax = 65_000

/** As shown by PostgreSQL and the console. */
export const authQueryName = 'flotilla auth_query'

/** Answer of auth_query for a user: `unknownUser` if no such user can log in with a password. */
export interface Answer {
  readonly secret: ClientSecret
  /** The answer is not older than this. */
  readonly askedAtMs: number
}

/** A query, and the logins that wait for its answer. */
export interface UserQuery {
  readonly user: string
  readonly askedAtMs: number
  readonly waiting: Set<() => void>
  /** It was sent on a connection that was lost before it answered. */
  retried: boolean
  connection: AuthConnection | null
  timer: Timer | null
  outcome: Answer | 'failed' | null
}

export interface AuthContext {
  readonly io: Io
  readonly post: (message: FromEngine) => void
  readonly tls: TlsContexts
  readonly workers: Workers | null
}

/** Part of a pool's specification that a source depends on: what is in its key. */
export type AuthSpec = Pick<PoolSpec, 'database' | 'serverDatabase' | 'hosts' | 'authPassword' | 'serverTls'> & {
  readonly settings: AuthQuerySettings
}

/** The user of a connection. */
export interface ConnectionSource {
  readonly context: AuthContext
  readonly spec: AuthSpec
  readonly tls: TlsHold | null
  readonly saltedKeys: SaltedKeys
  readonly database: string
  readonly closed: boolean
  connected(): void
  /** A row, or its absence: name and verifier of the user. */
  answered(query: UserQuery, name: string | null, verifier: string | null): void
  /** The query failed; the reason is for operators. */
  failed(query: UserQuery, reason: string): void
  dispatch(): void
  /**
   * The connection has closed: with `reason` null in order, before or after its login. `sqlstate` is that of a login that
   * the server has refused.
   */
  ended(connection: AuthConnection, reason: string | null, sqlstate: string | null): void
}

/** A connection that runs auth_query, one query after the other. */
export class AuthConnection implements SocketEvents {
  /** It has logged in. */
  ready = false
  /** It has answered before. */
  reused = false
  /** The query in progress. */
  query: UserQuery | null = null
  readonly id: number
  readonly source: ConnectionSource
  readonly target: Target
  socket: Socket
  readonly connectedAtMs: number
  requestedAtMs: number
  /** 0 before the login. */
  backendPid = 0
  readonly #session: ServerSession
  readonly #timer: Timer
  readonly #inbox = new Inbox()
  readonly #conversation: Conversation
  #exchange: Exchange<void>
  #over = false

  constructor(source: ConnectionSource, target: Target) {
    const { io } = source.context
    const { settings } = source.spec
    this.id = newServerId(source.context.workers)
    this.source = source
    this.target = target
    this.connectedAtMs = io.nowMs()
    this.requestedAtMs = this.connectedAtMs
    this.#session = new ServerSession(this.#address, settings.serverTlsSslmode)
    this.#timer = io.after(Math.min(settings.connectTimeoutMs, settings.authQueryTimeoutMs), () => {
      this.#end('login did not complete within connect_timeout or auth_query_timeout')
    })
    this.#conversation = {
      take: () => this.#inbox.take(messageBytesMax),
      send: (bytes) => this.#write(bytes),
      random: (bytes) => io.random(bytes),
    }
    this.#exchange = this.#run()
    this.socket = this.#connect()
  }

  #connect(): Socket {
    const { context, spec } = this.source
    return context.io.connect(this.#address, tcpOptionsOf(spec.settings), this)
  }

  get #address(): Address {
    return { host: this.target.address, port: this.target.host.port }
  }

  onConnect(): void {
    this.#resume()
  }

  onSecured(): void {
    this.#resume()
  }

  onData(bytes: Uint8Array, start: number, end: number): number {
    const { socket } = this
    this.#inbox.open(bytes, start, end)
    this.#resume()
    const next = this.#inbox.start
    this.#inbox.close()
    // Nothing of a former connection is left to be handled.
    return this.#over || this.socket !== socket ? end : next
  }

  onDrain(): void {}

  onClose(cause: CloseCause): void {
    const reason = cause.reason ?? cause.errno ?? cause.kind
    this.#end(`connection to ${this.target.host.host} port ${this.target.host.port} lost: ${reason}`)
  }

  /** Runs a query on a connection that has logged in and is idle. */
  ask(query: UserQuery): void {
    this.query = query
    query.connection = this
    this.requestedAtMs = this.source.context.io.nowMs()
    this.#write(write.extendedQuery(this.source.spec.settings.authQuery, [query.user]))
  }

  /** Closes at once: a query in progress is ended by statement_timeout. */
  close(): void {
    this.#end(null)
  }

  #write(bytes: Uint8Array): void {
    this.socket.send(bytes, 0, bytes.length)
  }

  #resume(): void {
    if (this.#over) return
    try {
      this.#exchange.next()
    } catch (error) {
      if (this.#session.turnsToTls(error)) {
        this.socket.close()
        this.#exchange = this.#run()
        this.socket = this.#connect()
      } else if (error instanceof LoginRefused || error instanceof SqlError || error instanceof TlsRefused) {
        this.#end(error.message, error instanceof LoginRefused ? error.sqlstate : null)
      } else throw error
    }
  }

  *#run(): Exchange<void> {
    const { spec, tls } = this.source
    const { settings } = spec
    const { host } = this.target.host
    const wire = { socket: this.socket, inbox: this.#inbox, conversation: this.#conversation }
    const how = tls === null ? null : { context: tls.context, settings, host }
    const { backendKey } = yield* this.#session.begin(wire, how, {
      user: settings.authUser,
      database: settings.authDatabase || spec.serverDatabase,
      password: spec.authPassword || null,
      // They override the settings of role and database, so neither can put another schema first.
      parameters: {
        search_path: 'pg_catalog',
        client_encoding: 'UTF8',
        statement_timeout: String(Math.ceil(settings.authQueryTimeoutMs)),
        application_name: authQueryName,
      },
      saltedKeys: this.source.saltedKeys,
    })
    this.#timer.cancel()
    this.ready = true
    this.backendPid = backendKey?.pid ?? 0
    this.source.connected()
    while (!this.source.closed || this.query !== null) yield* this.#answer()
    this.#end(null)
  }

  /** Reads up to the ReadyForQuery that ends the query; unsolicited messages are skipped. */
  *#answer(): Exchange<void> {
    const rows: Row[] = []
    let failure: string | null = null
    for (;;) {
      const message = yield* nextMessage(this.#conversation)
      switch (message.tag) {
        case BackendTag.DataRow:
          // A second row is an error; further ones are not kept.
          if (rows.length < 2) rows.push(rowOf(message))
          break
        case BackendTag.ErrorResponse: {
          const { severity, code, message: said } = errorFields(message.bytes, message.start, message.end)
          failure ??= `${code} ${said}`
          if (isFatal(severity)) throw new SqlError('connection_failure', failure)
          break
        }
        case BackendTag.ReadyForQuery:
          this.#conclude(rows, failure)
          return
        default:
          break
      }
    }
  }

  #conclude(rows: readonly Row[], failure: string | null): void {
    const { query } = this
    this.query = null
    this.reused = true
    if (query === null) return
    const [row] = rows
    if (failure !== null) this.source.failed(query, failure)
    else if (rows.length > 1) this.source.failed(query, 'it returned more than one row')
    else if (row !== undefined && row.count < 2) this.source.failed(query, 'it returned fewer than two columns')
    else this.source.answered(query, row?.name ?? null, row?.verifier ?? null)
    this.source.dispatch()
  }

  /** `reason` is null for an orderly end. */
  #end(reason: string | null, sqlstate: string | null = null): void {
    if (this.#over) return
    this.#over = true
    this.#timer.cancel()
    if (this.ready && reason === null) {
      this.#write(write.terminate())
      this.socket.end()
    } else this.socket.close()
    this.source.ended(this, reason, sqlstate)
  }
}

/** State as in SHOW SERVERS. */
export function authState({ ready, query }: AuthConnection): 'new' | 'idle' | 'active' {
  if (!ready) return 'new'
  return query === null ? 'idle' : 'active'
}

interface Row {
  readonly count: number
  readonly name: string | null
  readonly verifier: string | null
}

/** DataRow: Int16 count, { Int32 length or -1 for null, bytes } …, in text format. */
function rowOf({ bytes, start, end }: Message): Row {
  const count = int16(bytes, start)
  const values: (string | null)[] = []
  let at = start + 2
  for (let index = 0; index < Math.min(count, 2); index++) {
    const length = int32(bytes, at)
    const from = at + 4
    at = from + Math.max(0, length)
    if (at > end) throw new SqlError('protocol_violation', 'malformed DataRow')
    values.push(length < 0 ? null : text(bytes, from, at))
  }
  return { count, name: values[0] ?? null, verifier: values[1] ?? null }
}
