/**
 * HOT. Messages of a client to the server it is joined with. They are walked by offset and forwarded in the longest
 * contiguous run by one send; nothing here allocates, awaits or logs per message. See bench/README.md for the cost of a
 * transaction.
 */
import assert from 'node:assert/strict'
import { sqlstates } from '../../../shared/errors.ts'
import { stringEnd, text } from '../../protocol/read.ts'
import { FrontendTag, invalidTypeText, isRequestTag, TransactionStatus } from '../../protocol/tags.ts'
import type { Client } from './client.ts'
import { headerBytes, invalidLengthText, readLength } from '../../protocol/framing.ts'
import { wholeBytesMax } from './link.ts'
import { RequestKind } from '../session/outstanding.ts'
import { Parameters } from '../session/parameters.ts'
import type { Described } from '../session/outstanding.ts'
import { answerLocally } from './replies.ts'
import { rename } from './statement-names.ts'
import { Outcome, pass } from './statement-request.ts'
import type { Request } from './statement-request.ts'
import { takesBack } from '../session/settings-text.ts'
import type { SettingsChange } from '../session/settings-text.ts'
import { SendBuffer } from '../wire/send-buffer.ts'
import type { Server } from './server.ts'
import { maySet, runsNothing, signsOfText } from '../session/session-state.ts'
import { isUnnamedStatement, lacksUnnamed, parsedUnnamed, parseUnkept, unnamedGone } from '../session/unnamed.ts'

// HOT. V8 folds a constant of this module; an imported one is loaded and checked at each use.
const tags = FrontendTag
const statuses = TransactionStatus
const kinds = RequestKind

/** Handles bytes of a client joined with `server`. Returns the offset up to which they were forwarded. */
export function clientData(client: Client, server: Server, bytes: Uint8Array, start: number, end: number): number {
  client.beginTransaction()
  // Remains of a client that was disconnected in between.
  if (sendBuffer.length > 0) sendBuffer.clear()
  if (watches(server)) server.unnamed.share()
  const renaming = renames(client, server)
  // In session mode the session's unnamed statement is the client's, once it is no other client's.
  const owns = server.unnamed.shared && server.replication === null
  // Bytes before `from` have been dealt with; those from `from` to `at` are to be forwarded as they are.
  let from = start
  let at = start
  if (client.passing > 0) {
    at = client.continuePassing(start, end)
    from = client.forwardFrom(bytes, start, at)
  }
  while (end - at >= headerBytes) {
    const tag = bytes[at] as number
    const length = readLength(bytes, at)
    if (!isRequestTag(tag) || length === 0 || tag === tags.Terminate) break
    const next = at + 1 + length
    // Of a longer message the first byte of the body is needed: for a Parse it tells whether it has a name.
    if (next > end && (length <= wholeBytesMax || end - at === headerBytes)) break
    if ((renaming && mayBeNamed(tag, bytes, at + headerBytes, end)) || (owns && lacksUnnamed(client, server, tag))) {
      const request = requestAt(client, server, bytes, from, at, next, end)
      const outcome = renameIn(client, request)
      from = request.from
      if (outcome === Outcome.Refused) return end
      if (outcome === Outcome.Replaced) {
        at = client.pass(next, end)
        continue
      }
      if (outcome === Outcome.TooLongToKeep) at = end
      if (outcome !== Outcome.AsItIs) break
    }
    switch (tag) {
      case tags.Query:
        recordQuery(client, server, bytes, at + headerBytes, Math.min(next, end))
        break
      case tags.Parse:
        recordParse(client, server, bytes, at, next, end, owns)
        break
      case tags.Bind:
        recordBind(client, server, bytes, at + headerBytes, Math.min(next, end), owns)
        break
      case tags.Describe:
        owe(client, server, kinds.Describe, owns ? subjectOf(client, bytes, at + headerBytes) : null)
        break
      case tags.Execute:
        recordExecute(client, server)
        break
      case tags.Sync:
        client.beginGroup()
        owe(client, server, kinds.Sync)
        break
      case tags.CopyData:
        break
      default:
        recordRare(client, server, bytes, at, Math.min(next, end))
    }
    if (client.list === null) return end
    at = next <= end ? next : client.pass(next, end)
    if (server.watch.dirty && server.watch.resets && waitsForStartupValues(client, server, tag)) break
  }
  if (!forward(server, bytes, from, at)) client.socket.pauseReading()
  if (at < end && !client.awaitsAnswer && endsConnection(client, bytes, at, end)) return end
  if (server.outstanding.noted) answerLocally(client, server)
  if (at > start && server.outstanding.empty && isOver(client, server)) client.endTransaction(server)
  return at
}

