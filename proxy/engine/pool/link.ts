/**
 * HOT. A client and a server joined until the transaction ends (session mode: until the client leaves). Messages are
 * walked by offset and forwarded in the longest contiguous run by one send; nothing here allocates, awaits or logs per
 * message. See bench/README.md for the cost of a transaction.
 *
 * Short messages are forwarded whole, so that an error of our own never lands inside one; a long one passes in pieces
 * as it arrives, so that it uses one read buffer, whatever its size.
 */
import assert from 'node:assert/strict'
import { sqlstates } from '../../../shared/errors.ts'
import { carryBytesMax } from '../../io/io.ts'
import { errorFields, int32, isFatal, stringEnd, text } from '../../protocol/read.ts'
import { BackendTag, FrontendTag, isRequestTag, TransactionStatus } from '../../protocol/tags.ts'
import type { Client } from './client.ts'
import { headerBytes, readLength } from '../wire/conversation.ts'
import { descriptionOf } from '../session/description.ts'
import { RequestKind } from '../session/outstanding.ts'
import type { Described } from '../session/outstanding.ts'
import { contradictsStatements, errorInClientsWords, Named } from '../session/prepared.ts'
import { asItIs, incomplete, refused, rename, tooLongToKeep, unsettled } from './statement-names.ts'
import type { Request } from './statement-names.ts'
import { SendBuffer } from '../wire/send-buffer.ts'
import type { Server } from './server.ts'
import { harmlessSets, maySet, signsOfTag, signsOfText } from '../session/session-state.ts'
import {
  isUnnamedStatement,
  lacksUnnamed,
  parsedUnnamed,
  parseUnkept,
  unnamedFailed,
  unnamedGone,
} from '../session/unnamed.ts'

/** Messages up to this length are forwarded whole. */
export const wholeBytesMax = 16_384

