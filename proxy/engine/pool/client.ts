import assert from 'node:assert/strict'
import { causes } from '../../../shared/causes.ts'
import type { Cause } from '../../../shared/causes.ts'
import { sqlstates } from '../../../shared/errors.ts'
import type { Socket, SocketEvents, Timer } from '../../io/io.ts'
import type { Advice } from '../../protocol/read.ts'
import { FrontendTag, invalidTypeText, isRequestTag, TransactionStatus } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import type { CancelKey } from '../cancel/cancel-request.ts'
import type { Context } from './context.ts'
import { headerBytes, invalidLengthText, readLength } from '../../protocol/framing.ts'
import { join, part, wholeBytesMax } from './link.ts'
import { clientData } from './requests.ts'
import type { List, Listed } from './list.ts'
import type { Pool } from './pool.ts'
import type { Described } from '../session/outstanding.ts'
import { ClientStatements } from '../session/prepared.ts'
import type { UnnamedStatement } from '../session/unnamed.ts'
import { durationMs, idleTimeout } from '../session/learning.ts'
import type { Parameters } from '../session/parameters.ts'
import type { Replication } from '../session/replication.ts'
import type { Server } from './server.ts'
import type { Welcome } from './server-source.ts'
import type { Signs } from '../session/session-state.ts'
import type { SettingsChange } from '../session/settings-text.ts'

// HOT. V8 folds a constant of this module; an imported one is loaded and checked at each use.
const tags = FrontendTag
const statuses = TransactionStatus

/** Result of a client's login. */
interface LoggedIn {
  readonly id: number
  readonly parameters: Parameters
  readonly replication: Replication | null
  /** Length of the secret in its cancel key. */
  readonly secretBytes: number
}

/**
 * A client that has authenticated, until it leaves. It is in one list of its pool:
 *
 *   waiting (for its greeting) ──► active ──► idle ◄──► active, by way of waiting if no server is free
 */
export class Client implements SocketEvents, Listed<Client> {
  list: List<Client> | null = null
  previous: Client | null = null
  next: Client | null = null

  readonly context: Context
  readonly pool: Pool
  readonly socket: Socket
  readonly id: number
  readonly connectedAtMs: number
  /** The settings of its session. */
  parameters: Parameters
  /** Its own idle_session_timeout, which no server has for it; 0 for none. */
  #idleTimeoutMs = 0
  #idleTimer: Timer | null = null
  /** Custom parameters that it has mentioned; null for none. */
  custom: ReadonlySet<string> | null = null
  /** Those that it began with, to which RESET returns. */
  readonly startup: Parameters
  /** The server it is joined with; set by `join` and `part`. */
  readonly server: Server | null = null
  /** Remaining bytes of a long message, to be forwarded, or dropped without a server. */
  passing = 0
  /** They are not forwarded, though there is a server. */
  #dropsPassing = false
  /** Valid in the list `waiting`. */
  waitingSinceMs = 0
  /** Its prepared statements by its own names, in transaction mode; null before the first. */
  statements: ClientStatements | null = null
  /** Its unnamed statement, in transaction mode; null before the first. */
  unnamed: UnnamedStatement | null = null
  /** What its unnamed portal was bound to, in transaction mode; null if unknown. */
  bound: Described | null = null
  /** Number of the present group of requests; each is ended by a Sync. */
  group = 0
  /** Its next request waits until an earlier one is answered. */
  #awaitsAnswer = false
  /** … until everything that is owed was answered: a RESET is among it. */
  #awaitsReset = false
  /** Signs of the statement parsed last; null for none. */
  parsed: Signs | null = null
  /** In session mode: its prepared statements that take away what it began with; null while there is none. */
  resetting: Map<string, SettingsChange> | null = null
  /** A long Parse that arrives in pieces. */
  #gathered: { readonly bytes: Buffer; length: number } | null = null
  /** It gets a server of its own, for replication; null for other clients. */
  readonly replication: Replication | null
  #notified = false
  /** Valid in the list `idle`, which is in this order. */
  idleSinceMs = 0
  /** When the request in flight began; 0 without one. */
  queryBeganMs = 0
  /** When the open transaction began, even of a single statement; 0 without one. */
  transactionBeganMs = 0
  /** Null before its greeting, or if no key was left. */
  cancelKey: CancelKey | null = null
  readonly #secretBytes: number
  #greeted = false
  /** The server is being set to this client's parameters, or runs another query of ours. */
  #adjusting = false
  /** Its request waits until the server has its parameters; a `canceled` one is then answered, not sent. */
  #requested: 'nothing' | 'pending' | 'canceled' = 'nothing'
  /**
   * Its request was answered with an error while it waited: a simple query is dropped when it comes `next`, and of
   * extended requests the whole `group` up to its Sync, as in PostgreSQL after an error.
   */
  #skipping: 'nothing' | 'next' | 'group' = 'nothing'
  /** Its pool was removed: it is disconnected at the end of its transaction. */
  #dismissed = false

