/**
 * Messages of a link that name a prepared statement, in transaction mode: the client's name is replaced by the
 * server's, and a server that lacks the statement gets it first. HOT for Bind and Describe of a statement that the
 * server has: nothing is allocated then.
 */
import { sqlstates } from '../../../shared/errors.ts'
import { carryBytesMax } from '../../io/io.ts'
import { stringEnd, text } from '../../protocol/read.ts'
import { FrontendTag, TransactionStatus } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import type { Client } from './client.ts'
import { headerBytes } from '../wire/conversation.ts'
import { descriptionChanged } from '../session/description.ts'
import { RequestKind } from '../session/outstanding.ts'
import type { Described, Note } from '../session/outstanding.ts'
import {
  deallocatedName,
  deallocatesAll,
  nameStart,
  noName,
  nulAt,
  parseBytesMax,
  portal,
  ServerStatements,
} from '../session/prepared.ts'
import type { ClientStatements, Named, Statement } from '../session/prepared.ts'
import type { SendBuffer } from '../wire/send-buffer.ts'
import type { Server } from './server.ts'
import { closeUnnamed, describeUnnamed, has, lacksUnnamed, parseUnkept, unnamedGone } from '../session/unnamed.ts'
import type { UnnamedChange, UnnamedStatement } from '../session/unnamed.ts'

/** Nothing to replace: the message is forwarded unchanged. */
export const asItIs = -1
/** More bytes are needed. */
export const incomplete = -2
/** The client was disconnected. */
export const refused = -3
/** The message must be whole, and is too long for the loop to keep it. */
export const tooLongToKeep = -4
/** What the name stands for is unknown until an earlier request has been answered. */
export const unsettled = -5
/** The server's description of the statement differs from the one the client was told. */
const changed = -6

/** How far a long message is searched for its name. */
const nameBytesMax = 16_384

/** One message of a client: it begins at `at` and ends before `next`, beyond `end` if it has not arrived completely. */
export interface Request {
  client: Client
  server: Server
  bytes: Uint8Array
  /** Start of the client's bytes that were not added to the output yet. */
  from: number
  at: number
  next: number
  end: number
}

/**
 * Handles the message if it names a prepared statement; its replacement is added to `out`, after the client's bytes
 * before it. Returns the offset from which the client's own bytes continue, or one of the values above.
 */
export function rename(out: SendBuffer, request: Request): number {
  const { client, bytes, at, next, end } = request
  const tag = bytes[at] as number
  if (tag === FrontendTag.Query) return query(out, request)
  const body = at + headerBytes
  const limit = Math.min(next, end)
  const nameAt = nameStart(bytes, tag, body, limit)
  if (nameAt === portal) return asItIs
  const nameEnd = nameAt === noName ? noName : nulAt(bytes, nameAt, limit)
  if (nameEnd === noName) {
    if (next <= end) return asItIs
    if (end - at < nameBytesMax) return incomplete
    client.fatal(sqlstates.program_limit_exceeded, 'the name of a prepared statement is too long')
    return refused
  }
  if (nameAt === nameEnd) return unnamed(out, request, tag, nameAt)
  if (client.statements?.isSettled(bytes, nameAt, nameEnd, client.group) === false) return unsettled
  if (tag === FrontendTag.Parse) return namedParse(out, request, nameAt, nameEnd)
  const { meaning } = client.parameters
  const named = client.statements?.use(bytes, nameAt, nameEnd, meaning)
  if (named === undefined || request.server.outstanding.copying) return asItIs
  const { statement } = named
  if (isAwaited(request, statement)) return unsettled
  pass(out, request)
  if (tag === FrontendTag.Close) return close(request, copy(bytes, nameAt, nameEnd), statement)
  if (tag === FrontendTag.Bind && mayDescribeOtherwise(request.server, named)) {
    const checked = checkDescription(out, request, statement)
    if (checked === changed) return refuseBind(out, request, nameAt, nameEnd)
    return checked
  }

  // Bind or Describe
  provide(out, request, statement)
  const { serverName } = statement
  out.addHeader(tag, next - at - 1 - (nameEnd - nameAt) + serverName.length)
  out.add(bytes, body, nameAt)
  out.addWhole(serverName)
  if (tag === FrontendTag.Bind) {
    client.pool.totals.bind_count++
    if (statement.signs !== null) request.server.note(statement.signs)
    if (bytes[body] === 0) client.bound = named
    client.preparedAnew = null
    owe(request, RequestKind.Bind)
  } else {
    oweDescribe(request, named)
  }
  return goOn(request, nameEnd)
}

