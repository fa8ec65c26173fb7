/** HOT. Messages of a server to the client it is joined with, walked and forwarded like requests: see requests.ts. */
import { sqlstates } from '../../../shared/errors.ts'
import { carryBytesMax } from '../../io/io.ts'
import { errorFields, int32, isFatal, stringEnd, text } from '../../protocol/read.ts'
import { BackendTag, TransactionStatus } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import type { Client } from './client.ts'
import { headerBytes, invalidLengthText, readLength } from '../../protocol/framing.ts'
import { wholeBytesMax } from './link.ts'
import { descriptionOf } from '../session/description.ts'
import { contradictsStatements, errorInClientsWords, Named, planHasChanged } from '../session/prepared.ts'
import type { Server } from './server.ts'
import { changesSchema } from '../session/schema-tags.ts'
import { signsOfTag, unseenChange } from '../session/session-state.ts'
import { unnamedFailed } from '../session/unnamed.ts'

// HOT. V8 folds a constant of this module; an imported one is loaded and checked at each use.
const tags = BackendTag
const statuses = TransactionStatus

/**
 * Handles bytes of a server joined with `client`. Returns the offset up to which they were forwarded; the last answer
 * of a transaction ends the link.
 */
export function serverData(server: Server, client: Client, bytes: Uint8Array, start: number, end: number): number {
  const { outstanding } = server
  // Those before `from` have been dealt with, those from `from` to `at` are to be forwarded as they are.
  let from = start
  let at = server.passing === 0 ? start : server.continuePassing(start, end)
  let freed = false
  while (end - at >= headerBytes) {
    const length = readLength(bytes, at)
    if (length === 0) return refuse(server, invalidLengthText, end)
    const next = at + 1 + length
    if (next > end && (length <= wholeBytesMax || mustBeWhole(server, bytes[at] as number, length))) break
    switch (bytes[at]) {
      case tags.DataRow:
      case tags.CopyData:
        break
      case tags.ReadyForQuery:
        server.becameReady(bytes[at + headerBytes] as number)
        if (server.status !== statuses.Idle && refusesTransactions(server)) {
          sendUpTo(client, bytes, from, at)
          client.fatal(sqlstates.protocol_violation, noTransactionsText)
          return end
        }
        if (server.watch.dirty && server.watch.resets && outstanding.empty && server.restores(client)) {
          // The client gets this ReadyForQuery when its session has again what it began with.
          sendUpTo(client, bytes, from, at)
          server.restore(client)
          return next
        }
        client.goOn()
        freed = endQuery(client, server)
        break
      case tags.CommandComplete:
        outstanding.executed()
        noteCompleted(server, client, bytes, at + headerBytes, next, end)
        break
      case tags.ParseComplete:
        if (!outstanding.parsed()) from = leaveOut(bytes, from, at, next, end)
        break
      case tags.BindComplete:
        outstanding.bound()
        break
      case tags.RowDescription:
      case tags.NoData:
        if (!outstanding.keepsDescription) outstanding.described()
        else if (noteDescription(server, bytes, at, next, end)) from = leaveOut(bytes, from, at, next, end)
        break
      default:
        from = passRare(replyAt(server, client, bytes, from, at, next, end))
        if (server.list === null) return end
    }
    if (next > end) {
      at = server.pass(next, end)
      break
    }
    at = next
    if (freed) break
    if (outstanding.localDue) {
      from = sendUpTo(client, bytes, from, at)
      answerLocally(client, server)
    }
  }
  const sent = at > from ? client.socket.send(bytes, from, at) : client.socket.queuedBytes === 0
  if (!sent && !freed) server.socket.pauseReading()
  if (outstanding.lost) return refuse(server, 'unexpected response without a request', end)
  if (freed) client.endTransaction(server)
  return at
}

/** The server violates the protocol. Returns the offset up to which bytes are handled. */
function refuse(server: Server, message: string, end: number): number {
  server.close('protocol_error', { message })
  return end
}

/** Returns the offset from which the server's bytes continue. */
function sendUpTo(client: Client, bytes: Uint8Array, from: number, at: number): number {
  if (at > from) client.socket.send(bytes, from, at)
  return at
}

/**
 * The answer to a request of ours, from `at` to `next`, is not forwarded: what is before it moves up to what follows, so
 * that both leave by one send, and the client is woken once. Returns the offset from which the server's bytes continue.
 */
function leaveOut(bytes: Uint8Array, from: number, at: number, next: number, end: number): number {
  if (next > end) return from
  const start = next - (at - from)
  if (at > from) bytes.copyWithin(start, from, at)
  return start
}

/** One message of a server: it begins at `at` and ends before `next`, beyond `end` if it has not arrived completely. */
interface Reply {
  server: Server
  client: Client
  bytes: Uint8Array
  /** Start of the server's bytes that were not sent yet. */
  from: number
  at: number
  next: number
  end: number
}

