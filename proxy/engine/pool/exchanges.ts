/**
 * What the proxy itself says to a server: parameters of the client that comes next, what the session keeps, the end of a
 * failed copy, resets and checks. Each exchange reads up to the end of what it is owed; what follows from the result is
 * decided in server.ts.
 */
import { sqlstates } from '../../../shared/errors.ts'
import type { Message } from '../../protocol/framing.ts'
import { errorAdvice, errorFields, isFatal } from '../../protocol/read.ts'
import type { Advice } from '../../protocol/read.ts'
import { BackendTag } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import type { Learning } from '../session/learning.ts'
import { identities, inOrder } from '../session/parameters.ts'
import type { Adjustment } from '../session/parameters.ts'
import type { StartupValues } from '../session/settings-watch.ts'
import { foundBy, probeOf, resetSettings } from '../session/session-state.ts'
import { nextMessage } from '../wire/conversation.ts'
import type { Conversation, Exchange } from '../wire/conversation.ts'

/** The error of our own request. */
export interface Failure {
  readonly sqlstate: string
  readonly message: string
  readonly advice: Advice
}

/** A server, as far as exchanges with it are concerned. */
interface ExchangeServer {
  readonly conversation: Conversation
  /** Number of cancel requests on their way to it. */
  readonly cancels: number
  /** ReadyForQuery arrived in an exchange, with this indicator. */
  reportStatus(status: number): void
  /** Its FATAL error arrived: it ends the connection. */
  endsWith(sqlstate: string, message: string): void
  noteParameter(bytes: Uint8Array, start: number, end: number): void
  /** A parameter was changed by our request, as the client it is joined with has asked for. */
  passReport(message: Message): void
  /** A message is for the client it is joined with, if any. */
  passOn(message: Message): void
}

export const discardAll = 'DISCARD ALL'

/** How often requests of ours are sent that are canceled each time. */
const attemptsMax = 3

/** Sets the parameters that differ; returns the first error. */
export function* setParameters(server: ExchangeServer, { resetAll, first, set }: Adjustment): Exchange<Failure | null> {
  const messages: Buffer[] = []
  if (resetAll) messages.push(write.query(resetSettings))
  else if (first.length > 0) messages.push(write.query(first.map(resetOf).join('; ')))
  if (set.length > 0) messages.push(write.setConfig(set))
  // Any query is answered with the changes.
  if (messages.length === 0) messages.push(write.query(''))
  return yield* ask(server, Buffer.concat(messages), messages.length)
}

/** Resets a setting under which statements of ours should not run: one of a few names. */
function resetOf(name: string): string {
  if (name === identities[0]) return 'SET SESSION AUTHORIZATION DEFAULT'
  return `RESET ${name}`
}

/** Brings settings back to what the client began with, and tells the client what the server reports of them. */
export function* setStartup(server: ExchangeServer, { session, local }: StartupValues): Exchange<Failure | null> {
  const messages: Buffer[] = []
  if (session.size > 0) messages.push(write.setConfig(inOrder(session)))
  if (local.size > 0) messages.push(write.setConfig(inOrder(local), true))
  // A cancel request that came for the RESET may be late, and hit this.
  return yield* ask(server, Buffer.concat(messages), messages.length, undefined, undefined, (message) =>
    server.passReport(message),
  )
}

/** Asks for the values of settings; `learning` gets the rows. Returns the first error. */
export function* askSettings(server: ExchangeServer, learning: Learning): Exchange<Failure | null> {
  return yield* ask(
    server,
    learning.messages,
    learning.owed,
    (bytes, start) => learning.row(bytes, start),
    () => learning.begin(),
  )
}