/** Handles bytes of a client joined with `server`. Returns the offset up to which they were forwarded. */
export function clientData(client: Client, server: Server, bytes: Uint8Array, start: number, end: number): number {
  if (client.transactionBeganMs === 0) client.transactionBeganMs = client.context.io.nowMs()
  let from = start
  let at = start
  let leaving = false
  let mayBeOver = false
  if (client.passing > 0) {
    const passed = Math.min(client.passing, end - at)
    client.passing -= passed
    at += passed
    mayBeOver = client.passing === 0
  }
  // Remains of a client that was disconnected in between.
  if (sendBuffer.length > 0) sendBuffer.clear()
  const renaming = renames(client, server)
  const watches = server.serverSet.settings.poolMode !== 'session'
  if (watches) server.unnamedIsShared = true
  // In session mode the session's unnamed statement is the client's, once it is no other client's.
  const owns = server.unnamedIsShared && server.replication === null
  while (client.passing === 0 && end - at >= headerBytes) {
    const length = readLength(bytes, at)
    const tag = bytes[at] as number
    if (!isRequestTag(tag)) break
    if (length < 4) return violation(client, server, bytes, from, at, 'invalid message length', end)
    const next = at + 1 + length
    // Of a longer message the first byte of the body is needed: for a Parse it tells whether it has a name.
    if (next > end && (length <= wholeBytesMax || end - at === headerBytes)) break
    if ((renaming && mayBeNamed(tag, bytes, at + headerBytes, end)) || (owns && lacksUnnamed(client, server, tag))) {
      const onward = renameIn(client, server, bytes, from, at, next, end)
      if (onward === refused) return end
      if (onward === incomplete) break
      if (onward === unsettled) {
        from = (request as Request).from
        client.waitForAnswer()
        break
      }
      if (onward === tooLongToKeep) {
        client.gather(bytes, at, end, next - at)
        const sent = forward(server, bytes, from, at)
        if (!sent) client.socket.pauseReading()
        return end
      }
      if (onward !== asItIs) {
        from = onward
        at = Math.min(next, end)
        client.passing = next - at
        // A DEALLOCATE was answered here, and possibly nothing was sent to the server.
        if (tag === FrontendTag.Query) mayBeOver = true
        continue
      }
    }
    switch (tag) {
      case FrontendTag.Query:
        client.beginGroup()
        if (watches) noteQuery(server, bytes, at + headerBytes, Math.min(next, end))
        unnamedGone(client, server)
        beginQuery(client)
        owe(client, server, RequestKind.Query)
        break
      case FrontendTag.Parse:
        if (watches) noteParse(client, bytes, at + headerBytes, Math.min(next, end))
        if (bytes[at + headerBytes] === 0) {
          // Recorded in every mode: the mode may change before the Bind.
          if (owns) parsedUnnamed(client, server, bytes, at, next, end)
          else parseUnkept(client, server)
          owe(client, server, RequestKind.UnnamedParse)
        } else {
          owe(client, server, RequestKind.Parse)
        }
        break
      case FrontendTag.Bind:
        if (client.parsed !== null) server.note(client.parsed)
        if (owns && bytes[at + headerBytes] === 0) {
          client.bound = bytes[at + headerBytes + 1] === 0 ? (client.unnamed?.current ?? null) : null
        }
        owe(client, server, RequestKind.Bind)
        break
      case FrontendTag.Describe:
        owe(client, server, RequestKind.Describe, owns ? subjectOf(client, bytes, at + headerBytes) : null)
        break
      case FrontendTag.Execute:
        beginQuery(client)
        owe(client, server, RequestKind.Execute)
        break
      case FrontendTag.Close:
        if (isUnnamedStatement(bytes, at + headerBytes)) {
          unnamedGone(client, server)
          owe(client, server, RequestKind.UnnamedClose)
        } else {
          owe(client, server, RequestKind.Close)
        }
        break
      case FrontendTag.Sync:
        client.beginGroup()
        owe(client, server, RequestKind.Sync)
        break
      case FrontendTag.FunctionCall:
        client.beginGroup()
        beginQuery(client)
        owe(client, server, RequestKind.FunctionCall)
        break
      case FrontendTag.CopyDone:
      case FrontendTag.CopyFail:
        owe(client, server, RequestKind.CopyEnd)
        break
      case FrontendTag.CopyData:
      case FrontendTag.Flush:
        break
      case FrontendTag.Terminate:
        leaving = true
        break
      default:
        assert.fail('a type that a client may send is missing here')
    }
    if (leaving) break
    if (client.list === null) return end
    if (next > end) {
      client.passing = next - end
      at = end
      break
    }
    at = next
  }
  if (client.passing === 0 && at < end && !isRequestTag(bytes[at] as number)) {
    return violation(client, server, bytes, from, at, invalidTypeText(bytes[at] as number), end)
  }
  if (!forward(server, bytes, from, at)) client.socket.pauseReading()
  if (leaving) {
    client.terminate()
    return end
  }
  if (server.outstanding.noted) answerLocally(client, server)
  // The transaction may have ended while a long message (CopyData after a failed COPY) was still passing, or without
  // the server.
  if (mayBeOver && client.passing === 0 && server.status === TransactionStatus.Idle && server.outstanding.empty) {
    if (client.leavesAtTransactionEnd(server)) client.endTransaction(server)
  }
  return at
}

/** HOT. Whether a message may concern a named prepared statement; a text may by DEALLOCATE. */
function mayBeNamed(tag: number, bytes: Uint8Array, body: number, end: number): boolean {
  switch (tag) {
    case FrontendTag.Parse:
      // The name of a long message may not have arrived.
      return body + 1 >= end || bytes[body] !== 0 || mayBeginDeallocate(bytes[body + 1] as number)
    case FrontendTag.Bind:
      return body + 1 >= end || bytes[body] !== 0 || bytes[body + 1] !== 0
    case FrontendTag.Describe:
    case FrontendTag.Close:
      return bytes[body + 1] !== 0
    case FrontendTag.Query:
      return mayBeginDeallocate(bytes[body] as number)
    default:
      return false
  }
}

