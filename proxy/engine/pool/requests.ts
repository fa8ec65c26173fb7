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
import { headerBytes, readLength } from '../wire/conversation.ts'
import { wholeBytesMax } from './link.ts'
import { RequestKind } from '../session/outstanding.ts'
import type { Described } from '../session/outstanding.ts'
import { answerLocally } from './replies.ts'
import { rename } from './statement-names.ts'
import { asItIs, incomplete, refused, tooLongToKeep, unsettled } from './statement-request.ts'
import type { Request } from './statement-request.ts'
import { SendBuffer } from '../wire/send-buffer.ts'
import type { Server } from './server.ts'
import { harmlessSets, maySet, signsOfText } from '../session/session-state.ts'
import { isUnnamedStatement, lacksUnnamed, parsedUnnamed, parseUnkept, unnamedGone } from '../session/unnamed.ts'

/** Handles bytes of a client joined with `server`. Returns the offset up to which they were forwarded. */
export function clientData(client: Client, server: Server, bytes: Uint8Array, start: number, end: number): number {
  client.beginTransaction()
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
  if (watches) server.unnamed.share()
  // In session mode the session's unnamed statement is the client's, once it is no other client's.
  const owns = server.unnamed.shared && server.replication === null
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
        client.beginQuery()
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
          client.bindPortal(bytes[at + headerBytes + 1] === 0 ? (client.unnamed?.current ?? null) : null)
        }
        owe(client, server, RequestKind.Bind)
        break
      case FrontendTag.Describe:
        owe(client, server, RequestKind.Describe, owns ? subjectOf(client, bytes, at + headerBytes) : null)
        break
      case FrontendTag.Execute:
        client.beginQuery()
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
        client.beginQuery()
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
  server.expectSets(harmlessSets(text(bytes, start, stringEnd(bytes, start, end)), (name) => server.follows(name)))
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
