/** The copies of clients' statements on a server: given when they are needed, closed to make room. */
import type { Note } from '../session/outstanding.ts'
import { RequestKind } from '../session/outstanding.ts'
import type { ServerStatements, Statement } from '../session/prepared.ts'
import type { SendBuffer } from '../wire/send-buffer.ts'
import { owe } from './statement-request.ts'
import type { Request } from './statement-request.ts'

type Settling = Required<Pick<Note, 'done' | 'dropped'>>

/** Makes sure that the server has the statement when it processes what is sent next. */
export function provide(out: SendBuffer, request: Request, statement: Statement): void {
  const known = request.server.statements
  if (known?.has(statement) === true) {
    known.touch(statement)
    return
  }
  owe(request, RequestKind.OwnParse, give(out, request, statement))
  makeRoom(out, request)
}

/** Sends the statement's Parse and records that the server will have it; returns the functions that settle this. */
export function give(out: SendBuffer, request: Request, statement: Statement): Settling {
  const known = request.server.statementsHere()
  if (known.doubtful) {
    out.addWhole(statement.close)
    owe(request, RequestKind.OwnClose, {})
  }
  out.addWhole(statement.parse)
  request.client.pool.totals.server_parse_count++
  return changing(request, known, statement, true)
}

/** The functions that settle a request about a statement; a client that waited for it continues. */
function changing({ client }: Request, known: ServerStatements, statement: Statement, there: boolean): Settling {
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
export function isAwaited({ client, server }: Request, statement: Statement | undefined): boolean {
  if (statement === undefined || server.statements === null) return false
  return server.statements.isAwaitedFromBefore(statement, client.group)
}

export function takeOff(out: SendBuffer, request: Request, statement: Statement): void {
  out.addWhole(statement.close)
  owe(request, RequestKind.OwnClose, changing(request, request.server.statementsHere(), statement, false))
}

/** Closes statements above the limit, least recently used first; a portal bound to one remains (manual, Close). */
export function makeRoom(out: SendBuffer, request: Request): void {
  const { server } = request
  // The one that is needed now stays in any case.
  const countMax = Math.max(1, server.serverSet.settings.maxPreparedStatements)
  for (;;) {
    const statement = server.statements?.surplus(countMax)
    if (statement === undefined) return
    takeOff(out, request, statement)
  }
}
