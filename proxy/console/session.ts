import assert from 'node:assert/strict'
import { SqlError, sqlstates } from '../../shared/errors.ts'
import type { Socket, SocketEvents } from '../io/io.ts'
import { stringEnd, text } from '../protocol/read.ts'
import { FrontendTag, invalidTypeText, isRequestTag } from '../protocol/tags.ts'
import * as write from '../protocol/write.ts'
import { Inbox } from '../protocol/framing.ts'
import { nextMessage } from '../engine/wire/conversation.ts'
import type { Message } from '../protocol/framing.ts'
import type { Conversation, Exchange } from '../engine/wire/conversation.ts'
import type { OperatedEngine } from './operated-engine.ts'
import type { OperatorSession } from '../engine/pool/context.ts'
import type { Parameters } from '../engine/session/parameters.ts'
import type { Caller, Right } from './caller.ts'
import { CommandError } from './command-error.ts'
import { execute } from './commands.ts'
import { greeting } from './session-parameters.ts'
import { parseStatements } from './statements.ts'

/** Longest message of a console client. */
const messageBytesMax = 16_384

/**
 * A session of the console. A generator reads requests and answers them in order; while it waits for anything but
 * bytes, reading is paused.
 */
export class ConsoleSession implements OperatorSession, SocketEvents, Caller {
  readonly engine: OperatedEngine
  readonly socket: Socket
  readonly id: number
  readonly user: string
  readonly right: Right
  readonly connectedAtMs: number
  requestedAtMs: number
  applicationName: string
  readonly #inbox = new Inbox()
  readonly #conversation: Conversation
  readonly #exchange: Exchange<void>
  #running = false
  #gone = false

  constructor(engine: OperatedEngine, socket: Socket, id: number, user: string, right: Right, parameters: Parameters) {
    this.engine = engine
    this.socket = socket
    this.id = id
    this.user = user
    this.right = right
    this.connectedAtMs = engine.context.io.nowMs()
    this.requestedAtMs = this.connectedAtMs
    this.applicationName = parameters.values.get('application_name') ?? ''
    this.#conversation = {
      take: () => this.#take(),
      send: (bytes) => this.send(bytes),
      random: (bytes) => engine.context.io.random(bytes),
    }
    this.#exchange = this.#serve()
  }

  /** Greets the client after its login. */
  begin(): void {
    this.engine.context.clients.add(this)
    this.engine.context.counts?.countConsole(1)
    this.engine.statistics.console.client_login_count++
    this.send(Buffer.concat([write.parameterStatuses(greeting), ready]))
  }

  /** Sends a fatal error, and ends. */
  fatal(sqlstate: string, message: string): void {
    if (this.#gone) return
    this.send(write.errorResponse({ severity: 'FATAL', code: sqlstate, message }))
    this.#leave()
    this.socket.end()
  }

  #leave(): void {
    this.#gone = true
    if (this.engine.context.clients.delete(this)) this.engine.context.counts?.countConsole(-1)
  }

  // Events of the socket

  onConnect(): void {}

  onData(bytes: Uint8Array, start: number, end: number): number {
    this.#inbox.open(bytes, start, end)
    this.#resume()
    const next = this.#inbox.start
    this.#inbox.close()
    return this.#gone ? end : next
  }

  onDrain(): void {
    this.wake()
  }

  onClose(): void {
    this.#leave()
  }

  // For commands

  send(bytes: Uint8Array): void {
    this.socket.send(bytes, 0, bytes.length)
  }

  wake(): void {
    this.#resume()
  }

  *until(ready: () => boolean): Exchange<void> {
    if (ready()) return
    this.socket.pauseReading()
    while (!ready()) yield
    this.socket.resumeReading()
  }

  *turn(): Exchange<void> {
    let turned = false
    this.engine.context.io.after(0, () => {
      turned = true
      this.wake()
    })
    yield* this.until(() => turned && this.socket.queuedBytes === 0)
  }

  #resume(): void {
    if (this.#gone || this.#running) return
    this.#running = true
    try {
      this.#exchange.next()
    } catch (error) {
      if (!(error instanceof SqlError)) throw error
      this.fatal(error.sqlstate, error.message)
    } finally {
      this.#running = false
    }
  }

  // The conversation

  /** Serves until the client leaves. A protocol violation is thrown, and ends the session. */
  *#serve(): Exchange<void> {
    // After an error in the extended protocol, messages are skipped up to its Sync.
    let skipping = false
    for (;;) {
      yield* this.#read()
      const message = yield* nextMessage(this.#conversation)
      switch (message.tag) {
        case FrontendTag.Query:
          if (!skipping) yield* this.#query(textOf(message))
          break
        case FrontendTag.Parse:
        case FrontendTag.Bind:
        case FrontendTag.Describe:
        case FrontendTag.Execute:
        case FrontendTag.Close:
          if (!skipping) this.#refuse(extendedText)
          skipping = true
          break
        case FrontendTag.FunctionCall:
          if (skipping) break
          this.#refuse('function calls are not supported by the admin console')
          this.send(ready)
          break
        case FrontendTag.Sync:
          skipping = false
          this.send(ready)
          break
        case FrontendTag.Flush:
        case FrontendTag.CopyData:
        case FrontendTag.CopyDone:
        case FrontendTag.CopyFail:
          break
        case FrontendTag.Terminate:
          this.#leave()
          this.socket.close()
          return
        default:
          assert.fail('a type that a client may send is missing here')
      }
    }
  }

  /** The first error ends the whole request, as in PostgreSQL. */
  *#query(source: string): Exchange<void> {
    const { io } = this.engine.context
    const { console } = this.engine.statistics
    this.requestedAtMs = io.nowMs()
    console.query_count++
    console.xact_count++
    try {
      const statements = parseStatements(source)
      if (statements.length === 0) this.send(write.emptyQueryResponse())
      for (const statement of statements) {
        yield* this.#read()
        yield* execute(this, this.right, statement)
      }
    } catch (error) {
      if (!(error instanceof SqlError)) throw error
      const hint = error instanceof CommandError ? { hint: error.hint } : {}
      this.send(write.errorResponse({ severity: 'ERROR', code: error.sqlstate, message: error.message, ...hint }))
    }
    this.send(ready)
  }

  #take(): Message | undefined {
    const { bytes, start, end } = this.#inbox
    const tag = bytes[start] as number
    if (start < end && !isRequestTag(tag)) throw new SqlError('protocol_violation', invalidTypeText(tag))
    return this.#inbox.take(messageBytesMax)
  }

  /** Waits until the client has taken what was sent, so that no answers accumulate. */
  *#read(): Exchange<void> {
    yield* this.until(() => this.socket.queuedBytes === 0)
  }

  #refuse(message: string): void {
    this.send(write.errorResponse({ severity: 'ERROR', code: sqlstates.feature_not_supported, message }))
  }
}

const extendedText = 'extended query protocol not supported by admin console'
const ready = write.readyForQuery('I')

/** Query: String. */
function textOf({ bytes, start, end }: Message): string {
  const stop = stringEnd(bytes, start, end)
  if (stop !== end - 1) throw new SqlError('protocol_violation', 'invalid string in message')
  return text(bytes, start, stop)
}
