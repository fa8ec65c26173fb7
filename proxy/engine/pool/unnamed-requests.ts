/** Bind and Describe of a client's unnamed statement on a server that lacks it, or may have lost it. */
import { FrontendTag, TransactionStatus } from '../../protocol/tags.ts'
import { headerBytes } from '../../protocol/framing.ts'
import type { SendBuffer } from '../wire/send-buffer.ts'
import { RequestKind } from '../session/outstanding.ts'
import { closeUnnamed, describeUnnamed, lacksUnnamed } from '../session/unnamed.ts'
import type { UnnamedChange, UnnamedStatement } from '../session/unnamed.ts'
import { ask, goOn, Outcome, owe, oweOf, pass, refuseBind } from './statement-request.ts'
import type { Request } from './statement-request.ts'

export function useUnnamed(out: SendBuffer, request: Request, tag: number, nameAt: number): Outcome {
  const { client, server, at } = request
  if (server.outstanding.skipping || !lacksUnnamed(client, server, tag)) return Outcome.AsItIs
  const own = client.unnamed
  if (own?.unanswered === true && own.group !== client.group) {
    // Whether the Parse is executed is known when its Sync was answered.
    if (server.outstanding.readyOwed) return Outcome.Unsettled
    own.settle()
    if (!lacksUnnamed(client, server, tag)) return Outcome.AsItIs
  }
  pass(out, request)
  const change = own?.current ?? null
  const asked = own === null || change === null ? giveNone(out, request) : give(out, request, own, change, tag)
  if (asked === Outcome.Changed) return refuseBind(out, request, nameAt, nameAt)
  if (asked !== Outcome.AsItIs) return asked
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
function giveNone(out: SendBuffer, request: Request): Outcome {
  request.server.unnamed.drop()
  out.addWhole(closeUnnamed)
  owe(request, RequestKind.OwnClose, {})
  return Outcome.AsItIs
}

/** The client's last Parse is sent to a server that lacks it; its description must be the one the client was told. */
function give(out: SendBuffer, request: Request, own: UnnamedStatement, change: UnnamedChange, tag: number): Outcome {
  const { outstanding, status, unnamed } = request.server
  const { parse, stamp } = change
  const asks = tag === FrontendTag.Bind && change.told && status !== TransactionStatus.Failed
  if (unnamed.is(own, stamp) && unnamed.sure) {
    if (!asks || unnamed.description === null || unnamed.description === change.description) return Outcome.AsItIs
    return Outcome.Changed
  }
  if (parse === null) return giveNone(out, request)
  // Requested already: another answer has made the client go on.
  if (outstanding.ownDescribeOwed) return Outcome.Unsettled
  out.addWhole(parse)
  owe(request, RequestKind.OwnParse, unnamed.parse(own, stamp))
  if (!asks) return Outcome.AsItIs
  out.addWhole(describeUnnamed)
  return ask(out, request, (description) => unnamed.describe(own, stamp, description))
}