/** Adds the client's bytes before this message to the output. */
function pass(out: SendBuffer, request: Request): void {
  out.add(request.bytes, request.from, request.at)
  request.from = request.at
}

function oweDescribe({ client, server }: Request, subject: Described): void {
  if (server.outstanding.push(RequestKind.Describe, undefined, subject)) return
  client.fatal(sqlstates.program_limit_exceeded, tooManyRequests)
}

/** HOT. The client was told the statement's description, and the server's would differ, or is unknown. */
function mayDescribeOtherwise(server: Server, named: Named): boolean {
  const { description, statement } = named
  if (description === null || server.statements?.description(statement) === description) return false
  return !server.outstanding.skipping && server.status !== TransactionStatus.Failed
}

/**
 * Requests the server's description of the statement, while nothing of the client is forwarded: PostgreSQL rejects a
 * statement whose columns have changed since they were described, so the client must be rejected too.
 */
function checkDescription(out: SendBuffer, request: Request, statement: Statement): number {
  const { client, server } = request
  if (server.outstanding.ownDescribeOwed) return unsettled
  const known = server.statements
  if (known?.has(statement) === true && known.description(statement) !== null) {
    // The server prepared it before or after the client was told: preparing it anew decides.
    if (client.preparedAnew === statement) return changed
    takeOff(out, request, statement)
    client.preparedAnew = statement
  }
  provide(out, request, statement)
  out.addWhole(statement.describe)
  return ask(out, request, (description) => server.statements?.describe(statement, description))
}

/** Our Describe, added before, leaves at once; the client continues when it is answered. */
function ask(out: SendBuffer, request: Request, described: (description: string) => void): number {
  const { client } = request
  const goesOn = (): void => client.goOn()
  out.addWhole(flush)
  owe(request, RequestKind.OwnDescribe, {
    described: (description) => {
      described(description)
      goesOn()
    },
    dropped: goesOn,
  })
  return client.list === null ? refused : unsettled
}

/** Forwards a Bind with a name that does not exist, so that the transaction fails as it should. */
function refuseBind(out: SendBuffer, request: Request, nameAt: number, nameEnd: number): number {
  const { client, bytes, at, next } = request
  client.preparedAnew = null
  client.pool.totals.bind_count++
  out.addHeader(FrontendTag.Bind, next - at - 1 - (nameEnd - nameAt) + nowhere.length)
  out.add(bytes, at + headerBytes, nameAt)
  out.addWhole(nowhere)
  owe(request, RequestKind.RefusedBind, { refusal: descriptionChanged })
  return goOn(request, nameEnd)
}

/** A view would change with the buffer. */
function copy(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return Uint8Array.from(bytes.subarray(start, end))
}

function goOn({ client }: Request, offset: number): number {
  return client.list === null ? refused : offset
}

function owe({ client, server }: Request, kind: RequestKind, note?: Note): void {
  if (server.outstanding.push(kind, note)) return
  client.fatal(sqlstates.program_limit_exceeded, tooManyRequests)
}

/** The name is dropped; the statement stays on the server for others, or until room is needed. */
function close(request: Request, name: Uint8Array, statement: Statement): number {
  const { client } = request
  const names = client.namesOfStatements()
  names.remove(name)
  const settle = settling(client, names, name, statement)
  owe(request, RequestKind.Local, {
    answer: write.closeComplete,
    done: settle,
    dropped: () => {
      names.restore(name, statement)
      settle()
    },
  })
  return goOn(request, request.next)
}