/** Reused for each message, so that none is allocated. */
let reused: Reply | null = null

function replyAt(
  server: Server,
  client: Client,
  bytes: Uint8Array,
  from: number,
  at: number,
  next: number,
  end: number,
): Reply {
  if (reused === null) reused = { server, client, bytes, from, at, next, end }
  reused.server = server
  reused.client = client
  reused.bytes = bytes
  reused.from = from
  reused.at = at
  reused.next = next
  reused.end = end
  return reused
}

/** Messages that most transactions do without. Returns the offset from which the server's bytes continue. */
function passRare(reply: Reply): number {
  const { server, client, bytes, from, at, next, end } = reply
  const { outstanding } = server
  switch (bytes[at]) {
    case tags.EmptyQueryResponse:
    case tags.PortalSuspended:
      outstanding.executed()
      return from
    case tags.CloseComplete:
      return outstanding.closed() ? from : leaveOut(bytes, from, at, next, end)
    case tags.ParameterDescription:
      if (outstanding.describesOwn) return leaveOut(bytes, from, at, next, end)
      if (next <= end) outstanding.beingDescribed?.fixTypes(bytes, at + headerBytes, next)
      return from
    case tags.CopyInResponse:
      outstanding.copyIn()
      return from
    case tags.ErrorResponse:
      return passError(reply)
    case tags.ParameterStatus:
      if (next <= end) noteParameter(server, client, bytes, at + headerBytes, next)
      return from
    case tags.NotificationResponse:
      if (next <= end) nameNotifier(server, client, bytes, at + headerBytes)
      return from
    case tags.FunctionCallResponse:
    case tags.CopyOutResponse:
    case tags.CopyBothResponse:
    case tags.CopyDone:
    case tags.NoticeResponse:
      return from
    default:
      return refuse(server, `unexpected message type ${bytes[at]}`, end)
  }
}

/**
 * NotificationResponse: Int32 process id, String channel, String payload. A client that notifies itself knows itself by
 * the process id it was given, not by its server's.
 */
export function nameNotifier(server: Server, client: Client, bytes: Uint8Array, start: number): void {
  const { backendKey } = server
  const { cancelKey } = client
  if (backendKey === null || cancelKey === null || int32(bytes, start) !== backendKey.pid) return
  bytes[start] = cancelKey.pid >>> 24
  bytes[start + 1] = cancelKey.pid >>> 16
  bytes[start + 2] = cancelKey.pid >>> 8
  bytes[start + 3] = cancelKey.pid
}

/** Sends local answers that are due. */
export function answerLocally(client: Client, server: Server): void {
  for (;;) {
    const answer = server.outstanding.local()
    if (answer === null) return
    client.socket.send(answer, 0, answer.length)
  }
}

function refusesTransactions({ serverSet, replication }: Server): boolean {
  return serverSet.settings.poolMode === 'statement' && replication === null
}

/** HOT. CommandComplete: what the command has left in the session. */
function noteCompleted(
  server: Server,
  client: Client,
  bytes: Uint8Array,
  start: number,
  next: number,
  end: number,
): void {
  // The last character before the NUL.
  if ((bytes[next - 2] as number) > digitMax) {
    if (server.serverSet.settings.poolMode !== 'session') noteTag(server, bytes, start, Math.min(next, end))
    else if (server.watch.resets) noteReset(server, bytes, start, Math.min(next, end))
    if (changesSchema(bytes, start, Math.min(next, end))) server.changesSchema()
  }
  if (server.statements !== null || client.statements !== null) {
    noteDiscarded(server, client, bytes, start, Math.min(next, end))
  }
}

/** At ReadyForQuery: updates statistics, and returns whether the server is free. */
function endQuery(client: Client, server: Server): boolean {
  if (server.outstanding.empty) client.countQuery()
  if (server.watch.dirty || server.status !== statuses.Idle) {
    server.watch.ready(server.status !== statuses.Idle, server.outstanding.empty)
  }
  if (server.status !== statuses.Idle) return false
  server.transactionEnded()
  client.countTransaction()
  if (!server.outstanding.empty || client.midMessage) return false
  return client.leavesAtTransactionEnd(server)
}

/**
 * An error, with the client's name of a statement in place of the server's. Returns the offset from which the server's
 * bytes continue.
 */
