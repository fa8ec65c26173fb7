import assert from 'node:assert/strict'
import type { Cause, ServerStateName } from '../../../shared/causes.ts'
import { causes } from '../../../shared/causes.ts'
import { SqlError, sqlstates } from '../../../shared/errors.ts'
import type { Address, CloseCause, Socket, SocketEvents, TcpOptions, Timer } from '../../io/io.ts'
import { errorFields, isFatal, parameterStatus } from '../../protocol/read.ts'
import { BackendTag, TransactionStatus } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { LoginRefused } from '../auth/server-login.ts'
import { ServerSession } from '../auth/server-session.ts'
import type { CancelKey } from '../cancel/cancel-request.ts'
import type { Client } from './client.ts'
import { causeOf } from './close-cause.ts'
import { Inbox } from '../../protocol/framing.ts'
import type { Message } from '../../protocol/framing.ts'
import type { Conversation, Exchange } from '../wire/conversation.ts'
import { newServerId } from '../workers/workers.ts'
import { endRestoring, nameNotifier, noteParameter, serverData } from './replies.ts'
import { askSettings, discardAll, queryKept, readToEnd, reset, run, setParameters, setStartup } from './exchanges.ts'
import type { Failure } from './exchanges.ts'
import { part } from './link.ts'
import type { List, Listed } from './list.ts'
import { Outstanding } from '../session/outstanding.ts'
import { Learning } from '../session/learning.ts'
import type { Learned } from '../session/learning.ts'
import { adjustment, Parameters } from '../session/parameters.ts'
import type { Adjustment } from '../session/parameters.ts'
import { textOf } from './server-set.ts'
import type { ServerSet } from './server-set.ts'
import type { Target } from './target.ts'
import { ServerStatements } from '../session/prepared.ts'
import type { Replication } from '../session/replication.ts'
import { TlsRefused } from '../wire/tls.ts'
import { ServerUnnamed } from '../session/unnamed.ts'
import { Kept, resetSession, resetSettings, unseenChange } from '../session/session-state.ts'
import type { Signs } from '../session/session-state.ts'
import type { SettingsChange } from '../session/settings-text.ts'
import { SettingsWatch } from '../session/settings-watch.ts'
import type { StartupValues } from '../session/settings-watch.ts'

/** Longest message of a login, reset or parameter exchange. */
const exchangeBytesMax = 65_000

export interface ClosedDetails {
  readonly errno?: string | null
  readonly sqlstate?: string | null
  readonly message?: string | null
}

/** The server's last message. */
interface FatalError {
  readonly sqlstate: string
  readonly message: string
  readonly forwarded: boolean
}

/** One connection to PostgreSQL, from connect to its one cause of ending. */
export class Server implements SocketEvents, Listed<Server> {
  list: List<Server> | null = null
  previous: Server | null = null
  next: Server | null = null

