/**
 * HOT. A client and a server joined until the transaction ends (session mode: until the client leaves). Messages are
 * walked by offset and forwarded in the longest contiguous run by one send; nothing here allocates, awaits or logs per
 * message. See bench/README.md for what a transaction costs.
 *
 * Short messages are forwarded whole, so that an error of our own never lands inside one; a long one passes in pieces
 * as it arrives, so that it costs one read buffer whatever its size.
 */
import { sqlstates } from '../../shared/errors.ts'
import { errorFields } from '../protocol/read.ts'
import { BackendTag, FrontendTag } from '../protocol/tags.ts'
import type { Client } from './client.ts'
import { headerBytes, readLength } from './conversation.ts'
import { RequestKind } from './outstanding.ts'
import { followedParameters } from './parameters.ts'
import { idleStatus, isFatal } from './server.ts'
import type { Server } from './server.ts'

/** Messages up to this length are forwarded whole. */
export const wholeBytesMax = 16_384

/**
 * Bytes of a client that is joined with `server`. Returns the offset up to which they were forwarded.
 */
export function clientData(client: Client, server: Server, bytes: Uint8Array, start: number, end: number): number {
  if (client.transactionBeganMs === 0) client.transactionBeganMs = client.context.io.nowMs()
  let at = start
  let leaving = false
  let passedWhole = false
  if (client.passing > 0) {
    const passed = Math.min(client.passing, end - at)
    client.passing -= passed
    at += passed
    passedWhole = client.passing === 0
  }
  while (client.passing === 0 && end - at >= headerBytes) {
    const length = readLength(bytes, at)
    if (length < 4) return violation(client, server, bytes, start, at, 'invalid message length', end)
    const next = at + 1 + length
    if (next > end && length <= wholeBytesMax) break
    switch (bytes[at]) {
      case FrontendTag.Query:
        beginQuery(client)
        owe(client, server, RequestKind.Query)
        break
      case FrontendTag.Parse:
        client.name.totals.client_parse_count++
        client.name.totals.server_parse_count++
        owe(client, server, RequestKind.Parse)
        break
      case FrontendTag.Bind:
        client.name.totals.bind_count++
        owe(client, server, RequestKind.Bind)
        break
      case FrontendTag.Describe:
        owe(client, server, RequestKind.Describe)
        break
      case FrontendTag.Execute:
        beginQuery(client)
        owe(client, server, RequestKind.Execute)
        break
      case FrontendTag.Close:
        owe(client, server, RequestKind.Close)
        break
      case FrontendTag.Sync:
        owe(client, server, RequestKind.Sync)
        break
      case FrontendTag.FunctionCall:
        beginQuery(client)
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
        return violation(client, server, bytes, start, at, 'invalid frontend message type', end)
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
  if (at > start) {
    client.name.totals.bytes_sent += at - start
    if (!server.socket.send(bytes, start, at)) client.socket.pauseReading()
  }
  if (leaving) {
    client.terminate()
    return end
  }
  // The end of a transaction may have come while a long message (CopyData after a failed COPY) was still passing.
  if (passedWhole && client.passing === 0 && server.status === idleStatus && server.outstanding.empty) {
    if (client.leavesAtTransactionEnd(server)) client.free(server)
  }
  return at
}

/** The client broke the protocol: what came before it is still forwarded, then it is told and sent away. */
function violation(
  client: Client,
  server: Server,
  bytes: Uint8Array,
  start: number,
  at: number,
  text: string,
  end: number,
): number {
  if (at > start) server.socket.send(bytes, start, at)
  client.fatal(sqlstates.protocol_violation, text)
  return end
}

function owe(client: Client, server: Server, request: RequestKind): void {
  if (server.outstanding.push(request)) return
  client.fatal(sqlstates.program_limit_exceeded, 'too many requests in flight without an answer')
}

function beginQuery(client: Client): void {
  client.name.totals.query_count++
  if (client.queryBeganMs === 0) client.queryBeganMs = client.context.io.nowMs()
}

/**
 * Bytes of a server that is joined with `client`. Returns the offset up to which they were forwarded; on the last
 * answer of a transaction the link ends.
 */
export function serverData(server: Server, client: Client, bytes: Uint8Array, start: number, end: number): number {
  const { outstanding } = server
  let at = start
  let freed = false
  if (server.passing > 0) {
    const passed = Math.min(server.passing, end - at)
    server.passing -= passed
    at += passed
  }
  while (server.passing === 0 && end - at >= headerBytes) {
    const length = readLength(bytes, at)
    if (length < 4) {
      server.close('protocol_error', { message: 'invalid message length' })
      return end
    }
    const next = at + 1 + length
    if (next > end && length <= wholeBytesMax) break
    switch (bytes[at]) {
      case BackendTag.DataRow:
      case BackendTag.CopyData:
        break
      case BackendTag.ReadyForQuery:
        server.status = bytes[at + headerBytes] as number
        outstanding.ready()
        freed = endQuery(client, server)
        break
      case BackendTag.CommandComplete:
      case BackendTag.EmptyQueryResponse:
      case BackendTag.PortalSuspended:
        outstanding.executed()
        break
      case BackendTag.ParseComplete:
        outstanding.answered(RequestKind.Parse)
        break
      case BackendTag.BindComplete:
        outstanding.answered(RequestKind.Bind)
        break
      case BackendTag.CloseComplete:
        outstanding.answered(RequestKind.Close)
        break
      case BackendTag.RowDescription:
      case BackendTag.NoData:
        outstanding.described()
        break
      case BackendTag.CopyInResponse:
        outstanding.copyIn()
        break
      case BackendTag.ErrorResponse:
        noteError(server, bytes, at + headerBytes, Math.min(next, end))
        break
      case BackendTag.ParameterStatus:
        if (next <= end) noteParameter(server, client, bytes, at + headerBytes, next)
        break
      case BackendTag.ParameterDescription:
      case BackendTag.FunctionCallResponse:
      case BackendTag.CopyOutResponse:
      case BackendTag.CopyBothResponse:
      case BackendTag.CopyDone:
      case BackendTag.NoticeResponse:
      case BackendTag.NotificationResponse:
        break
      default:
        server.close('protocol_error', { message: `unexpected message type ${bytes[at]}` })
        return end
    }
    if (next > end) {
      server.passing = next - end
      at = end
      break
    }
    at = next
    if (freed) break
  }
  if (at > start) {
    const sent = client.socket.send(bytes, start, at)
    if (!sent && !freed) server.socket.pauseReading()
  }
  if (outstanding.lost) {
    server.close('protocol_error', { message: 'an answer that nothing asked for' })
    return end
  }
  if (freed) client.free(server)
  return at
}

/** At ReadyForQuery: what was measured, and whether the server may go. */
function endQuery(client: Client, server: Server): boolean {
  const nowMs = client.context.io.nowMs()
  const { totals } = client.name
  if (client.queryBeganMs !== 0 && server.outstanding.empty) {
    totals.query_time += (nowMs - client.queryBeganMs) * 1000
    client.queryBeganMs = 0
  }
  if (server.status !== idleStatus) return false
  totals.xact_count++
  totals.xact_time += (nowMs - client.transactionBeganMs) * 1000
  client.transactionBeganMs = 0
  if (!server.outstanding.empty || client.passing > 0) return false
  return client.leavesAtTransactionEnd(server)
}

function noteError(server: Server, bytes: Uint8Array, start: number, end: number): void {
  server.outstanding.failed()
  const fields = errorFields(bytes, start, end)
  if (isFatal(fields.severity)) server.fatal = { sqlstate: fields.code, message: fields.message, forwarded: true }
}

/** A parameter that changed under this client follows it to its next server. */
function noteParameter(server: Server, client: Client, bytes: Uint8Array, start: number, end: number): void {
  const [parameter, value] = server.noteParameter(bytes, start, end)
  const name = parameter.toLowerCase()
  if (!followedParameters.has(name)) return
  client.parameters = client.parameters.with(name, value)
  server.parameters = server.parameters.with(name, value)
}