/**
 * Returns the function to call when the outcome for the name is known, which is created, or taken `from` a statement; a
 * client that waited for it continues.
 */
function settling(client: Client, names: ClientStatements, name: Uint8Array, from: Statement | null): () => void {
  const settle = names.unsettle(name, from, client.group)
  return () => {
    settle()
    client.goOn()
  }
}

function namedParse(out: SendBuffer, request: Request, nameAt: number, nameEnd: number): number {
  const { client, server, bytes, at, next, end } = request
  if (server.outstanding.copying) return asItIs
  if (next > end) return gather(client, next - at)
  const textAndTypes = rewritten(client, bytes.subarray(nameEnd + 1, next))
  const held = client.statements?.get(bytes, nameAt, nameEnd)
  if (isAwaited(request, held ?? client.pool.statements.find(textAndTypes, client.parameters.meaning))) return unsettled
  pass(out, request)
  const { totals } = client.pool
  totals.client_parse_count++
  if (held !== undefined) {
    // PostgreSQL should report that the name exists (42P05), unless the new text is invalid, which it checks first.
    provide(out, request, held)
    out.addWhole(write.parseMessage(held.serverName.toString(), bytes.subarray(nameEnd + 1, next)))
    totals.server_parse_count++
    owe(request, RequestKind.NamedParse, { name: copy(bytes, nameAt, nameEnd) })
    return goOn(request, next)
  }

  const name = copy(bytes, nameAt, nameEnd)
  const names = client.namesOfStatements()
  const statement = names.add(name, textAndTypes, client.parameters.meaning)
  const settle = settling(client, names, name, null)
  const forget = (): void => {
    names.remove(name, statement)
    settle()
  }
  const known = server.statements
  if (known?.has(statement) === true) {
    if (server.status !== TransactionStatus.Failed && !server.outstanding.readyOwed) {
      known.touch(statement)
      owe(request, RequestKind.Local, { answer: write.parseComplete, done: settle, dropped: forget })
      return goOn(request, next)
    }
    // In a failed transaction, or one that may fail before, PostgreSQL rejects a Parse unless it ends it: prepare anew.
    takeOff(out, request, statement)
  }
  const given = give(out, request, statement)
  owe(request, RequestKind.NamedParse, {
    name,
    done: () => {
      given.done()
      settle()
    },
    dropped: () => {
      given.dropped()
      forget()
    },
  })
  makeRoom(out, request)
  return goOn(request, next)
}

/** Bind and Describe of the client's unnamed statement, which the server lacks or may have lost. */
function unnamed(out: SendBuffer, request: Request, tag: number, nameAt: number): number {
  const { client, server, at } = request
  if (tag === FrontendTag.Parse) return unnamedParse(out, request, nameAt)
  if (server.outstanding.skipping || !lacksUnnamed(client, server, tag)) return asItIs
  const own = client.unnamed
  if (own?.unanswered === true && own.group !== client.group) {
    // Whether the Parse is executed is known when its Sync was answered.
    if (server.outstanding.readyOwed) return unsettled
    own.unanswered = false
    if (!lacksUnnamed(client, server, tag)) return asItIs
  }
  pass(out, request)
  const change = own?.current ?? null
  const asked = own === null || change === null ? giveNone(out, request) : giveUnnamed(out, request, own, change, tag)
  if (asked === changed) return refuseBind(out, request, nameAt, nameAt)
  if (asked !== asItIs) return asked
  if (tag === FrontendTag.Bind) {
    if (client.parsed !== null) server.note(client.parsed)
    if (request.bytes[at + headerBytes] === 0) client.bound = change
    owe(request, RequestKind.Bind)
  } else if (change === null) {
    owe(request, RequestKind.Describe)
  } else {
    oweDescribe(request, change)
  }
  return goOn(request, at)
}