/**
 * The transaction may have ended while a long message (CopyData after a failed COPY) was still passing, or without the
 * server.
 */
function isOver(client: Client, server: Server): boolean {
  return server.status === statuses.Idle && !client.midMessage && client.leavesAtTransactionEnd(server)
}

/** The message at `at` was not forwarded: it is incomplete, has to wait, or ends the connection. */
function endsConnection(client: Client, bytes: Uint8Array, at: number, end: number): boolean {
  const tag = bytes[at] as number
  if (!isRequestTag(tag)) client.fatal(sqlstates.protocol_violation, invalidTypeText(tag))
  else if (end - at < headerBytes) return false
  else if (readLength(bytes, at) === 0) client.fatal(sqlstates.protocol_violation, invalidLengthText)
  else if (tag === tags.Terminate) client.terminate()
  return client.list === null
}

// HOT. A request is forwarded: what the server will owe for it, and what it may do to the session. V8 inlines functions
// only while they are short.

function recordQuery(client: Client, server: Server, bytes: Uint8Array, body: number, end: number): void {
  client.beginGroup()
  if (watches(server)) noteQuery(server, bytes, body, end)
  else if (client.startup !== Parameters.none) noteResets(server, bytes, body, end)
  unnamedGone(client, server)
  client.beginQuery()
  owe(client, server, kinds.Query)
}

function recordParse(
  client: Client,
  server: Server,
  bytes: Uint8Array,
  at: number,
  next: number,
  end: number,
  owns: boolean,
): void {
  const body = at + headerBytes
  if (watches(server)) noteParse(client, bytes, body, Math.min(next, end))
  else if (client.startup !== Parameters.none) noteParsedReset(client, bytes, body, Math.min(next, end))
  if (bytes[body] !== 0) {
    owe(client, server, kinds.Parse)
    return
  }
  // Recorded in every mode: the mode may change before the Bind.
  if (owns) parsedUnnamed(client, server, bytes, at, next, end)
  else parseUnkept(client, server)
  owe(client, server, kinds.UnnamedParse)
}

function recordExecute(client: Client, server: Server): void {
  client.beginQuery()
  if (server.strict) server.use()
  owe(client, server, kinds.Execute)
}

function recordBind(client: Client, server: Server, bytes: Uint8Array, body: number, end: number, owns: boolean): void {
  if (client.parsed !== null) server.note(client.parsed)
  if (client.resetting !== null) noteBoundReset(client.resetting, server, bytes, body, end)
  if (bytes[body] === 0 && owns) {
    client.bindPortal(bytes[body + 1] === 0 ? (client.unnamed?.current ?? null) : null)
  }
  owe(client, server, kinds.Bind)
}

function recordRare(client: Client, server: Server, bytes: Uint8Array, at: number, end: number): void {
  switch (bytes[at]) {
    case tags.Close:
      if (isUnnamedStatement(bytes, at + headerBytes)) {
        unnamedGone(client, server)
        owe(client, server, kinds.UnnamedClose)
      } else {
        client.resetting?.delete(text(bytes, at + headerBytes + 1, stringEnd(bytes, at + headerBytes + 1, end)))
        owe(client, server, kinds.Close)
      }
      break
    case tags.FunctionCall:
      client.beginGroup()
      client.beginQuery()
      if (server.strict) server.use()
      owe(client, server, kinds.FunctionCall)
      break
    case tags.CopyDone:
    case tags.CopyFail:
      owe(client, server, kinds.CopyEnd)
      break
    case tags.Flush:
      break
    default:
      assert.fail('a type that a client may send is missing here')
  }
}