  readonly serverSet: ServerSet
  readonly target: Target
  socket: Socket
  readonly id: number
  readonly connectedAtMs: number
  /** When it became idle; valid in the list `idle`. */
  idleSinceMs = 0
  /** The client it is joined with; set by `join` and `part`. */
  readonly client: Client | null = null
  /** It was opened for that client alone. */
  readonly replication: Replication | null
  /** What the server owes that client. */
  readonly outstanding = new Outstanding()
  /** Remaining bytes of a long message. */
  passing = 0
  /** What the session has as its unnamed statement. */
  readonly unnamed = new ServerUnnamed()
  /** Prepared statements under our names; null before the first. */
  statements: ServerStatements | null = null
  /** ReadyForQuery's indicator: 'I', 'T' or 'E' as a character code. */
  status: number = TransactionStatus.Idle
  /** What the session may keep beyond its transaction, or keep no longer: bits of `Kept`, to be queried at its end. */
  suspect = 0
  /** What it keeps for its client. */
  kept = 0
  /** When it began to keep anything; valid while it does. */
  pinnedAtMs = 0
  /** What may have changed the settings of the session since they were last known. */
  readonly watch = new SettingsWatch()
  /** The open transaction has changed the schema. */
  #changesSchema = false
  /** Number of cancel requests on their way to it. */
  cancels = 0
  /** A cancel request timed out and may still arrive: no other client may have the server then. */
  cancelLost = false
  #leavesAddress = false
  /** An operator wants it replaced: it is closed when it becomes free, whatever else changes. */
  #retired = false
  backendKey: CancelKey | null = null
  /** What the session has set; that of its client, while it is joined with one and `watch` has seen nothing. */
  parameters = Parameters.none
  /** Custom parameters that its clients have mentioned: their names stay in its memory. Null for none. */
  custom: Set<string> | null = null
  /** With strict isolation: the transaction has executed code of the database, which may have left anything. */
  #used = false
  /** Parameters reported by the server: name in the server's spelling → value. */
  readonly reported = new Map<string, string>()
  /** Values at login, by lower-case name. */
  readonly initial = new Map<string, string>()
  /** The FATAL error with which the server ends the connection, and whether it was forwarded to its client. */
  get fatal(): FatalError | null {
    return this.#fatal
  }

  set fatal(fatal: FatalError) {
    this.#fatal = fatal
    this.outstanding.end()
  }
  /** For SHOW SERVERS: when its present or last client was joined. */
  requestedAtMs = 0
  /** Initialized with a number: after `undefined`, V8 would allocate for every value. */
  lastReceivedMs = 0
  /** Its client sent Terminate after its last request: PostgreSQL should get both. */
  #finishes = false
  #fatal: FatalError | null = null
  #exchange: Exchange<void> | null = null
  #loggedIn = false
  readonly #session: ServerSession
  #loginTimer: Timer | null
  #checkTimer: Timer | null = null
  readonly #inbox = new Inbox()
  readonly conversation: Conversation