/** The client has no unnamed statement, so the server must have none either. */
function giveNone(out: SendBuffer, request: Request): number {
  request.server.unnamedOf = null
  out.addWhole(closeUnnamed)
  owe(request, RequestKind.OwnClose, {})
  return asItIs
}

/** The client's last Parse is sent to a server that lacks it; its description must be the one the client was told. */
function giveUnnamed(
  out: SendBuffer,
  request: Request,
  own: UnnamedStatement,
  change: UnnamedChange,
  tag: number,
): number {
  const { server } = request
  const { parse, stamp } = change
  const asks = tag === FrontendTag.Bind && change.told && server.status !== TransactionStatus.Failed
  const there = server.unnamedOf === own && server.unnamedStamp === stamp
  if (there && server.unnamedSure) {
    if (!asks || server.unnamedDescription === null || server.unnamedDescription === change.description) return asItIs
    return changed
  }
  if (parse === null) return giveNone(out, request)
  // Requested already: another answer has made the client go on.
  if (server.outstanding.ownDescribeOwed) return unsettled
  out.addWhole(parse)
  has(server, own, stamp)
  server.unnamedSure = false
  // By the time of the answer the client may have parsed another one.
  const stillThere = (): boolean => server.unnamedOf === own && server.unnamedStamp === stamp
  owe(request, RequestKind.OwnParse, {
    done: () => {
      if (stillThere()) server.unnamedSure = true
    },
    dropped: () => {
      if (stillThere()) server.unnamedOf = null
    },
  })
  if (!asks) return asItIs
  out.addWhole(describeUnnamed)
  return ask(out, request, (description) => {
    if (stillThere()) server.unnamedDescription = description
  })
}

/** An unnamed statement is forwarded, unless it deallocates a name of the client's, which differs on the server. */
function unnamedParse(out: SendBuffer, request: Request, nameEnd: number): number {
  const { client, server, bytes, next, end } = request
  if (!mayDeallocate(bytes, nameEnd + 1, end) || next > end) return asItIs
  const sql = text(bytes, nameEnd + 1, stringEnd(bytes, nameEnd + 1, next))
  if (deallocatesAll(sql)) server.statements?.doubt()
  const name = ownName(client, sql)
  if (name === null) return asItIs
  if (isAwaited(request, name.statement)) return unsettled
  pass(out, request)
  provide(out, request, name.statement)
  out.addWhole(write.parseMessage('', rewritten(client, bytes.subarray(nameEnd + 1, next))))
  // Its text contains a name of the client's, which is valid here and now only.
  parseUnkept(client, server)
  client.statements?.deallocating.push(name.name)
  owe(request, RequestKind.UnnamedParse)
  return goOn(request, next)
}

/** A simple query is forwarded, unless it is a DEALLOCATE of a name of the client's, which is executed here. */
function query(out: SendBuffer, request: Request): number {
  const { client, server, bytes, at, next, end } = request
  const body = at + headerBytes
  if (!mayDeallocate(bytes, body, end) || next > end) return asItIs
  const sql = text(bytes, body, stringEnd(bytes, body, next))
  if (deallocatesAll(sql)) server.statements?.doubt()
  if (!server.outstanding.empty || server.status === TransactionStatus.Failed) return asItIs
  const name = ownName(client, sql)
  if (name === null) return asItIs
  pass(out, request)
  client.statements?.remove(name.name)
  unnamedGone(client, server)
  client.answerLocally(write.commandComplete('DEALLOCATE'), server.status)
  return next
}

/** The client's name that a text deallocates, and its statement; null if it is no such text. */
function ownName(client: Client, sql: string): { name: Uint8Array; statement: Statement } | null {
  const said = client.statements === null ? null : deallocatedName(sql)
  if (said === null) return null
  const name = Buffer.from(said)
  const statement = client.statements?.get(name, 0, name.length)
  return statement === undefined ? null : { name, statement }
}