/** HOT. Session state is watched where a server serves many clients. */
function watches(server: Server): boolean {
  return server.serverSet.settings.poolMode !== 'session'
}

/** HOT. Whether a message may concern a named prepared statement; a text may by DEALLOCATE. */
function mayBeNamed(tag: number, bytes: Uint8Array, body: number, end: number): boolean {
  switch (tag) {
    case tags.Parse:
      // The name of a long message may not have arrived.
      return body + 1 >= end || bytes[body] !== 0 || mayBeginDeallocate(bytes[body + 1] as number)
    case tags.Bind:
      return body + 1 >= end || bytes[body] !== 0 || bytes[body + 1] !== 0
    case tags.Describe:
    case tags.Close:
      return bytes[body + 1] !== 0
    case tags.Query:
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

/** Replaces what the message names, and does for the client what the outcome needs. */
function renameIn(client: Client, request: Request): Outcome {
  const outcome = rename(sendBuffer, request)
  if (outcome === Outcome.Unsettled) client.waitForAnswer()
  if (outcome === Outcome.TooLongToKeep) {
    const { bytes, at, next, end } = request
    client.gather(bytes, at, end, next - at)
    pass(sendBuffer, request)
    request.from = end
  }
  return outcome
}

/** Reused for each message, so that none is allocated. */
let reused: Request | null = null

function requestAt(
  client: Client,
  server: Server,
  bytes: Uint8Array,
  from: number,
  at: number,
  next: number,
  end: number,
): Request {
  if (reused === null) reused = { client, server, bytes, from, at, next, end }
  reused.client = client
  reused.server = server
  reused.bytes = bytes
  reused.from = from
  reused.at = at
  reused.next = next
  reused.end = end
  return reused
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
  const signs = signsOfText(bytes, start, end, true)
  if (signs !== null) server.note(signs)
  if (server.strict && !runsNothing(bytes, start, end)) server.use()
}

/** HOT. In session mode: what may take away settings that the client began with. */
function noteResets(server: Server, bytes: Uint8Array, start: number, end: number): void {
  if (!maySet(bytes, start, end, true)) return
  const change = signsOfText(bytes, start, end, true)?.change
  if (change !== null && change !== undefined) server.watch.note(change)
}

/** HOT. The same of a statement, which takes them away each time it is bound. */
function noteParsedReset(client: Client, bytes: Uint8Array, start: number, end: number): void {
  const nameEnd = stringEnd(bytes, start, end)
  const resets = nameEnd < end && maySet(bytes, nameEnd + 1, end, false)
  if (!resets && client.resetting === null) return
  const name = text(bytes, start, nameEnd)
  const change = resets ? (signsOfText(bytes, nameEnd + 1, end)?.change ?? null) : null
  client.noteResetting(name, change !== null && takesBack(change) ? change : null)
}

/** Bind: portal, name of the statement … */
function noteBoundReset(
  resetting: ReadonlyMap<string, SettingsChange>,
  server: Server,
  bytes: Uint8Array,
  body: number,
  end: number,
): void {
  const nameAt = Math.min(stringEnd(bytes, body, end) + 1, end)
  const change = resetting.get(text(bytes, nameAt, stringEnd(bytes, nameAt, end)))
  if (change !== undefined) server.watch.note(change)
}

/** Nothing that follows a RESET is forwarded before the session has again what the client began with. */
function waitsForStartupValues(client: Client, server: Server, tag: number): boolean {
  if ((tag !== tags.Query && tag !== tags.Sync) || client.passing > 0) return false
  if (!server.restores(client)) return false
  client.waitForReset()
  return true
}

/** HOT. Signs of what the statement may leave when it is bound: this one, or one whose name is not replaced. */
function noteParse(client: Client, bytes: Uint8Array, start: number, end: number): void {
  const nameEnd = bytes[start] === 0 ? start : stringEnd(bytes, start, end)
  const signs = signsOfText(bytes, Math.min(nameEnd + 1, end), end)
  if (nameEnd === start || signs !== null) client.noteParsed(signs)
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