  constructor(serverSet: ServerSet, target: Target, replication: Replication | null = null) {
    const { context } = serverSet.source
    this.serverSet = serverSet
    this.target = target
    this.replication = replication
    this.id = newServerId(context.workers)
    this.connectedAtMs = context.io.nowMs()
    this.lastReceivedMs = this.connectedAtMs
    this.conversation = {
      take: () => this.#inbox.take(exchangeBytesMax),
      send: (bytes) => this.write(bytes),
      random: (bytes) => context.io.random(bytes),
    }
    this.#loginTimer = context.io.after(serverSet.settings.connectTimeoutMs, () => {
      this.close('connect_timeout', {
        message: `login did not complete within ${serverSet.settings.connectTimeoutMs} ms`,
      })
    })
    const { serverTlsSslmode: mode } = serverSet.settings
    assert(mode === 'disable' || serverSet.tls !== null, 'a server set with TLS has a TLS context')
    this.#session = new ServerSession(this.#address, mode)
    this.socket = this.#connect()
  }

  #connect(): Socket {
    const { serverSet } = this
    return serverSet.source.context.io.connect(this.#address, serverSet.tcpOptions, this)
  }

  get #address(): Address {
    return { host: this.target.address, port: this.target.host.port }
  }

  #reconnect(): void {
    this.#exchange = null
    this.socket.close()
    this.socket = this.#connect()
  }

  /** A cancel request is on its way to it: no other client gets it before that is complete. */
  cancelBegan(): void {
    this.cancels++
  }

  cancelEnded(late: boolean): void {
    this.cancels--
    assert(this.cancels >= 0, 'a request ends once')
    if (late) this.cancelLost = true
    const { serverSet } = this
    if (this.cancels === 0 && this.list !== null && this.list === serverSet.canceled) serverSet.checkin(this)
  }

  retire(): void {
    this.#retired = true
  }

  get retired(): boolean {
    return this.#retired
  }

  /** Whether its address is no longer a target: it is then closed when it becomes free. */
  leaveAddress(leaves: boolean): void {
    this.#leavesAddress = leaves
  }

  /** To be closed when it becomes free. */
  get closeNeeded(): boolean {
    return this.#retired || this.#leavesAddress
  }

  becameIdle(): void {
    this.idleSinceMs = this.serverSet.source.context.io.nowMs()
  }

  /** A client was joined. */
  requested(): void {
    this.requestedAtMs = this.serverSet.source.context.io.nowMs()
  }

  /** Owes nothing, has no client, and is between transactions. */
  get free(): boolean {
    return (
      this.client === null &&
      this.#exchange === null &&
      this.status === TransactionStatus.Idle &&
      this.outstanding.empty
    )
  }

  /** Session state that is kept pins the server to its client. */
  get pins(): boolean {
    return this.serverSet.settings.pinOnSessionState === 'on'
  }

  get pinned(): boolean {
    return this.kept !== 0 && this.pins
  }

  /** Whether it reports a parameter that follows clients. */
  follows(parameter: string): boolean {
    return this.serverSet.followed.has(parameter) && this.initial.has(parameter)
  }

  /** Its client's settings are now these, and so are its own. */
  follow(parameters: Parameters): void {
    if (this.parameters !== Parameters.unknown) this.parameters = parameters
  }

  /** Records signs of session state. */
  note({ begun, ended, set, change }: Signs): void {
    this.suspect |= begun | (ended & this.kept)
    if (change !== null) this.#noteChange(change)
    if (set) this.watch.set(unseenChange)
  }

  #noteChange(change: SettingsChange): void {
    this.watch.note(change)
    if (change.custom.size === 0) return
    this.#remember(change.custom)
    this.client?.mention(change.custom)
  }

  #remember(names: Iterable<string>): void {
    for (const name of names) {
      if (name.includes('.')) this.custom = (this.custom ?? new Set()).add(name)
    }
  }

  /** HOT. */
  get strict(): boolean {
    return this.serverSet.strict
  }

  /** With strict isolation: its client executes more than what is known to leave nothing. */
  use(): void {
    this.#used = true
  }

  /** Its settings may have changed, and are to be learned for its client before another gets it. */
  get learns(): boolean {
    return this.kept === 0 && this.pins && this.watch.change !== null
  }

  /** What it has under our names, from the first statement on. */
  statementsHere(): ServerStatements {
    this.statements ??= new ServerStatements()
    return this.statements
  }

  /** A command has changed the schema, for others at the end of its transaction. */
  changesSchema(): void {
    this.serverSet.schema.changed()
    this.#changesSchema = true
  }

  /** HOT. A transaction has ended; if it was rolled back, what it has changed is as before. */
  transactionEnded(): void {
    if (!this.#changesSchema) return
    this.serverSet.schema.changed()
    this.#changesSchema = false
  }

  /** HOT. A message that ends before `next` passes. Returns the offset up to which it has arrived. */
  pass(next: number, end: number): number {
    if (next > end) this.passing = next - end
    return Math.min(next, end)
  }

  /** More of a message that has begun to pass. Returns the offset up to which it has arrived. */
  continuePassing(start: number, end: number): number {
    const passed = Math.min(this.passing, end - start)
    this.passing -= passed
    return start + passed
  }

  /** HOT. ReadyForQuery arrived, with this indicator. */
  becameReady(status: number): void {
    this.status = status
    this.outstanding.ready()
  }

  get loggedIn(): boolean {
    return this.#loggedIn
  }

  get stateName(): ServerStateName {
    if (!this.#loggedIn) return 'login'
    if (this.#exchange !== null || !this.outstanding.empty) return 'active'
    return this.status === TransactionStatus.Idle ? 'idle' : 'idle in transaction'
  }

  write(bytes: Uint8Array): void {
    this.socket.send(bytes, 0, bytes.length)
  }

  setTcpOptions(options: TcpOptions): void {
    this.socket.setTcpOptions(options)
  }

  // Events of the socket

  onConnect(): void {
    this.#start(this.#login())
  }

  onSecured(): void {
    this.#resume()
  }

  onData(bytes: Uint8Array, start: number, end: number): number {
    // Messages of a login are not sent to a client.
    const counted = this.#loggedIn ? this.client : null
    this.lastReceivedMs = this.serverSet.source.context.io.nowMs()
    let at = start
    while (at < end && this.list !== null) {
      let next: number
      if (this.#exchange !== null) next = this.#resumeWith(bytes, at, end)
      else if (this.client !== null) next = serverData(this, this.client, bytes, at, end)
      else next = this.#unasked(bytes, at, end)
      if (next === at) break
      at = next
    }
    // Bytes left by a handler are delivered again.
    if (counted !== null) counted.pool.totals.bytes_sent += at - start
    return this.list === null ? end : at
  }

  onDrain(): void {
    this.client?.socket.resumeReading()
  }

  onClose(cause: CloseCause): void {
    if (this.fatal !== null) {
      this.close('terminated', this.fatal)
      return
    }
    const message = cause.reason === undefined ? null : `TLS failed: ${cause.reason}`
    this.close(causeOf(cause, this.#loggedIn), { errno: cause.errno, message })
  }

  // Exchanges of our own: login, parameters, reset

  #start(exchange: Exchange<void>): void {
    this.unnamed.takeOver()
    this.#exchange = exchange
    this.#resume()
  }

  #resumeWith(bytes: Uint8Array, start: number, end: number): number {
    const { socket } = this
    this.#inbox.open(bytes, start, end)
    this.#resume()
    const next = this.#inbox.start
    this.#inbox.close()
    // Nothing of a former connection remains to be handled.
    return this.list === null || this.socket !== socket ? end : next
  }

  #resume(): void {
    const exchange = this.#exchange
    if (exchange === null) return
    try {
      exchange.next()
    } catch (error) {
      if (this.#session.turnsToTls(error)) {
        this.#reconnect()
      } else if (error instanceof LoginRefused) {
        this.close(error.sqlstate.startsWith('28') ? 'auth_failed' : 'terminated', {
          sqlstate: error.sqlstate,
          message: error.message,
        })
      } else if (error instanceof TlsRefused) {
        this.close('tls_failed', { message: error.message })
      } else if (error instanceof SqlError) {
        this.close(this.#loggedIn ? 'protocol_error' : 'auth_failed', {
          sqlstate: error.sqlstate,
          message: error.message,
        })
      } else {
        throw error
      }
    }
  }

  *#login(): Exchange<void> {
    const { spec, source, tls, settings } = this.serverSet
    const { host } = this.target.host
    const wire = { socket: this.socket, inbox: this.#inbox, conversation: this.conversation }
    const login = yield* this.#session.begin(wire, tls === null ? null : { context: tls.context, settings, host }, {
      user: spec.serverUser,
      database: spec.serverDatabase,
      password: spec.serverPassword,
      keys: source.serverKeys,
      saltedKeys: source.saltedKeys,
      minor: settings.serverMaxProtocolVersion === '3.2' ? 2 : 0,
      parameters: this.replication?.parameters ?? {},
    })
    this.#loginTimer?.cancel()
    this.#loginTimer = null
    this.#loggedIn = true
    this.backendKey = login.backendKey
    for (const [parameter, value] of login.parameters) {
      this.reported.set(parameter, value)
      this.initial.set(parameter.toLowerCase(), value)
    }
    this.#exchange = null
    if (source.context.suspended) this.socket.suspendReading()
    if (this.replication !== null) {
      this.client?.dedicated(this)
      return
    }
    this.serverSet.loggedIn(this, login.parameters)
  }

  /**
   * Sets the parameters of `client`, which it is joined with. Returns true if it has them already; otherwise
   * `client.adjusted` is called when it has, or the client gets the server's error. For a client that is to be
   * `greeted`, a standby is queried first whether it still is one.
   */
  adjust(client: Client, greeted: boolean): boolean {
    const wanted = client.parameters
    const asks = greeted && this.reported.get('in_hot_standby') === 'on'
    if (this.parameters === wanted && !asks) return true
    const change = adjustment(this.parameters, wanted, this.initial)
    if (!change.resetAll && change.first.length === 0 && change.set.length === 0 && !asks) {
      this.parameters = wanted
      return true
    }
    this.#start(this.#adjust(wanted, change))
    return false
  }

  *#adjust(wanted: Parameters, change: Adjustment): Exchange<void> {
    const failure = yield* setParameters(this, change)
    this.#exchange = null
    this.parameters = failure === null ? wanted : Parameters.unknown
    this.#remember(wanted.values.keys())
    const { client } = this
    if (client === null) this.giveBack()
    else if (failure === null) client.adjusted(this)
    else client.fatal(failure.sqlstate, failureOf(failure, change), 'client_gone', failure.advice)
  }

  /**
   * Learns what its client's settings have become; true if that is known at once. Otherwise the server is queried, and
   * `client.learned` is called. If the settings cannot be had on another server, this one is pinned.
   */
  learn(client: Client): boolean {
    const { change, certain, text } = this.watch
    if (change === null) return true
    if (change.seeds) this.#pin(Kept.Seed)
    if (change.unknown) this.#pin(Kept.Settings)
    if (this.kept !== 0) return true
    const before = this.parameters
    const known = text === null ? undefined : this.serverSet.learned.get(before, text)
    if (known !== undefined) {
      this.#settle(client, known)
      return true
    }
    const learning = new Learning({
      before,
      change,
      certain,
      startup: client.startup,
      serverUser: this.serverSet.spec.serverUser,
      // A report is in the encoding of the client, which may be any.
      follows: (name) => this.follows(name) && isAscii(client.parameters.values.get(name) ?? ''),
    })
    if (learning.empty) {
      const now = this.#startupAfterReset(client, client.parameters)
      this.#settle(client, { client: now, server: before, idleTimeoutMs: null })
      return true
    }
    this.#start(this.#learn(learning, before, text))
    return false
  }

  /** HOT. Whether a RESET may take away what this client began with. */
  restores(client: Client): boolean {
    return client.startup !== Parameters.none && this.replication === null
  }

  /**
   * At a ReadyForQuery after a RESET, before the client gets it: the session has what a server begins with, and is to have
   * what the client began with.
   */
  restore(client: Client): void {
    const values = this.watch.startupValues(client.startup, this.initial)
    if (values.session.size + values.local.size === 0 || this.status === TransactionStatus.Failed) {
      endRestoring(client, this)
      return
    }
    client.restoring(this)
    this.#start(this.#restore(values))
  }

  *#restore(values: StartupValues): Exchange<void> {
    yield* setStartup(this, values)
    this.#exchange = null
    const { client } = this
    if (client === null) {
      this.giveBack()
      return
    }
    client.restored()
    endRestoring(client, this)
  }

  *#learn(learning: Learning, before: Parameters, text: string | null): Exchange<void> {
    const failure = yield* askSettings(this, learning)
    this.#exchange = null
    const { client } = this
    if (client === null) {
      this.giveBack()
      return
    }
    const learned = failure === null ? learning.outcome : null
    if (learned === null) this.#pin(Kept.Settings)
    else {
      if (text !== null && learned.client === learned.server && learned.idleTimeoutMs === null)
        this.serverSet.learned.set(before, text, learned)
      this.#settle(client, { ...learned, client: this.#startupAfterReset(client, learned.client) })
    }
    client.learned(this)
  }

  #settle(client: Client, learned: Learned): void {
    this.watch.clear()
    this.parameters = learned.server
    client.have(learned.client)
    if (learned.idleTimeoutMs !== null) client.endAfterIdle(learned.idleTimeoutMs)
  }

  /** Parameters that the server reports are known; those that the client has reset are as it began. */
  #startupAfterReset(client: Client, now: Parameters): Parameters {
    const { change } = this.watch
    if (change === null || (change.resets.size === 0 && !change.resetsAll)) return now
    let settled = now
    for (const [name, value] of client.startup.values) {
      const reset = change.resetsAll || change.resets.has(name)
      if (reset && this.follows(name) && !now.values.has(name)) settled = settled.with(name, value)
    }
    return settled
  }

  #pin(kept: number): void {
    if (this.kept === 0) this.pinnedAtMs = this.serverSet.source.context.io.nowMs()
    this.kept |= kept
  }

  /** Queries what the session keeps; `client.probed` is called with the result known. */
  probe(): void {
    this.#start(this.#probe())
  }

  *#probe(): Exchange<void> {
    const asked = this.suspect
    this.suspect = 0
    const found = yield* queryKept(this, asked)
    this.#exchange = null
    if (this.kept === 0) this.pinnedAtMs = this.serverSet.source.context.io.nowMs()
    if (found !== null) {
      this.kept = (this.kept & ~asked) | found
      if ((asked & ~found & Kept.Settings) !== 0) this.watch.allReset()
    } else {
      // For instance canceled by a late request: it counts as kept, and is queried again.
      this.kept |= asked
      this.suspect |= asked
    }
    const { client } = this
    if (client === null) this.giveBack()
    else client.probed(this)
  }

  /** After a failed copy; `client.resynchronized` is called when everything owed has arrived. */
  resynchronize(): void {
    this.#start(this.#resynchronize())
  }

  *#resynchronize(): Exchange<void> {
    yield* readToEnd(this)
    this.outstanding.clear()
    this.#exchange = null
    if (this.client === null) this.giveBack()
    else this.client.resynchronized(this)
  }

  /** Resets the session, then serves the next client. */
  startReset(sql: string): void {
    this.serverSet.move(this, this.serverSet.reset)
    this.#start(this.#reset(sql, [sql]))
  }

  *#reset(sql: string, queries: readonly string[]): Exchange<void> {
    const failure = yield* reset(this, queries)
    this.#exchange = null
    if (failure !== null || this.status !== TransactionStatus.Idle) {
      this.close('reset_failed', failure ?? {})
      return
    }
    switch (sql) {
      case discardAll:
        this.parameters = Parameters.none
        this.statements?.clear()
        break
      case resetSettings:
      case resetSession[0]:
        this.parameters = Parameters.none
        break
      default:
        this.parameters = this.#reportedParameters()
        this.statements?.doubt()
    }
    this.#clearSessionState()
    this.serverSet.checkin(this)
  }

  /** Tests an idle server. */
  startCheck(sql: string): void {
    this.serverSet.move(this, this.serverSet.reset)
    this.#start(this.#check(sql))
  }

  *#check(sql: string): Exchange<void> {
    const { io } = this.serverSet.source.context
    const limitMs = this.serverSet.settings.connectTimeoutMs
    this.#checkTimer = io.after(limitMs, () => {
      this.close('health_check', { message: `no response to server_check_query within ${limitMs} ms` })
    })
    const failure = yield* run(this, sql)
    this.#checkTimer.cancel()
    this.#exchange = null
    if (failure !== null || this.status !== TransactionStatus.Idle) this.close('health_check', failure ?? {})
    else this.serverSet.checkin(this, true)
  }

  /** After a reset query of the operator, the parameters are as the server reports them. */
  #reportedParameters(): Parameters {
    const reported = new Map([...this.reported].map(([name, value]) => [name.toLowerCase(), value]))
    const now: [string, string][] = []
    for (const name of this.parameters.values.keys()) {
      const value = reported.get(name)
      if (value === undefined) return Parameters.unknown
      now.push([name, value])
    }
    return Parameters.of(now)
  }

  #clearSessionState(): void {
    this.suspect = 0
    this.kept = 0
    this.#used = false
    this.watch.clear()
  }

  // For exchanges

  reportStatus(status: number): void {
    this.status = status
  }

  endsWith(sqlstate: string, message: string): void {
    this.fatal = { sqlstate, message, forwarded: false }
  }

  passOn({ tag, bytes, start, end }: Message): void {
    const { client } = this
    if (client === null) return
    if (tag === BackendTag.NotificationResponse) nameNotifier(this, client, bytes, start)
    client.tell(write.message(tag, bytes.subarray(start, end)))
  }

  /** A parameter that was changed by our request, as the client has asked for. */
  passReport(message: Message): void {
    const { client } = this
    if (client === null) this.noteParameter(message.bytes, message.start, message.end)
    else {
      noteParameter(this, client, message.bytes, message.start, message.end)
      this.passOn(message)
    }
  }

  // Without a client

  /** Messages that a server may send unsolicited: notices, parameter changes, notifications, its end. */
  #unasked(bytes: Uint8Array, start: number, end: number): number {
    const inbox = this.#inbox
    inbox.open(bytes, start, end)
    try {
      while (this.list !== null) {
        const message = inbox.take(exchangeBytesMax)
        if (message === undefined) break
        this.#noteUnasked(message)
      }
      return this.list === null ? end : inbox.start
    } catch (error) {
      if (!(error instanceof SqlError)) throw error
      this.close('protocol_error', { message: `${error.message} from an idle server` })
      return end
    } finally {
      inbox.close()
    }
  }

  #noteUnasked({ tag, bytes, start, end }: Message): void {
    switch (tag) {
      case BackendTag.NoticeResponse:
      case BackendTag.NotificationResponse:
        break
      case BackendTag.ParameterStatus:
        this.#noteDefault(bytes, start, end)
        break
      case BackendTag.ErrorResponse: {
        const { severity, code, message } = errorFields(bytes, start, end)
        this.close(isFatal(severity) ? 'terminated' : 'protocol_error', { sqlstate: code, message })
        break
      }
      default:
        this.close('protocol_error', { message: 'unexpected message from an idle server' })
    }
  }

  /** A parameter that changes in an idle session has a new default, after a reload of PostgreSQL. */
  #noteDefault(bytes: Uint8Array, start: number, end: number): void {
    const [parameter, value] = this.noteParameter(bytes, start, end)
    this.initial.set(parameter.toLowerCase(), value)
    this.serverSet.source.noteReported(parameter, value)
  }

  noteParameter(bytes: Uint8Array, start: number, end: number): [string, string] {
    const [parameter, value] = parameterStatus(bytes, start, end)
    if (this.reported.get(parameter) !== value) this.reported.set(parameter, value)
    return [parameter, value]
  }

  /** The link ended with nothing owed: returns to the pool, after a reset if the session may have left something. */
  giveBack(): void {
    // Its client left inside a transaction, during an exchange.
    if (this.status !== TransactionStatus.Idle) {
      this.close('client_gone')
      return
    }
    if (this.replication !== null) {
      this.close('client_gone')
      return
    }
    if (this.outstanding.doubtful) {
      this.close('client_gone', { message: 'a failed COPY may owe a further response' })
      return
    }
    if ((this.kept & Kept.Seed) !== 0) {
      this.close('client_gone', { message: 'a client has set the seed of its random numbers' })
      return
    }
    if (this.#used && this.kept === 0 && this.loggedIn && !this.serverSet.draining) {
      this.serverSet.move(this, this.serverSet.reset)
      this.#start(this.#reset(resetSession[0] as string, resetSession))
      return
    }
    const sql = this.#resetNeeded()
    if (sql === '' || !this.loggedIn || this.serverSet.draining) {
      if (this.suspect !== 0) this.suspect = 0
      this.watch.clear()
      this.serverSet.checkin(this)
    } else {
      this.startReset(sql)
    }
  }

  /** Query that resets the session before the next client; empty for none. */
  #resetNeeded(): string {
    const { settings } = this.serverSet
    if (settings.poolMode === 'session') return this.kept === 0 ? settings.serverResetQuery : discardAll
    if (this.kept !== 0 || (this.suspect !== 0 && this.pins)) return discardAll
    return this.watch.change !== null && this.pins ? resetSettings : ''
  }

  /**
   * Its client left, which closes it with `cause` unless it is clean: what the client left open must not reach another.
   */
  clientGone(clean: boolean, inOrder: boolean, cause: Cause): void {
    if (this.replication !== null) {
      this.#finishes = inOrder
      this.close(cause)
      return
    }
    if (this.socket.readingPaused) this.socket.resumeReading()
    if (this.#exchange !== null) return
    if (clean && this.status === TransactionStatus.Idle && this.outstanding.empty && this.passing === 0) {
      this.giveBack()
      return
    }
    if (inOrder) this.#finishes = true
    else if (!this.outstanding.empty) this.serverSet.source.context.cancels.send(this, () => {})
    this.close(cause)
  }

  /** The only way a server ends; the first cause counts. */
  close(cause: Cause, details: ClosedDetails = {}): void {
    const { list, serverSet, client } = this
    if (list === null) return
    const state = this.stateName
    list.remove(this)
    // It may have been committed.
    this.transactionEnded()
    if (client !== null) part(client, this)
    this.#exchange = null
    this.#loginTimer?.cancel()
    this.#loginTimer = null
    this.#checkTimer?.cancel()
    if (this.#loggedIn && causes[cause].planned && (this.outstanding.empty || this.#finishes)) {
      this.write(terminate)
      this.socket.end()
    } else {
      this.socket.close()
    }
    // Not before: another worker opens a server as soon as it is counted as closed.
    const isOutsideSize = this.replication !== null || serverSet.trial !== null
    serverSet.source.context.counts?.closed(serverSet, this.target, isOutsideSize)

    // What is only tried is no loss.
    if (serverSet.trial === null) this.#reportEnd(cause, details, state, client !== null)
    const failure = { cause, errno: null, sqlstate: null, message: null, ...details }
    if (this.replication !== null && state === 'login') {
      client?.fatal(failure.sqlstate ?? sqlstates.connection_failure, textOf(failure))
    } else client?.serverLost(this, cause)
    const { source } = serverSet
    if (serverSet.draining) source.dropDrained(serverSet)
    else if (state === 'login' && this.replication === null) serverSet.loginFailed(this.target, failure)
    source.context.limits.freed(serverSet.draining ? null : source)
    source.context.serverEnded()
  }

  #reportEnd(cause: Cause, details: ClosedDetails, state: ServerStateName, clientHurt: boolean): void {
    const { source, hash } = this.serverSet
    source.closed.count(source.user, cause)
    if (causes[cause].planned) return
    const nowMs = source.context.io.nowMs()
    source.context.post({
      type: 'disconnect',
      disconnect: {
        pool: source.database,
        user: source.user,
        host: this.target.host.host,
        port: this.target.host.port,
        role: this.target.host.role,
        backend_pid: this.backendKey?.pid ?? null,
        cause,
        errno: details.errno ?? null,
        sqlstate: details.sqlstate ?? null,
        message: details.message ?? null,
        state,
        connection_age_ms: Math.max(0, nowMs - this.connectedAtMs),
        idle_ms: Math.max(0, nowMs - this.lastReceivedMs),
        client_hurt: clientHurt,
        pool_hash: hash,
      },
    })
  }
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text) === text.length
}

/** The server's error, and which settings it is about if it does not say so. */
function failureOf({ message }: Failure, { set }: Adjustment): string {
  if (set.length === 0 || set.some(([name]) => message.toLowerCase().includes(name))) return message
  return `${message} (while setting ${set.map(([name]) => name).join(', ')} for the client)`
}
const terminate = write.terminate()