/** Sends requests of ours, and again if a cancel request or a timeout of the client's has hit them. */
function* ask(
  server: ExchangeServer,
  messages: Buffer,
  owed: number,
  onRow: (bytes: Uint8Array, start: number) => void = () => {},
  onRepeat: () => void = () => {},
  onReport?: (message: Message) => void,
): Exchange<Failure | null> {
  for (let attempt = 1; ; attempt++) {
    server.conversation.send(messages)
    const failure = yield* untilReady(server, owed, onRow, onReport)
    if (failure?.sqlstate !== sqlstates.query_canceled || attempt === attemptsMax) return failure
    onRepeat()
  }
}

/** Queries which of `asked`, bits of `Kept`, the session keeps; null if the query failed. */
export function* queryKept(server: ExchangeServer, asked: number): Exchange<number | null> {
  let found = 0
  server.conversation.send(write.query(probeOf(asked)))
  const failure = yield* untilReady(server, 1, (bytes, start) => {
    found = foundBy(asked, bytes, start)
  })
  return failure === null ? found : null
}

/** Runs a query; returns the first error. */
export function* run(server: ExchangeServer, sql: string): Exchange<Failure | null> {
  server.conversation.send(write.query(sql))
  return yield* untilReady(server, 1)
}

/** Runs the queries that reset a session; returns the first error. */
export function* reset(server: ExchangeServer, queries: readonly string[]): Exchange<Failure | null> {
  for (;;) {
    // A request for the client that left cancels whatever the server does when it arrives.
    const mayBeCanceled = server.cancels > 0
    server.conversation.send(Buffer.concat(queries.map(write.query)))
    const failure = yield* untilReady(server, queries.length)
    if (!mayBeCanceled || failure?.sqlstate !== sqlstates.query_canceled) return failure
  }
}

/**
 * After a failed copy another ReadyForQuery may come, or not: the answer to an empty query comes after it. Each
 * ReadyForQuery but that of the empty query is the client's.
 */
export function* readToEnd(server: ExchangeServer): Exchange<void> {
  server.conversation.send(write.query(''))
  for (let answered = false; ;) {
    const message = yield* nextMessage(server.conversation)
    const { tag, bytes, start, end } = message
    if (tag === BackendTag.EmptyQueryResponse) {
      answered = true
    } else if (tag === BackendTag.ReadyForQuery) {
      server.reportStatus(bytes[start] as number)
      if (answered) return
      server.passOn(message)
    } else if (tag === BackendTag.ErrorResponse) {
      const fields = errorFields(bytes, start, end)
      if (isFatal(fields.severity)) server.endsWith(fields.code, fields.message)
      else answered = true // canceled by a late request
    } else if (tag === BackendTag.ParameterStatus) {
      server.noteParameter(bytes, start, end)
    } else if (tag === BackendTag.NotificationResponse) {
      server.passOn(message)
    }
  }
}

/** Reads the answers to our own requests; returns the first error among them. */
function* untilReady(
  server: ExchangeServer,
  owed: number,
  onRow: (bytes: Uint8Array, start: number) => void = () => {},
  onReport = ({ bytes, start, end }: Message): void => server.noteParameter(bytes, start, end),
): Exchange<Failure | null> {
  let failure: Failure | null = null
  let ready = 0
  while (ready < owed) {
    const message = yield* nextMessage(server.conversation)
    const { tag, bytes, start, end } = message
    switch (tag) {
      case BackendTag.ReadyForQuery:
        ready++
        server.reportStatus(bytes[start] as number)
        break
      case BackendTag.ErrorResponse: {
        const fields = errorFields(bytes, start, end)
        failure ??= { sqlstate: fields.code, message: fields.message, advice: errorAdvice(bytes, start, end) }
        if (isFatal(fields.severity)) server.endsWith(failure.sqlstate, failure.message)
        break
      }
      case BackendTag.ParameterStatus:
        onReport(message)
        break
      case BackendTag.DataRow:
        onRow(bytes, start)
        break
      case BackendTag.NotificationResponse:
        // While a listener's session is queried, it still belongs to the listener.
        server.passOn(message)
        break
      default:
        break
    }
  }
  return failure
}