/** A d, or a blank before it. */
function mayBeginDeallocate(byte: number): boolean {
  return (byte | 0x20) === 0x64 || byte <= 0x20
}

const sendBuffer = new SendBuffer()

/** Reused for each message, so that none is allocated. */
let request: Request | null = null

function renameIn(
  client: Client,
  server: Server,
  bytes: Uint8Array,
  from: number,
  at: number,
  next: number,
  end: number,
): number {
  if (request === null) request = { client, server, bytes, from, at, next, end }
  request.client = client
  request.server = server
  request.bytes = bytes
  request.from = from
  request.at = at
  request.next = next
  request.end = end
  return rename(sendBuffer, request)
}

/** In transaction mode statements follow the client; a client that has some keeps them when the mode changes. */
function renames(client: Client, server: Server): boolean {
  if (client.statements !== null) return true
  if (server.replication !== null) return false
  const { settings } = server.serverSet
  return settings.maxPreparedStatements > 0 && settings.poolMode !== 'session'
}

/** HOT. Signs of what a simple query may leave in the session. */
function noteQuery(server: Server, bytes: Uint8Array, start: number, end: number): void {
  const signs = signsOfText(bytes, start, end)
  if (signs !== null) server.note(signs)
  if (!maySet(bytes, start, end) || !server.outstanding.empty) return
  server.harmlessSets = harmlessSets(text(bytes, start, stringEnd(bytes, start, end)), (name) => server.follows(name))
}

/** HOT. Signs of what the statement may leave when it is bound: this one, or one whose name is not replaced. */
function noteParse(client: Client, bytes: Uint8Array, start: number, end: number): void {
  const nameEnd = bytes[start] === 0 ? start : stringEnd(bytes, start, end)
  const signs = signsOfText(bytes, Math.min(nameEnd + 1, end), end)
  if (nameEnd === start || signs !== null) client.parsed = signs
}

/**
 * Sends what was rewritten, and then the client's bytes from `from` to `to`, in one send. False if some of it was
 * queued.
 */
function forward(server: Server, bytes: Uint8Array, from: number, to: number): boolean {
  if (sendBuffer.length > 0) {
    sendBuffer.add(bytes, from, to)
    return sendBuffer.sendTo(server.socket)
  }
  if (to === from) return true
  return server.socket.send(bytes, from, to)
}

/** Sends local answers that are due. */
function answerLocally(client: Client, server: Server): void {
  for (;;) {
    const answer = server.outstanding.local()
    if (answer === null) return
    client.socket.send(answer, 0, answer.length)
  }
}

/**
 * A protocol violation of the client: earlier messages are still forwarded, then it gets the error and is disconnected.
 */
function violation(
  client: Client,
  server: Server,
  bytes: Uint8Array,
  from: number,
  at: number,
  reason: string,
  end: number,
): number {
  forward(server, bytes, from, at)
  client.fatal(sqlstates.protocol_violation, reason)
  return end
}

/** PostgreSQL's text. */
export function invalidTypeText(tag: number): string {
  return `invalid frontend message type ${tag}`
}

/**
 * HOT. The statement that keeps the description requested by a Describe: the unnamed statement, or the one that the
 * unnamed portal was bound to, unless the client was told it already. Others are found by name.
 */
function subjectOf(client: Client, bytes: Uint8Array, body: number): Described | null {
  if (bytes[body + 1] !== 0) return null
  if (isUnnamedStatement(bytes, body)) return client.unnamed?.current ?? null
  return client.bound === null || client.bound.description !== null ? null : client.bound
}

function owe(client: Client, server: Server, request: RequestKind, subject: Described | null = null): void {
  if (server.outstanding.push(request, undefined, subject)) return
  client.fatal(sqlstates.program_limit_exceeded, 'too many unanswered requests')
}