  constructor(pool: Pool, socket: Socket, { id, parameters, replication, secretBytes }: LoggedIn) {
    const { context } = pool
    this.context = context
    this.pool = pool
    this.socket = socket
    this.id = id
    // In session mode the server of its own has it.
    const idleFor = pool.settings?.poolMode === 'session' ? undefined : parameters.values.get(idleTimeout)
    this.parameters = idleFor === undefined ? parameters : parameters.with(idleTimeout, null)
    this.startup = this.parameters
    if (idleFor !== undefined) this.#idleTimeoutMs = durationMs(idleFor)
    this.mention([...parameters.values.keys()].filter((name) => name.includes('.')))
    this.replication = replication
    this.#secretBytes = secretBytes
    this.connectedAtMs = context.io.nowMs()
    this.idleSinceMs = this.connectedAtMs
  }

  /** Greets the client with the parameters of a real server, for which the first client has to wait. */
  begin(): void {
    this.context.clients.add(this)
    if (this.context.suspended) this.socket.suspendReading()
    this.pool.idle.pushTail(this)
    if (this.replication !== null) {
      this.#dedicate(this.replication)
      return
    }
    const welcome = this.pool.welcome(this.parameters)
    if (welcome === undefined) this.#request()
    else this.#greet(welcome)
  }

