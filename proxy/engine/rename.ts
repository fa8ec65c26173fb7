/**
 * What a link does with messages that name a prepared statement, in transaction mode: the client's name is exchanged
 * for the server's, and a server that does not have the statement is given it first. HOT for Bind and Describe of a
 * statement that the server has: nothing is allocated then but the name that is looked up.
 */
import { sqlstates } from '../../shared/errors.ts'
import { carryBytesMax } from '../io/io.ts'
import { stringEnd, text } from '../protocol/read.ts'
import { FrontendTag, TransactionStatus } from '../protocol/tags.ts'
import * as write from '../protocol/write.ts'
import type { Client } from './client.ts'
import { headerBytes } from './conversation.ts'
import { RequestKind } from './outstanding.ts'
import {
  deallocatedName,
  deallocatesAll,
  nameStart,
  noName,
  nulAt,
  parseBytesMax,
  portal,
  ServerStatements,
} from './prepared.ts'
import type { Statement } from './prepared.ts'
import type { Server } from './server.ts'

/**
 * What goes to the server in the place of what the client sent: pieces of it and messages of our own, laid side by side
 * so that one send takes them. One for the whole thread; empty between two calls of a link.
 */
export class Rewriting {
  #bytes = Buffer.allocUnsafeSlow(firstRewritingBytes)
  #length = 0

  get length(): number {
    return this.#length
  }

