/**
 * Messages of a link that name a prepared statement, in transaction mode: the client's name is replaced by the
 * server's, and a server that lacks the statement gets it first. HOT for Bind and Describe of a statement that the
 * server has: nothing is allocated then.
 */
import { sqlstates } from '../../../shared/errors.ts'
import { carryBytesMax } from '../../io/io.ts'
import { FrontendTag, TransactionStatus } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { headerBytes } from '../../protocol/framing.ts'
import type { SendBuffer } from '../wire/send-buffer.ts'
import { RequestKind } from '../session/outstanding.ts'
import { namesPortal, nameStart, nulAt } from '../session/prepared.ts'
import type { ClientStatements, Named, Statement } from '../session/prepared.ts'
import { query, rewritten, unnamedParse } from './deallocate.ts'
import { give, isAwaited, makeRoom, provide, takeOff } from './server-copies.ts'
import { ask, goOn, Outcome, owe, oweOf, pass, refuseBind, refuseParse } from './statement-request.ts'
import type { Request } from './statement-request.ts'
import { useUnnamed } from './unnamed-requests.ts'

/** How far a long message is searched for its name. */
const nameBytesMax = 16_384

/**
 * Handles the message if it names a prepared statement; its replacement is added to `out`, after the client's bytes
 * before it.
 */
export function rename(out: SendBuffer, request: Request): Outcome {
  const { client, bytes, at, next, end } = request
  const tag = bytes[at] as number
  if (tag === FrontendTag.Query) return query(out, request)
  const body = at + headerBytes
  const limit = Math.min(next, end)
  if (namesPortal(bytes, tag, body)) return Outcome.AsItIs
  const nameAt = nameStart(bytes, tag, body, limit)
  const nameEnd = nulAt(bytes, nameAt, limit)
  if (nameEnd === limit) {
    if (next <= end) return Outcome.AsItIs
    if (end - at < nameBytesMax) return Outcome.Incomplete
    client.fatal(sqlstates.program_limit_exceeded, 'the name of a prepared statement is too long')
    return Outcome.Refused
  }
  if (nameAt === nameEnd) {
    return tag === FrontendTag.Parse ? unnamedParse(out, request, nameAt) : useUnnamed(out, request, tag, nameAt)
  }
  if (client.statements?.isSettled(bytes, nameAt, nameEnd, client.group) === false) return Outcome.Unsettled
  if (tag === FrontendTag.Parse) return namedParse(out, request, nameAt, nameEnd)
  const { meaning } = client.parameters
  const named = client.statements?.use(bytes, nameAt, nameEnd, meaning)
  if (named === undefined || request.server.outstanding.copying) return Outcome.AsItIs
  const { statement } = named
  if (isAwaited(request, statement)) return Outcome.Unsettled
  pass(out, request)
  if (tag === FrontendTag.Close) return close(request, copy(bytes, nameAt, nameEnd), statement)
  if (tag === FrontendTag.Bind && mayDescribeOtherwise(request, named)) {
    const checked = checkDescription(out, request, statement)
    if (checked === Outcome.Changed) return refuseBind(out, request, nameAt, nameEnd)
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
    if (bytes[body] === 0) client.bindPortal(named)
    client.statements?.bound()
    oweOf(request, RequestKind.Bind, named)
  } else {
    oweOf(request, RequestKind.Describe, named)
  }
  return goOn(request, nameEnd)
}

/** HOT. The client was told the statement's description, and the server's would differ, or is unknown. */
function mayDescribeOtherwise({ server }: Request, named: Named): boolean {
  const { description, statement } = named
  if (description === null || server.statements?.description(statement) === description) return false
  return !server.outstanding.skipping && server.status !== TransactionStatus.Failed
}

/**
 * Requests the server's description of the statement, while nothing of the client is forwarded: PostgreSQL rejects a
 * statement whose columns have changed since they were described, so the client must be rejected too.
 */
function checkDescription(out: SendBuffer, request: Request, statement: Statement): Outcome {
  const { client, server } = request
  if (server.outstanding.ownDescribeOwed) return Outcome.Unsettled
  const known = server.statements
  if (known?.has(statement) === true && known.description(statement) !== null) {
    // The server prepared it before or after the client was told: preparing it anew decides.
    if (client.statements?.isPreparedAnew(statement) === true) return Outcome.Changed
    takeOff(out, request, statement)
    client.statements?.prepareAnew(statement)
  }
  provide(out, request, statement)
  out.addWhole(statement.describe)
  return ask(out, request, (description) => server.statements?.describe(statement, description))
}

/** A view would change with the buffer. */
function copy(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return Uint8Array.from(bytes.subarray(start, end))
}

/** The name is dropped; the statement stays on the server for others, or until room is needed. */
function close(request: Request, name: Uint8Array, statement: Statement): Outcome {
  const { client } = request
  const names = client.namesOfStatements()
  const release = names.hold(statement)
  names.remove(name)
  const settle = settling(request, names, name, statement)
  owe(request, RequestKind.Local, {
    answer: write.closeComplete,
    done: () => {
      release()
      settle()
    },
    dropped: () => {
      names.restore(name, statement)
      release()
      settle()
    },
  })
  return goOn(request, request.next)
}

/**
 * Returns the function to call when the outcome for the name is known, which is created, or taken `from` a statement; a
 * client that waited for it continues.
 */
function settling({ client }: Request, names: ClientStatements, name: Uint8Array, from: Statement | null): () => void {
  const settle = names.unsettle(name, from, client.group)
  return () => {
    settle()
    client.goOn()
  }
}

function namedParse(out: SendBuffer, request: Request, nameAt: number, nameEnd: number): Outcome {
  const { client, server, bytes, next, end } = request
  if (server.outstanding.copying) return Outcome.AsItIs
  if (next > end) return gather(out, request)
  const textAndTypes = rewritten(request, bytes.subarray(nameEnd + 1, next))
  const held = client.statements?.get(bytes, nameAt, nameEnd)
  const under = { meaning: client.parameters.meaning, schema: server.serverSet.schema.version }
  if (isAwaited(request, held ?? client.pool.statements.find(textAndTypes, under))) return Outcome.Unsettled
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
  if (!client.pool.statements.hasRoom(textAndTypes, under, name)) return refuseParse(out, request)
  const names = client.namesOfStatements()
  const statement = names.add(name, textAndTypes, under)
  const settle = settling(request, names, name, null)
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

/** A Parse is kept whole: short ones by the loop, longer ones by the client, as far as there is room for them. */
function gather(out: SendBuffer, request: Request): Outcome {
  const { client, at, next } = request
  const length = next - at
  if (length <= carryBytesMax) return Outcome.Incomplete
  const { memory } = client.pool.statements
  if (length <= memory.textBytesMax && memory.hasRoom(length)) return Outcome.TooLongToKeep
  pass(out, request)
  return refuseParse(out, request)
}