/** What follows the name in a Parse, with the server's name if the text deallocates a name of the client's. */
function rewritten(client: Client, textAndTypes: Uint8Array): Uint8Array {
  if (!mayDeallocate(textAndTypes, 0, textAndTypes.length)) return textAndTypes
  const end = stringEnd(textAndTypes, 0, textAndTypes.length)
  const name = ownName(client, text(textAndTypes, 0, end))
  if (name === null) return textAndTypes
  return Buffer.concat([Buffer.from('DEALLOCATE '), name.statement.serverName, textAndTypes.subarray(end)])
}

/** Cheap check whether the first word can be DEALLOCATE or DISCARD. */
function mayDeallocate(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start
  while (at < end && (bytes[at] as number) <= 0x20 && bytes[at] !== 0) at++
  if (((bytes[at] as number) | 0x20) !== 0x64) return false // d
  const third = (bytes[at + 2] as number) | 0x20
  return third === 0x61 || third === 0x73 // a, s
}

interface Settling {
  done(): void
  dropped(): void
}

/** Makes sure that the server has the statement when it processes what is sent next. */
function provide(out: SendBuffer, request: Request, statement: Statement): void {
  const known = request.server.statements
  if (known?.has(statement) === true) {
    known.touch(statement)
    return
  }
  owe(request, RequestKind.OwnParse, give(out, request, statement))
  makeRoom(out, request)
}

/** Sends the statement's Parse and records that the server will have it; returns the functions that settle this. */
function give(out: SendBuffer, request: Request, statement: Statement): Settling {
  const { client, server } = request
  const known = (server.statements ??= new ServerStatements())
  if (known.doubtful) {
    out.addWhole(statement.close)
    owe(request, RequestKind.OwnClose, {})
  }
  out.addWhole(statement.parse)
  client.pool.totals.server_parse_count++
  return changing(client, known, statement, true)
}

/** The functions that settle a request about a statement; a client that waited for it continues. */
function changing(client: Client, known: ServerStatements, statement: Statement, there: boolean): Settling {
  const change = known.change(statement, client.group, there)
  return {
    done: () => {
      change.done()
      client.goOn()
    },
    dropped: () => {
      change.dropped()
      client.goOn()
    },
  }
}

/** Whether the server has the statement is unknown until earlier requests are answered. */
function isAwaited({ client, server }: Request, statement: Statement | undefined): boolean {
  if (statement === undefined || server.statements === null) return false
  return server.statements.isAwaitedFromBefore(statement, client.group)
}

function takeOff(out: SendBuffer, request: Request, statement: Statement): void {
  const { client, server } = request
  const known = (server.statements ??= new ServerStatements())
  out.addWhole(statement.close)
  owe(request, RequestKind.OwnClose, changing(client, known, statement, false))
}

/** Closes statements above the limit, least recently used first; a portal bound to one remains (manual, Close). */
function makeRoom(out: SendBuffer, request: Request): void {
  const { server } = request
  // The one that is needed now stays in any case.
  const countMax = Math.max(1, server.serverSet.settings.maxPreparedStatements)
  for (;;) {
    const statement = server.statements?.surplus(countMax)
    if (statement === undefined) return
    takeOff(out, request, statement)
  }
}

/** A Parse is kept whole: short ones by the loop, longer ones by the client, up to a limit. */
function gather(client: Client, bytes: number): number {
  if (bytes <= carryBytesMax) return incomplete
  if (bytes <= parseBytesMax) return tooLongToKeep
  client.fatal(sqlstates.program_limit_exceeded, `a named prepared statement must not exceed ${parseBytesMax} bytes`)
  return refused
}

const tooManyRequests = 'too many unanswered requests'
const flush = write.flush()
/** No statement has this name: ours begin with 1. */
const nowhere = Buffer.from('flotilla_0')