function beginQuery(client: Client): void {
  client.pool.totals.query_count++
  if (client.queryBeganMs === 0) client.queryBeganMs = client.context.io.nowMs()
}

/**
 * Handles bytes of a server joined with `client`. Returns the offset up to which they were forwarded; the last answer
 * of a transaction ends the link.
 */
export function serverData(server: Server, client: Client, bytes: Uint8Array, start: number, end: number): number {
  const { outstanding } = server
  const watches = server.serverSet.settings.poolMode !== 'session'
  let from = start
  let at = start
  let freed = false
  if (server.passing > 0) {
    const passed = Math.min(server.passing, end - at)
    server.passing -= passed
    at += passed
  }
  while (server.passing === 0 && end - at >= headerBytes) {
    const length = readLength(bytes, at)
    if (length < 4) {
      server.close('protocol_error', { message: 'invalid message length' })
      return end
    }
    const next = at + 1 + length
    if (next > end && (length <= wholeBytesMax || mustBeWhole(server, bytes[at] as number, length))) break
    let ours = false
    switch (bytes[at]) {
      case BackendTag.DataRow:
      case BackendTag.CopyData:
        break
      case BackendTag.ReadyForQuery:
        server.status = bytes[at + headerBytes] as number
        if (server.status !== TransactionStatus.Idle && refusesTransactions(server)) {
          if (at > from) client.socket.send(bytes, from, at)
          client.fatal(sqlstates.protocol_violation, noTransactionsText)
          return end
        }
        outstanding.ready()
        client.goOn()
        freed = endQuery(client, server)
        break
      case BackendTag.CommandComplete:
        outstanding.executed()
        if (watches && (bytes[next - 2] as number) > digitMax) {
          noteTag(server, bytes, at + headerBytes, Math.min(next, end))
        }
        if (server.statements !== null || client.statements !== null) {
          noteDiscarded(server, client, bytes, at + headerBytes, Math.min(next, end))
        }
        break
      case BackendTag.EmptyQueryResponse:
      case BackendTag.PortalSuspended:
        outstanding.executed()
        break
      case BackendTag.ParseComplete:
        ours = !outstanding.parsed()
        break
      case BackendTag.BindComplete:
        outstanding.bound()
        break
      case BackendTag.CloseComplete:
        ours = !outstanding.closed()
        break
      case BackendTag.RowDescription:
      case BackendTag.NoData:
        if (outstanding.keepsDescription) ours = noteDescription(server, bytes, at, next, end)
        else outstanding.described()
        break
      case BackendTag.ParameterDescription:
        ours = outstanding.describesOwn
        break
      case BackendTag.CopyInResponse:
        outstanding.copyIn()
        break
      case BackendTag.ErrorResponse:
        from = passError(server, client, bytes, from, at, next, end)
        break
      case BackendTag.ParameterStatus:
        if (next <= end) noteParameter(server, client, bytes, at + headerBytes, next)
        break
      case BackendTag.FunctionCallResponse:
      case BackendTag.CopyOutResponse:
      case BackendTag.CopyBothResponse:
      case BackendTag.CopyDone:
      case BackendTag.NoticeResponse:
        break
      case BackendTag.NotificationResponse:
        if (next <= end) nameNotifier(server, client, bytes, at + headerBytes)
        break
      default:
        server.close('protocol_error', { message: `unexpected message type ${bytes[at]}` })
        return end
    }
    if (next > end) {
      server.passing = next - end
      at = end
      break
    }
    if (ours) {
      // The answer to a request of ours is not forwarded; what is before it is.
      if (at > from) client.socket.send(bytes, from, at)
      from = next
    }
    at = next
    if (freed) break
    if (outstanding.noted) {
      if (at > from) client.socket.send(bytes, from, at)
      from = at
      answerLocally(client, server)
    }
  }
  const sent = at > from ? client.socket.send(bytes, from, at) : client.socket.queuedBytes === 0
  if (!sent && !freed) server.socket.pauseReading()
  if (outstanding.lost) {
    server.close('protocol_error', { message: 'unexpected response without a request' })
    return end
  }
  if (freed) client.endTransaction(server)
  return at
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

function refusesTransactions({ serverSet, replication }: Server): boolean {
  return serverSet.settings.poolMode === 'statement' && replication === null
}

/** At ReadyForQuery: updates statistics, and returns whether the server is free. */
function endQuery(client: Client, server: Server): boolean {
  const nowMs = client.context.io.nowMs()
  const { totals } = client.pool
  if (client.queryBeganMs !== 0 && server.outstanding.empty) {
    totals.query_time += (nowMs - client.queryBeganMs) * 1000
    client.queryBeganMs = 0
  }
  if (server.harmlessSets.length > 0) server.harmlessSets = []
  if (server.status !== TransactionStatus.Idle) return false
  totals.xact_count++
  totals.xact_time += (nowMs - client.transactionBeganMs) * 1000
  client.transactionBeganMs = 0
  if (!server.outstanding.empty || client.midMessage) return false
  return client.leavesAtTransactionEnd(server)
}

/**
 * An error, with the client's name of a statement in place of the server's. Returns the offset from which the server's
 * bytes continue.
 */
function passError(
  server: Server,
  client: Client,
  bytes: Uint8Array,
  from: number,
  at: number,
  next: number,
  end: number,
): number {
  const { outstanding } = server
  const fields = errorFields(bytes, at + headerBytes, Math.min(next, end))
  const refusal = fields.code === sqlstates.invalid_sql_statement_name ? outstanding.refusal : undefined
  let told = refusal ?? null
  if (told === null && client.statements !== null && next <= end) {
    told = errorInClientsWords(client.statements, outstanding.askedName, bytes, at, next)
  }
  outstanding.failed()
  unnamedFailed(client, server)
  server.serverSet.pool.noteServerError(refusal === undefined ? fields.code : sqlstates.feature_not_supported)
  if (refusal === undefined && contradictsStatements(fields)) server.statements?.doubt()
  if (isFatal(fields.severity)) {
    server.fatal = { sqlstate: fields.code, message: fields.message, forwarded: true }
  }
  if (told === null) return from
  if (at > from) client.socket.send(bytes, from, at)
  client.socket.send(told, 0, told.length)
  return next
}

/** A description that is kept is read whole, if the loop can keep it for as long. */
function mustBeWhole(server: Server, tag: number, length: number): boolean {
  return tag === BackendTag.RowDescription && length < carryBytesMax && server.outstanding.keepsDescription
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
function noteParameter(server: Server, client: Client, bytes: Uint8Array, start: number, end: number): void {
  const [parameter, value] = server.noteParameter(bytes, start, end)
  const name = parameter.toLowerCase()
  if (name === 'in_hot_standby') client.pool.noteReported(parameter, value)
  if (!server.serverSet.followed.has(name)) return
  client.parameters = client.parameters.with(name, value)
  if (client.statements !== null) client.statements.meaningChanged = true
  server.parameters = server.parameters.with(name, value)
}

/** Signs of what a command has left in the session. */
function noteTag(server: Server, bytes: Uint8Array, start: number, end: number): void {
  const signs = signsOfTag(bytes, start, end)
  if (signs === null) return
  const set = signs.settings && bytes[start] === letterS
  if (set && server.harmlessSets.length > 0 && server.harmlessSets.shift() === true) return
  server.note(signs)
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
const letterS = 0x53

/** '9' in ASCII: the last character of a tag that counts rows is not above it. */
const digitMax = 0x39

/** PgBouncer's text. */
const noTransactionsText = 'transaction blocks not allowed in statement pooling mode'