  add(bytes: Uint8Array, start: number, end: number): void {
    const length = end - start
    if (this.#length + length > this.#bytes.length) this.#grow(length)
    if (length <= loopBytesMax) {
      const to = this.#bytes
      for (let at = start, toAt = this.#length; at < end; at++, toAt++) to[toAt] = bytes[at] as number
    } else {
      this.#bytes.set(bytes.subarray(start, end), this.#length)
    }
    this.#length += length
  }

  addHeader(tag: number, length: number): void {
    if (this.#length + headerBytes > this.#bytes.length) this.#grow(headerBytes)
    this.#bytes[this.#length] = tag
    this.#bytes.writeInt32BE(length, this.#length + 1)
    this.#length += headerBytes
  }

  /** False when the server's socket queued some of it. */
  sendTo(server: Server): boolean {
    const sent = server.socket.send(this.#bytes, 0, this.#length)
    this.#length = 0
    return sent
  }

  #grow(length: number): void {
    const larger = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(this.#length + length)))
    larger.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = larger
  }
}

const firstRewritingBytes = 128 * 1024

/** Up to this length a loop is faster than the view that `set` needs, and allocates nothing. */
const loopBytesMax = 128

/** Nothing to exchange: the message passes as it is. */
export const asItIs = -1
/** More bytes are needed before it can be told. */
export const incomplete = -2
/** What the name stands for is not known before a request sent earlier has been answered. */
export const unsettled = -5
/** The message must be whole, and is too long for the loop to keep it. */
export const tooLongToKeep = -4
/** The client has been sent away. */
export const refused = -3

/**
 * Handles the message at `at` if it names a prepared statement. What the client sent before, from `from`, has to be in
 * `out` already when something is added, so it is given along. Returns the offset from which the client's own bytes go
 * on, or one of the three signs above. `next` is where the message ends, beyond `end` if it has not arrived whole.
 */
export function rename(
  client: Client,
  server: Server,
  out: Rewriting,
  bytes: Uint8Array,
  from: number,
  at: number,
  next: number,
  end: number,
): number {
  const tag = bytes[at] as number
  const body = at + headerBytes
  const limit = Math.min(next, end)
  if (tag === FrontendTag.Query) return query(client, server, out, bytes, from, at, next, end)
  const nameAt = nameStart(bytes, tag, body, limit)
  if (nameAt === portal) return asItIs
  const nameEnd = nameAt === noName ? noName : nulAt(bytes, nameAt, limit)
  if (nameEnd === noName) {
    if (next <= end) return asItIs
    if (end - at < nameBytesMax) return incomplete
    client.fatal(sqlstates.program_limit_exceeded, 'the name of a prepared statement is too long')
    return refused
  }
  if (nameAt === nameEnd) {
    if (tag === FrontendTag.Parse) return unnamedParse(client, server, out, bytes, from, at, next, end, nameEnd)
    return asItIs
  }
  if (client.statements?.isSettled(bytes, nameAt, nameEnd) === false) return unsettled
  if (tag === FrontendTag.Parse) return namedParse(client, server, out, bytes, from, at, next, end, nameAt, nameEnd)
  const statement = client.statements?.get(bytes, nameAt, nameEnd)
  if (statement === undefined) return asItIs
  out.add(bytes, from, at)
  switch (tag) {
    case FrontendTag.Close:
      close(client, server, Uint8Array.prototype.slice.call(bytes, nameAt, nameEnd), statement)
      return client.list === null ? refused : next
    case FrontendTag.Bind:
    case FrontendTag.Describe: {
      provide(client, server, out, statement)
      if (client.list === null) return refused
      const { serverName } = statement
      out.addHeader(tag, next - at - 1 - (nameEnd - nameAt) + serverName.length)
      out.add(bytes, body, nameAt)
      out.add(serverName, 0, serverName.length)
      owe(client, server, tag === FrontendTag.Bind ? RequestKind.Bind : RequestKind.Describe)
      if (tag === FrontendTag.Bind) client.name.totals.bind_count++
      return client.list === null ? refused : nameEnd
    }
    default:
      return asItIs
  }
}

function owe(
  client: Client,
  server: Server,
  request: RequestKind,
  note?: Parameters<typeof server.outstanding.push>[1],
): void {
  if (server.outstanding.push(request, note)) return
  client.fatal(sqlstates.program_limit_exceeded, 'too many requests in flight without an answer')
}

/** The name goes; the statement stays on the server for others, or until room is needed. */
function close(client: Client, server: Server, name: Uint8Array, statement: Statement): void {
  const names = client.namesOfStatements()
  names.remove(name)
  const settle = names.unsettle(name)
  owe(client, server, RequestKind.Local, {
    answer: write.closeComplete,
    done: () => settled(client, settle),
    dropped: () => {
      names.restore(name, statement)
      settled(client, settle)
    },
  })
}

/** It is known what became of a name; the client goes on if it waited for that. */
function settled(client: Client, settle: () => void): void {
  settle()
  client.goOn()
}

function namedParse(
  client: Client,
  server: Server,
  out: Rewriting,
  bytes: Uint8Array,
  from: number,
  at: number,
  next: number,
  end: number,
  nameAt: number,
  nameEnd: number,
): number {
  if (next > end) return gather(client, next - at)
  const held = client.statements?.get(bytes, nameAt, nameEnd)
  out.add(bytes, from, at)
  client.name.totals.client_parse_count++
  if (held !== undefined) {
    // PostgreSQL itself is to say that the name is taken (42P05), unless the new text is wrong, which it finds first.
    provide(client, server, out, held)
    const parse = write.parseMessage(held.serverName.toString(), bytes.subarray(nameEnd + 1, next))
    out.add(parse, 0, parse.length)
    client.name.totals.server_parse_count++
    owe(client, server, RequestKind.Parse)
    return client.list === null ? refused : next
  }
  const textAndTypes = rewritten(client, bytes, nameEnd + 1, next)
  const names = client.namesOfStatements()
  const name = Uint8Array.prototype.slice.call(bytes, nameAt, nameEnd)
  const statement = names.add(name, textAndTypes)
  const settle = names.unsettle(name)
  const done = (): void => settled(client, settle)
  const forget = (): void => {
    names.remove(name, statement)
    settled(client, settle)
  }
  const known = server.statements
  if (known?.has(statement) === true) {
    if (server.status !== TransactionStatus.Failed) {
      known.touch(statement)
      owe(client, server, RequestKind.Local, { answer: write.parseComplete, done, dropped: forget })
      return client.list === null ? refused : next
    }
    // In a failed transaction PostgreSQL refuses a Parse, unless it ends the transaction: it is asked anew.
    takeOff(client, server, out, statement)
  }
  const note = give(server, out, statement)
  client.name.totals.server_parse_count++
  owe(client, server, RequestKind.NamedParse, {
    done,
    dropped: () => {
      note.dropped()
      forget()
    },
  })
  makeRoom(client, server, out)
  return client.list === null ? refused : next
}

/** An unnamed statement passes, unless it deallocates a name of the client's, which the server knows by another. */
function unnamedParse(
  client: Client,
  server: Server,
  out: Rewriting,
  bytes: Uint8Array,
  from: number,
  at: number,
  next: number,
  end: number,
  nameEnd: number,
): number {
  if (client.statements === null || client.statements.size === 0 || !mayDeallocate(bytes, nameEnd + 1, end))
    return asItIs
  if (next > end) return asItIs
  const textAndTypes = bytes.subarray(nameEnd + 1, next)
  const statement = deallocated(client, textAndTypes)
  if (statement === null) return asItIs
  out.add(bytes, from, at)
  provide(client, server, out, statement)
  const parse = write.parseMessage('', rewritten(client, bytes, nameEnd + 1, next))
  client.statements?.deallocating.push(
    nameIn(text(textAndTypes, 0, stringEnd(textAndTypes, 0, textAndTypes.length))) as Uint8Array,
  )
  out.add(parse, 0, parse.length)
  client.name.totals.client_parse_count++
  client.name.totals.server_parse_count++
  owe(client, server, RequestKind.Parse)
  return client.list === null ? refused : next
}

/** A simple query passes, unless it is a DEALLOCATE of a name of the client's, which is then done here. */
function query(
  client: Client,
  server: Server,
  out: Rewriting,
  bytes: Uint8Array,
  from: number,
  at: number,
  next: number,
  end: number,
): number {
  const body = at + headerBytes
  if (!mayDeallocate(bytes, body, end) || next > end) return asItIs
  const sql = text(bytes, body, stringEnd(bytes, body, next))
  if (deallocatesAll(sql)) server.statements?.doubt()
  if (client.statements === null || !server.outstanding.empty || server.status === TransactionStatus.Failed)
    return asItIs
  const name = nameIn(sql)
  if (name === null || client.statements.get(name, 0, name.length) === undefined) return asItIs
  out.add(bytes, from, at)
  client.statements.remove(name)
  client.answerLocally(write.commandComplete('DEALLOCATE'), server.status)
  return next
}

/** The statement that `textAndTypes` deallocates under the client's name; null when it does not. */
function deallocated(client: Client, textAndTypes: Uint8Array): Statement | null {
  const sql = text(textAndTypes, 0, stringEnd(textAndTypes, 0, textAndTypes.length))
  const name = nameIn(sql)
  return name === null ? null : (client.statements?.get(name, 0, name.length) ?? null)
}

function nameIn(sql: string): Uint8Array | null {
  const name = deallocatedName(sql)
  return name === null ? null : Buffer.from(name)
}

/** A text that deallocates a name of the client's, with the server's name in it; any other as it is. */
function rewritten(client: Client, bytes: Uint8Array, start: number, end: number): Uint8Array {
  const textAndTypes = bytes.subarray(start, end)
  if (!mayDeallocate(bytes, start, end)) return textAndTypes
  const statement = deallocated(client, textAndTypes)
  if (statement === null) return textAndTypes
  const types = textAndTypes.subarray(stringEnd(textAndTypes, 0, textAndTypes.length))
  return Buffer.concat([Buffer.from('DEALLOCATE '), statement.serverName, types])
}

/** Cheap: whether the first word can be DEALLOCATE or DISCARD. */
function mayDeallocate(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start
  while (at < end && (bytes[at] as number) <= 0x20 && bytes[at] !== 0) at++
  if (((bytes[at] as number) | 0x20) !== 0x64) return false // d
  const third = (bytes[at + 2] as number) | 0x20
  return third === 0x61 || third === 0x73 // a, s
}

/** Makes sure that the server has the statement when it gets to what is sent next. */
function provide(client: Client, server: Server, out: Rewriting, statement: Statement): void {
  const known = server.statements
  if (known?.has(statement) === true) {
    known.touch(statement)
    return
  }
  owe(client, server, RequestKind.OwnParse, give(server, out, statement))
  client.name.totals.server_parse_count++
  makeRoom(client, server, out)
}

/** Sends the statement's Parse and notes that the server will have it. */
function give(server: Server, out: Rewriting, statement: Statement): { dropped: () => void } {
  const known = (server.statements ??= new ServerStatements())
  if (known.doubtful) {
    out.add(statement.close, 0, statement.close.length)
    server.outstanding.push(RequestKind.OwnClose, {})
  }
  out.add(statement.parse, 0, statement.parse.length)
  known.add(statement)
  return { dropped: () => known.remove(statement) }
}

/** A Parse is kept whole: short ones by the loop, longer ones by the client, up to a limit. */
function gather(client: Client, bytes: number): number {
  if (bytes <= carryBytesMax) return incomplete
  if (bytes <= parseBytesMax) return tooLongToKeep
  client.fatal(sqlstates.program_limit_exceeded, `a named statement may have ${parseBytesMax} bytes`)
  return refused
}

function takeOff(client: Client, server: Server, out: Rewriting, statement: Statement): void {
  server.statements?.remove(statement)
  out.add(statement.close, 0, statement.close.length)
  owe(client, server, RequestKind.OwnClose, { dropped: () => server.statements?.add(statement) })
}

/** Takes off what is over the limit, in the order of use; a portal made of it lives on (manual, Close). */
function makeRoom(client: Client, server: Server, out: Rewriting): void {
  // The one that is needed now stays in any case.
  const countMax = Math.max(1, server.pool.settings.maxPreparedStatements)
  for (;;) {
    const statement = server.statements?.surplus(countMax)
    if (statement === undefined) return
    takeOff(client, server, out, statement)
  }
}

/** A long message is looked at this far for the name in it. */
const nameBytesMax = 16_384
