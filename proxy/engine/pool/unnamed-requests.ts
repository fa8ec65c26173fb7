/** Bind and Describe of a client's unnamed statement on a server that lacks it, or may have lost it. */
import { FrontendTag, TransactionStatus } from '../../protocol/tags.ts'
import { headerBytes } from '../wire/conversation.ts'
import type { SendBuffer } from '../wire/send-buffer.ts'
import { RequestKind } from '../session/outstanding.ts'
import { closeUnnamed, describeUnnamed, lacksUnnamed } from '../session/unnamed.ts'
import type { UnnamedChange, UnnamedStatement } from '../session/unnamed.ts'
import { ask, asItIs, goOn, owe, oweOf, pass, refuseBind, unsettled } from './statement-request.ts'
import type { Request } from './statement-request.ts'

/** The server's description of the statement differs from the one the client was told. */
const changed = -6

export function useUnnamed(out: SendBuffer, request: Request, tag: number, nameAt: number): number {
  const { client, server, at } = request
  if (server.outstanding.skipping || !lacksUnnamed(client, server, tag)) return asItIs
  const own = client.unnamed
  if (own?.unanswered === true && own.group !== client.group) {
    // Whether the Parse is executed is known when its Sync was answered.
    if (server.outstanding.readyOwed) return unsettled
    own.settle()
    if (!lacksUnnamed(client, server, tag)) return asItIs
  }
  pass(out, request)
  const change = own?.current ?? null
  const asked = own === null || change === null ? giveNone(out, request) : give(out, request, own, change, tag)
  if (asked === changed) return refuseBind(out, request, nameAt, nameAt)
  if (asked !== asItIs) return asked
  if (tag === FrontendTag.Bind) {
    if (client.parsed !== null) server.note(client.parsed)
    if (request.bytes[at + headerBytes] === 0) client.bindPortal(change)
    owe(request, RequestKind.Bind)
  } else if (change === null) {
    owe(request, RequestKind.Describe)
  } else {
    oweOf(request, RequestKind.Describe, change)
  }
  return goOn(request, at)
}

/** The client has no unnamed statement, so the server must have none either. */
function giveNone(out: SendBuffer, request: Request): number {
  request.server.unnamed.drop()
  out.addWhole(closeUnnamed)
  owe(request, RequestKind.OwnClose, {})
  return asItIs
}

/** The client's last Parse is sent to a server that lacks it; its description must be the one the client was told. */
function give(out: SendBuffer, request: Request, own: UnnamedStatement, change: UnnamedChange, tag: number): number {
  const { outstanding, status, unnamed } = request.server
  const { parse, stamp } = change
  const asks = tag === FrontendTag.Bind && change.told && status !== TransactionStatus.Failed
  if (unnamed.is(own, stamp) && unnamed.sure) {
    if (!asks || unnamed.description === null || unnamed.description === change.description) return asItIs
    return changed
  }
  if (parse === null) return giveNone(out, request)
  // Requested already: another answer has made the client go on.
  if (outstanding.ownDescribeOwed) return unsettled
  out.addWhole(parse)
  owe(request, RequestKind.OwnParse, unnamed.parse(own, stamp))
  if (!asks) return asItIs
  out.addWhole(describeUnnamed)
  return ask(out, request, (description) => unnamed.describe(own, stamp, description))
}
