/** DEALLOCATE of a client's name, which differs on the server: executed here, or sent with the server's name. */
import { stringEnd, text } from '../../protocol/read.ts'
import { TransactionStatus } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { headerBytes } from '../../protocol/framing.ts'
import type { SendBuffer } from '../wire/send-buffer.ts'
import { RequestKind } from '../session/outstanding.ts'
import { deallocatedName, deallocatesAll } from '../session/prepared.ts'
import type { Statement } from '../session/prepared.ts'
import { parseUnkept, unnamedGone } from '../session/unnamed.ts'
import { isAwaited, provide } from './server-copies.ts'
import { goOn, Outcome, owe, pass } from './statement-request.ts'
import type { Request } from './statement-request.ts'

/** A simple query is forwarded, unless it is a DEALLOCATE of a name of the client's, which is executed here. */
export function query(out: SendBuffer, request: Request): Outcome {
  const { client, server, bytes, at, next, end } = request
  const body = at + headerBytes
  if (!mayDeallocate(bytes, body, end) || next > end) return Outcome.AsItIs
  const sql = text(bytes, body, stringEnd(bytes, body, next))
  if (deallocatesAll(sql)) server.statements?.doubt()
  if (!server.outstanding.empty || server.status === TransactionStatus.Failed) return Outcome.AsItIs
  const name = ownName(request, sql)
  if (name === null) return Outcome.AsItIs
  pass(out, request)
  client.statements?.remove(name.name)
  unnamedGone(client, server)
  client.answerLocally(write.commandComplete('DEALLOCATE'), server.status)
  return goOn(request, next)
}

/** An unnamed statement is forwarded, unless it deallocates a name of the client's. */
export function unnamedParse(out: SendBuffer, request: Request, nameEnd: number): Outcome {
  const { client, server, bytes, next, end } = request
  if (!mayDeallocate(bytes, nameEnd + 1, end) || next > end) return Outcome.AsItIs
  const sql = text(bytes, nameEnd + 1, stringEnd(bytes, nameEnd + 1, next))
  if (deallocatesAll(sql)) server.statements?.doubt()
  const name = ownName(request, sql)
  if (name === null) return Outcome.AsItIs
  if (isAwaited(request, name.statement)) return Outcome.Unsettled
  pass(out, request)
  out.addWhole(write.parseMessage('', rewritten(request, bytes.subarray(nameEnd + 1, next))))
  // Its text contains a name of the client's, which is valid here and now only.
  parseUnkept(client, server)
  client.statements?.deallocating.push(name.name)
  owe(request, RequestKind.UnnamedParse)
  // After it: in a failed transaction it must be the client's own Parse that fails, which drops the former statement.
  provide(out, request, name.statement)
  return goOn(request, next)
}

/** The client's name that a text deallocates, and its statement; null if it is no such text. */
function ownName({ client }: Request, sql: string): { name: Uint8Array; statement: Statement } | null {
  const said = client.statements === null ? null : deallocatedName(sql)
  if (said === null) return null
  const name = Buffer.from(said)
  const statement = client.statements?.get(name, 0, name.length)
  return statement === undefined ? null : { name, statement }
}

/** What follows the name in a Parse, with the server's name if the text deallocates a name of the client's. */
export function rewritten(request: Request, textAndTypes: Uint8Array): Uint8Array {
  if (!mayDeallocate(textAndTypes, 0, textAndTypes.length)) return textAndTypes
  const end = stringEnd(textAndTypes, 0, textAndTypes.length)
  const name = ownName(request, text(textAndTypes, 0, end))
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
