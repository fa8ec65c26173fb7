/**
 * A message of a client that concerns a prepared statement, and how it is answered. What is needed of a client and a
 * server is described here, so that nothing about statements depends on the rest of them.
 */
import { sqlstates } from '../../../shared/errors.ts'
import { FrontendTag } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { headerBytes } from '../../protocol/framing.ts'
import type { SendBuffer } from '../wire/send-buffer.ts'
import { descriptionChanged } from '../session/description.ts'
import { RequestKind } from '../session/outstanding.ts'
import type { Described, Note } from '../session/outstanding.ts'
import type { ClientStatements, ServerStatements, Statements } from '../session/prepared.ts'
import type { Signs } from '../session/session-state.ts'
import type { Owner, Session } from '../session/unnamed.ts'

/** A client, as far as its statements are concerned. */
interface StatementClient extends Owner {
  /** Null once it has left. */
  readonly list: object | null
  readonly parameters: { readonly meaning: string }
  readonly pool: {
    readonly statements: Statements
    readonly totals: { client_parse_count: number; server_parse_count: number; bind_count: number }
  }
  readonly statements: ClientStatements | null
  /** Signs of the statement parsed last; null for none. */
  readonly parsed: Signs | null
  namesOfStatements(): ClientStatements
  /** What it waited for has been answered. */
  goOn(): void
  /** The rest of the present message is not forwarded. */
  dropPassing(): void
  answerLocally(complete: Uint8Array, status: number): void
  fatal(sqlstate: string, message: string): void
}

/** A server, as far as its statements are concerned. */
interface StatementServer extends Session {
  readonly status: number
  readonly statements: ServerStatements | null
  readonly serverSet: {
    readonly settings: { readonly maxPreparedStatements: number }
    readonly schema: { readonly version: number }
  }
  statementsHere(): ServerStatements
  note(signs: Signs): void
}

/** What became of a message. */
export const Outcome = {
  /** Nothing to replace: it is to be forwarded unchanged. */
  AsItIs: 0,
  /** Its replacement was added to the output; the client's own bytes continue at `from`. */
  Replaced: 1,
  /** More bytes are needed. */
  Incomplete: 2,
  /** The client was disconnected. */
  Refused: 3,
  /** It must be whole, and is too long for the loop to keep it. */
  TooLongToKeep: 4,
  /** What the name stands for is unknown until an earlier request has been answered. */
  Unsettled: 5,
  /** The server's description differs from the one the client was told; a Bind is refused for it. */
  Changed: 6,
} as const
export type Outcome = (typeof Outcome)[keyof typeof Outcome]

/** One message of a client: it begins at `at` and ends before `next`, beyond `end` if it has not arrived completely. */
export interface Request {
  client: StatementClient
  server: StatementServer
  bytes: Uint8Array
  /** Start of the client's bytes that were not replaced, and not added to the output yet. */
  from: number
  at: number
  next: number
  end: number
}

/** Adds the client's bytes before this message to the output. */
export function pass(out: SendBuffer, request: Request): void {
  out.add(request.bytes, request.from, request.at)
  request.from = request.at
}

/** The client's own bytes continue at `offset`. */
export function goOn(request: Request, offset: number): Outcome {
  request.from = offset
  return request.client.list === null ? Outcome.Refused : Outcome.Replaced
}

export function owe({ client, server }: Request, kind: RequestKind, note?: Note): void {
  if (server.outstanding.push(kind, note)) return
  client.fatal(sqlstates.program_limit_exceeded, tooManyRequests)
}

/** HOT. A Bind or Describe of `subject`. */
export function oweOf({ client, server }: Request, kind: RequestKind, subject: Described): void {
  if (server.outstanding.push(kind, undefined, subject)) return
  client.fatal(sqlstates.program_limit_exceeded, tooManyRequests)
}

/** Our Describe, added before, leaves at once; the client continues when it is answered. */
export function ask(out: SendBuffer, request: Request, described: (description: string) => void): Outcome {
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
  return client.list === null ? Outcome.Refused : Outcome.Unsettled
}

/** Forwards a Bind with a name that does not exist, so that the transaction fails as it should. */
export function refuseBind(out: SendBuffer, request: Request, nameAt: number, nameEnd: number): Outcome {
  const { client, bytes, at, next } = request
  client.statements?.bound()
  client.pool.totals.bind_count++
  out.addHeader(FrontendTag.Bind, next - at - 1 - (nameEnd - nameAt) + nowhere.length)
  out.add(bytes, at + headerBytes, nameAt)
  out.addWhole(nowhere)
  owe(request, RequestKind.RefusedBind, { refusal: descriptionChanged })
  return goOn(request, nameEnd)
}

/** The server is made to reject a Parse for which there is no room; what has not arrived of it is dropped. */
export function refuseParse(out: SendBuffer, request: Request): Outcome {
  const { client, next, end } = request
  out.addWhole(bindNowhere)
  owe(request, RequestKind.RefusedBind, { refusal: noRoom })
  if (next > end) client.dropPassing()
  return goOn(request, Math.min(next, end))
}

const tooManyRequests = 'too many unanswered requests'
const flush = write.flush()
/** No statement has this name: ours begin with 1. */
const nowhere = Buffer.from('flotilla_0')
/** Portal, statement, no formats, values and formats of results. */
const bindNowhere = write.message(FrontendTag.Bind, Buffer.concat([Buffer.alloc(1), nowhere, Buffer.alloc(7)]))

const noRoom = write.errorResponse({
  severity: 'ERROR',
  code: sqlstates.out_of_memory,
  message: 'no memory is left for this prepared statement',
  detail: 'It is too long, or the proxy keeps too many.',
  hint: 'Close statements that are not used, or raise prepared_statement_memory_mib.',
})