  #dedicate(replication: Replication): void {
    const server = this.pool.dedicate(this, replication)
    if (server === null) return
    join(this, server)
    this.moveTo(this.pool.active)
    this.#adjusting = true
    this.socket.pauseReading()
  }

  /** The server opened for it has logged in. */
  dedicated(server: Server): void {
    this.#adjusting = false
    this.#greet({ parameters: this.parameters, statuses: write.parameterStatuses(server.reported) })
    if (this.#dismissed || this.context.stopping) this.free(server)
    else this.socket.resumeReading()
  }

  #greet(welcome: Welcome): void {
    // Shared by all clients with the same parameters.
    this.parameters = welcome.parameters
    this.cancelKey = this.context.cancels.add(this, this.#secretBytes)
    this.#greeted = true
    this.pool.totals.client_login_count++
    this.#write(
      Buffer.concat([
        welcome.statuses,
        this.cancelKey === null ? nothing : write.backendKeyData(this.cancelKey.pid, this.cancelKey.secret),
        write.readyForQuery('I'),
      ]),
    )
  }

  /** It was greeted, and may send requests. */
  get greeted(): boolean {
    return this.#greeted
  }

  /** Forwards a message of its server, between two messages. */
  tell(bytes: Uint8Array): void {
    this.#write(bytes)
  }

  #write(bytes: Uint8Array): void {
    this.socket.send(bytes, 0, bytes.length)
  }

  moveTo(list: List<Client>): void {
    if (this.list === null) assert.fail('a client that left does not return')
    this.list.remove(this)
    list.pushTail(this)
    if (list === this.pool.idle) this.idleSinceMs = this.context.io.nowMs()
    if (this.#idleTimeoutMs > 0) this.#timeIdleness(list)
  }

  /** A message has arrived in part, and the rest is for the server it is joined with. */
  get midMessage(): boolean {
    return this.passing > 0 || this.#gathered !== null
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

  /** What has not arrived of the present message is not forwarded. */
  dropPassing(): void {
    this.#dropsPassing = true
  }

  /** Where to forward from, after `continuePassing` up to `at`; what is forwarded may be a statement to keep. */
  forwardFrom(bytes: Uint8Array, start: number, at: number): number {
    if (this.#dropsPassing) {
      if (this.passing === 0) this.#dropsPassing = false
      return at
    }
    this.unnamed?.keepMore(bytes, start, at)
    return start
  }

  /** HOT. A Parse is forwarded whose statement may leave this in the session when it is bound. */
  noteParsed(signs: Signs | null): void {
    this.parsed = signs
  }

  /** A statement of this name is prepared, and takes away what the session began with when it is bound; null if not. */
  noteResetting(name: string, change: SettingsChange | null): void {
    if (change === null) this.resetting?.delete(name)
    else (this.resetting ??= new Map()).set(name, change)
  }

  bindPortal(bound: Described | null): void {
    this.bound = bound
  }

  namesOfStatements(): ClientStatements {
    this.statements ??= new ClientStatements(this.pool.statements)
    return this.statements
  }

  /** HOT. A Sync, or an equivalent, is forwarded. */
  beginGroup(): void {
    this.group = (this.group + 1) & groupMask
  }

  /** HOT. A request that counts as a query is forwarded. */
  beginQuery(): void {
    this.pool.totals.query_count++
    if (this.queryBeganMs === 0) this.queryBeganMs = this.context.io.nowMs()
  }

  /** HOT. All requests were answered. The time is no argument: V8 boxes one where it does not inline the call. */
  countQuery(): void {
    if (this.queryBeganMs === 0) return
    this.pool.totals.query_time += (this.context.io.nowMs() - this.queryBeganMs) * 1000
    this.queryBeganMs = 0
  }

  /** HOT. A request is forwarded, possibly in a transaction that has begun before. */
  beginTransaction(): void {
    if (this.transactionBeganMs === 0) this.transactionBeganMs = this.context.io.nowMs()
  }

  /** HOT. */
  countTransaction(): void {
    const { totals } = this.pool
    totals.xact_count++
    totals.xact_time += (this.context.io.nowMs() - this.transactionBeganMs) * 1000
    this.transactionBeganMs = 0
  }

  /** Its session has this idle_session_timeout; 0 for none. */
  endAfterIdle(timeoutMs: number): void {
    this.#idleTimeoutMs = timeoutMs
    this.#idleTimer?.cancel()
    this.#idleTimer = null
  }

  #timeIdleness(list: List<Client>): void {
    this.#idleTimer?.cancel()
    this.#idleTimer = null
    if (list !== this.pool.idle) return
    this.#idleTimer = this.context.io.after(this.#idleTimeoutMs, () => {
      this.#idleTimer = null
      this.fatal(sqlstates.idle_session_timeout, idleText)
    })
  }

  /** Custom parameters are in a text of its own, or in its startup packet. */
  mention(names: Iterable<string>): void {
    const mentioned = new Set([...(this.custom ?? []), ...names])
    if (mentioned.size > 0) this.custom = mentioned
  }

  /** These are the settings of its session now, on its next server too. */
  have(parameters: Parameters): void {
    if (this.parameters.meaning !== parameters.meaning) this.statements?.changeMeaning()
    this.parameters = parameters
  }

  /** Stops reading until `goOn`. */
  waitForAnswer(): void {
    this.#awaitsAnswer = true
    this.socket.pauseReading()
  }

  /** The same, until its session has again what it began with. */
  waitForReset(): void {
    this.#awaitsReset = true
    this.waitForAnswer()
  }

  get awaitsAnswer(): boolean {
    return this.#awaitsAnswer
  }

  goOn(): void {
    if (!this.#awaitsAnswer) return
    if (this.#awaitsReset && this.server !== null && !this.server.outstanding.empty) return
    this.#awaitsAnswer = false
    this.#awaitsReset = false
    this.socket.resumeReading()
  }

  /** Keeps the first bytes of a message that must be whole. */
  gather(bytes: Uint8Array, start: number, end: number, length: number): void {
    this.#gathered = { bytes: Buffer.allocUnsafeSlow(length), length: end - start }
    this.#gathered.bytes.set(bytes.subarray(start, end))
    this.pool.statements.memory.add(length)
  }

  #ungather(): void {
    if (this.#gathered === null) return
    this.pool.statements.memory.release(this.#gathered.bytes.length)
    this.#gathered = null
  }

  /** Returns the offset of progress; a message that is now whole was forwarded. */
  #gatherMore(server: Server, bytes: Uint8Array, start: number, end: number): number {
    const gathered = this.#gathered
    if (gathered === null) return start
    const next = Math.min(end, start + gathered.bytes.length - gathered.length)
    gathered.bytes.set(bytes.subarray(start, next), gathered.length)
    gathered.length += next - start
    const { length } = gathered.bytes
    if (gathered.length < length) return next
    this.#ungather()
    if (clientData(this, server, gathered.bytes, 0, length) > 0 || this.list === null) return next
    // It waits for an earlier answer: with its last byte it is delivered again.
    this.gather(gathered.bytes, 0, length - 1, length)
    return next - 1
  }

  /** Answers a simple query without the server. */
  answerLocally(complete: Uint8Array, status: number): void {
    this.pool.totals.query_count++
    this.#write(complete)
    this.#write(write.readyForQuery(String.fromCharCode(status) as 'I' | 'T'))
  }

  // Checkout and checkin

  /** Checks out a server, or joins the waiting line. */
  #request(): void {
    const server = this.pool.checkout(this)
    if (server !== null) this.join(server)
    else if (this.list !== null) this.socket.pauseReading()
  }

  /** Joins `server`, which was free. */
  join(server: Server): void {
    join(this, server)
    this.moveTo(this.pool.active)
    server.requested()
    this.#adjusting = true
    if (server.adjust(this, !this.#greeted)) {
      this.adjusted(server)
      return
    }
    if (this.#greeted) this.#requested = 'pending'
    this.socket.pauseReading()
  }

  /** The server has this client's parameters: requests can be forwarded. */
  adjusted(server: Server): void {
    const canceled = this.#requested === 'canceled'
    this.#requested = 'nothing'
    this.#adjusting = false
    if (canceled) {
      this.free(server)
      if (this.list !== null) this.#cancelRequest()
    } else if (!this.#greeted) {
      const standby = server.reported.get('in_hot_standby')
      if (standby !== undefined) this.pool.noteReported('in_hot_standby', standby)
      const welcome = { parameters: this.parameters, statuses: write.parameterStatuses(server.reported) }
      this.pool.remember(welcome)
      this.#greet(welcome)
      this.free(server)
    }
    this.socket.resumeReading()
  }

  leavesAtTransactionEnd(server: Server): boolean {
    if (this.#dismissed || this.context.stopping) return true
    if (server.replication !== null) return false
    return server.serverSet.settings.poolMode !== 'session' && (!server.pinned || server.suspect !== 0)
  }

  /** Ends the link, unless the server must first be queried for session state. */
  endTransaction(server: Server): void {
    if (server.outstanding.doubtful && !this.#dismissed && !this.context.stopping) {
      this.#ask(server)
      server.resynchronize()
      return
    }
    if (this.#dismissed || this.context.stopping) {
      this.free(server)
    } else if (server.suspect !== 0 && server.pins) {
      this.#ask(server)
      server.probe()
    } else {
      this.#leaveWithSettings(server)
    }
  }

  /** Ends the link when it is known what the client's settings have become. */
  #leaveWithSettings(server: Server): void {
    if (!server.learns) {
      this.free(server)
      return
    }
    if (server.learn(this)) this.learned(server)
    else this.#ask(server)
  }

  /** Its settings are known, or the server is pinned to it. */
  learned(server: Server): void {
    this.#adjusting = false
    if (this.#dismissed || this.context.stopping || !server.pinned) this.free(server)
    else this.socket.resumeReading()
  }

  /** A query of our own runs on the server before this client continues. */
  #ask(server: Server): void {
    this.#adjusting = true
    this.socket.pauseReading()
    if (server.socket.readingPaused) server.socket.resumeReading()
  }

  /** The server is brought back to what this client began with. */
  restoring(server: Server): void {
    this.#ask(server)
  }

  /** Its session has again what it began with: its answer may end. */
  restored(): void {
    this.#adjusting = false
    this.socket.resumeReading()
  }

  /** Everything owed by the server has arrived. */
  resynchronized(server: Server): void {
    this.#adjusting = false
    if (this.leavesAtTransactionEnd(server)) this.endTransaction(server)
    else this.socket.resumeReading()
  }

  /** The session state is known: the server is pinned to this client, or the link ends. */
  probed(server: Server): void {
    this.#adjusting = false
    if (this.#dismissed || this.context.stopping) this.free(server)
    else if (server.pinned) this.socket.resumeReading()
    else this.#leaveWithSettings(server)
  }

  /** Ends the link: nothing is owed and no transaction is open. */
  free(server: Server): void {
    part(this, server)
    this.queryBeganMs = 0
    this.transactionBeganMs = 0
    this.#awaitsAnswer = false
    this.#awaitsReset = false
    if (this.statements !== null) this.statements.deallocating.length = 0
    if (this.socket.readingPaused) this.socket.resumeReading()
    if (server.socket.readingPaused) server.socket.resumeReading()
    this.moveTo(this.pool.idle)
    if (this.#dismissed || this.context.stopping) this.fatal(sqlstates.admin_shutdown, shutdownText)
    server.giveBack()
  }

  // Events of the socket

  onConnect(): void {}

  onData(bytes: Uint8Array, start: number, end: number): number {
    let at = start
    while (at < end && this.list !== null) {
      let next: number
      if (this.#gathered !== null && this.server !== null) next = this.#gatherMore(this.server, bytes, at, end)
      else if (this.server !== null && !this.#adjusting && !this.#awaitsAnswer)
        next = clientData(this, this.server, bytes, at, end)
      else if (this.server === null && this.list === this.pool.idle) next = this.#unlinked(bytes, at, end)
      else {
        // A drained socket resumed reading while it waits for a server or its parameters; `adjusted` resumes it again.
        this.socket.pauseReading()
        break
      }
      if (next === at) break
      at = next
    }
    this.pool.totals.bytes_received += at - start
    return this.list === null ? end : at
  }

  onDrain(): void {
    if (this.server === null) this.socket.resumeReading()
    else this.server.socket.resumeReading()
  }

  onClose(): void {
    this.leave()
  }

  /** The first message decides: a request needs a server; others have no effect outside of a transaction. */
  #unlinked(bytes: Uint8Array, start: number, end: number): number {
    if (this.socket.queuedBytes > 0) {
      // It does not read its answers: no further ones until it does.
      this.socket.pauseReading()
      return start
    }
    if (this.passing > 0) return this.continuePassing(start, end)
    const tag = bytes[start] as number
    if (!isRequestTag(tag)) {
      this.fatal(sqlstates.protocol_violation, invalidTypeText(tag))
      return end
    }
    if (end - start < headerBytes) return start
    const length = readLength(bytes, start)
    if (length === 0) {
      this.fatal(sqlstates.protocol_violation, invalidLengthText)
      return end
    }
    const next = start + 1 + length
    if (next > end && length <= wholeBytesMax) return start
    switch (tag) {
      case tags.Terminate:
        this.leave()
        return end
      case tags.Flush:
      case tags.CopyData:
      case tags.CopyDone:
      case tags.CopyFail:
        return this.pass(next, end)
      case tags.Query:
      case tags.FunctionCall:
        if (this.#skipping === 'nothing') break
        if (this.#skipping === 'next') {
          // A canceled Query drops the unnamed statement, like one that has run.
          if (tag === tags.Query) this.unnamed?.taken(true, this.group)
          this.#skipped()
        }
        return this.pass(next, end)
      case tags.Sync:
        if (this.#skipping === 'nothing') break
        this.#skipped()
        return this.pass(next, end)
      case tags.Parse:
      case tags.Bind:
      case tags.Describe:
      case tags.Execute:
      case tags.Close:
        if (this.#skipping === 'nothing') break
        this.#skipping = 'group'
        return this.pass(next, end)
      default:
        assert.fail('a type that a client may send is missing here')
    }
    this.#request()
    if (this.list === null) return end
    // Joined at once: the request is forwarded in this call, because it would not be delivered again.
    return this.server === null || this.#adjusting ? start : clientData(this, this.server, bytes, start, end)
  }

  #skipped(): void {
    this.#skipping = 'nothing'
    this.#write(write.readyForQuery('I'))
  }

  // Cancel and end

  /** A cancel request with this client's key. `done` is called when it was forwarded, or had no target. */
  cancel(done: () => void): void {
    if (this.server !== null && !this.#adjusting && !this.server.outstanding.empty) {
      this.context.cancels.send(this.server, done)
      return
    }
    if (this.#requested === 'pending') this.#requested = 'canceled'
    if (this.list === this.pool.waiting && this.#greeted) {
      this.moveTo(this.pool.idle)
      this.#cancelRequest()
      this.socket.resumeReading()
    }
    done()
  }

  /** Its next request is answered as canceled, without a server. */
  #cancelRequest(): void {
    this.#skipping = 'next'
    this.#write(write.errorResponse({ severity: 'ERROR', code: sqlstates.query_canceled, message: canceledText }))
  }

  /** Disconnects it at the end of its transaction, or at once without one. */
  dismissWhenFree(): void {
    this.#dismissed = true
    const { server } = this
    if (server === null) this.fatal(sqlstates.admin_shutdown, shutdownText)
    else if (!this.#adjusting && server.status === statuses.Idle && server.outstanding.empty && !this.midMessage) {
      this.free(server)
    }
  }

  /** Its server ended while they were joined. */
  serverLost(server: Server, cause: Cause): void {
    // The server's FATAL error, or part of a message, was forwarded: nothing may follow.
    if (server.fatal?.forwarded === true) this.#gone('end')
    else if (server.passing > 0) this.#gone('close')
    else this.fatal(sqlstates.connection_failure, `server connection lost: ${causes[cause].help}`)
  }

  /** Joins the waiting line. */
  wait(): void {
    this.waitingSinceMs = this.context.io.nowMs()
    this.#notified = false
    this.moveTo(this.pool.waiting)
  }

  /** It was sent the NOTICE that it waits. */
  get notified(): boolean {
    return this.#notified
  }

  /** Sends a NOTICE that it still waits for a server. */
  notify(message: string): void {
    this.#notified = true
    this.#write(write.noticeResponse({ severity: 'NOTICE', code: '00000', message }))
  }

  /** Sends a fatal error, and ends. A server left in the middle of something is closed with `cause`. */
  fatal(sqlstate: string, message: string, cause: Cause = 'client_gone', advice: Advice = {}): void {
    if (this.list === null) return
    // A client gets one reason: part of a message, or the server's FATAL error, is the last it gets.
    if (!this.#midMessage() && this.server?.fatal?.forwarded !== true) {
      this.#write(write.errorResponse({ severity: 'FATAL', code: sqlstate, message, ...advice }))
    }
    this.pool.refused[sqlstate] = (this.pool.refused[sqlstate] ?? 0) + 1
    const { database, user } = this.pool
    this.context.refusals.client({ database, user, from: this.socket.remote }, sqlstate, message)
    this.#gone('end', false, cause)
  }

  #midMessage(): boolean {
    return this.server !== null && this.server.passing > 0
  }

  /** Its connection ended, or it sent Terminate without a request in progress. */
  leave(): void {
    this.#gone('close')
  }

  /** It sent Terminate: earlier requests are executed to their end, as without a proxy. */
  terminate(): void {
    this.#gone('close', true)
  }

  #gone(how: 'end' | 'close', inOrder = false, cause: Cause = 'client_gone'): void {
    if (this.list === null) return
    const { server } = this
    this.list.remove(this)
    if (server !== null) part(this, server)
    this.#idleTimer?.cancel()
    this.context.clients.delete(this)
    const { counts } = this.context
    counts?.clientLeft(this.pool)
    counts?.unplace(this.pool)
    this.statements?.clear()
    this.unnamed?.clear()
    this.#ungather()
    if (this.cancelKey !== null) this.context.cancels.remove(this.cancelKey.pid)
    if (how === 'end') this.socket.end()
    else this.socket.close()
    server?.clientGone(!this.midMessage, inOrder, cause)
  }
}

const nothing = Buffer.alloc(0)
/** PostgreSQL's text. */
const idleText = 'terminating connection due to idle-session timeout'
/** Groups are compared only with those in flight, and stay small integers in V8. */
const groupMask = 0x3fffffff
const canceledText = 'canceling statement due to user request'
const shutdownText = 'terminating connection due to administrator command'