function passError({ server, client, bytes, from, at, next, end }: Reply): number {
  const { outstanding } = server
  const fields = errorFields(bytes, at + headerBytes, Math.min(next, end))
  const refusal = fields.code === sqlstates.invalid_sql_statement_name ? outstanding.refusal : undefined
  let told = refusal ?? null
  if (told === null && client.statements !== null && next <= end) {
    told = errorInClientsWords(client.statements, outstanding.askedName, bytes, at, next)
  }
  outstanding.failed()
  server.watch.failed()
  unnamedFailed(client, server)
  const { code } = refusal === undefined ? fields : errorFields(refusal, headerBytes, refusal.length)
  client.pool.noteServerError(code)
  if (outstanding.failedSubject instanceof Named) client.pool.statements.doubt(outstanding.failedSubject.statement)
  if (refusal === undefined && contradictsStatements(fields)) server.statements?.doubt()
  if (refusal === undefined && planHasChanged(fields)) server.serverSet.schema.changed()
  if (isFatal(fields.severity)) {
    server.fatal = { sqlstate: fields.code, message: fields.message, forwarded: true }
  }
  if (told === null) return from
  sendUpTo(client, bytes, from, at)
  client.socket.send(told, 0, told.length)
  return next
}

/** A description that is kept is read whole, if the loop can keep it for as long. */
function mustBeWhole(server: Server, tag: number, length: number): boolean {
  if (tag !== tags.RowDescription && tag !== tags.ParameterDescription) return false
  return length < carryBytesMax && server.outstanding.keepsDescription
}

/** A server's description of a statement. True if we requested it, so that it is not for the client. */
function noteDescription(server: Server, bytes: Uint8Array, at: number, next: number, end: number): boolean {
  const { outstanding } = server
  const tag = bytes[at] as number
  const whole = next <= end
  if (outstanding.describesOwn) {
    if (!whole) server.close('protocol_error', { message: 'the description of a prepared statement is too long' })
    else outstanding.describedOwn(descriptionOf(tag, bytes, at + headerBytes, next))
    return true
  }
  const subject = outstanding.described()
  if (subject === null || !whole) return false
  subject.describe(tag, bytes, at + headerBytes, next)
  if (subject instanceof Named) server.statements?.describe(subject.statement, subject.description)
  return false
}

/**
 * A parameter that changed under this client follows it to its next server; the promotion of a standby concerns all.
 */
export function noteParameter(server: Server, client: Client, bytes: Uint8Array, start: number, end: number): void {
  const [parameter, value] = server.noteParameter(bytes, start, end)
  const name = parameter.toLowerCase()
  if (name === 'in_hot_standby') client.pool.noteReported(parameter, value)
  if (!server.serverSet.followed.has(name)) return
  // The value that a session begins with is no setting of its own.
  const own = server.initial.get(name) !== value || client.startup.values.has(name)
  client.have(client.parameters.with(name, own ? value : null))
  server.follow(client.parameters)
}

/** Signs of what a command has left in the session. */
function noteTag(server: Server, bytes: Uint8Array, start: number, end: number): void {
  server.watch.tagged(isRollback(bytes, start))
  const signs = signsOfTag(bytes, start, end)
  if (signs !== null) server.note(signs)
}

/** HOT. ROLLBACK, to a savepoint too; no other tag begins like it. */
function isRollback(bytes: Uint8Array, start: number): boolean {
  return bytes[start] === letterR && bytes[start + 1] === letterO
}

/** In session mode only a RESET matters, which takes away what the client began with. */
function noteReset(server: Server, bytes: Uint8Array, start: number, end: number): void {
  server.watch.tagged(isRollback(bytes, start))
  const signs = signsOfTag(bytes, start, end)
  if (signs?.set === true) server.watch.set(unseenChange)
}

/** At a ReadyForQuery that was held back: the client gets it, and the link ends as usual. */
export function endRestoring(client: Client, server: Server): void {
  client.tell(write.readyForQuery(String.fromCharCode(server.status) as 'I' | 'T' | 'E'))
  client.goOn()
  if (endQuery(client, server)) client.endTransaction(server)
}

/** A command dropped statements of the session: DEALLOCATE, DEALLOCATE ALL or DISCARD ALL. */
function noteDiscarded(server: Server, client: Client, bytes: Uint8Array, start: number, end: number): void {
  // HOT for all others: few tags begin with "DE" or "DI", and their third letters differ.
  const third = bytes[start + 2]
  if (bytes[start] !== letterD || (third !== letterA && third !== letterS)) return
  const tag = text(bytes, start, stringEnd(bytes, start, end))
  if (tag === 'DEALLOCATE') {
    const name = client.statements?.deallocating.shift()
    if (name !== undefined) client.statements?.remove(name)
    server.statements?.doubt()
  }
  if (tag !== 'DEALLOCATE ALL' && tag !== 'DISCARD ALL') return
  client.statements?.clearSettled()
  // What was sent after it may have been prepared since.
  if (server.outstanding.noted) server.statements?.doubt()
  else server.statements?.clear()
}

const letterA = 0x41
const letterD = 0x44
const letterO = 0x4f
const letterR = 0x52
const letterS = 0x53

/** '9' in ASCII: the last character of a tag that counts rows is not above it. */
const digitMax = 0x39

/** PgBouncer's text. */
const noTransactionsText = 'transaction blocks not allowed in statement pooling mode'
