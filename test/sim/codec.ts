/** Encodes and decodes requests and replies (PostgreSQL manual, "Message Formats"). */
import { signature } from './backend.ts'
import { nullValue } from './backend.ts'
import type { Reply, Request } from './backend.ts'
import { errorFields, errorMessage, int16, int32, message, noticeMessage, splitStrings } from './wire.ts'
import type { Message } from './wire.ts'

export function encodeRequest(request: Request): Buffer {
  switch (request.kind) {
    case 'query':
      return message('Q', request.text)
    case 'parse':
      return message('P', request.name, request.text, int16(0))
    case 'bind': {
      const values = request.values.flatMap((value) => [int32(Buffer.byteLength(value)), Buffer.from(value)])
      return message('B', request.portal, request.name, int16(0), int16(request.values.length), ...values, int16(0))
    }
    case 'describe':
      return message('D', Buffer.from(request.what), request.name)
    case 'execute':
      return message('E', request.portal, int32(request.rowsMax))
    case 'close':
      return message('C', Buffer.from(request.what), request.name)
    case 'sync':
      return message('S')
    case 'flush':
      return message('H')
    case 'call':
      return message('F', Buffer.from(request.argument))
    case 'copyData':
      return message('d', Buffer.from(request.bytes))
    case 'copyDone':
      return message('c')
    case 'copyFail':
      return message('f', 'requested')
    case 'terminate':
      return message('X')
    default:
      return request satisfies never
  }
}

/** Null when it is not a request. */
export function decodeRequest({ tag, body }: Message): Request | null {
  const strings = splitStrings(body)
  switch (tag) {
    case 'Q':
      return { kind: 'query', text: strings[0] ?? '' }
    case 'P':
      return { kind: 'parse', name: strings[0] ?? '', text: strings[1] ?? '' }
    case 'B':
      return { kind: 'bind', ...bindOf(body) }
    case 'D':
    case 'C': {
      const what = String.fromCharCode(body[0] ?? 0)
      if (what !== 'S' && what !== 'P') return null
      return { kind: tag === 'D' ? 'describe' : 'close', what, name: splitStrings(body.subarray(1))[0] ?? '' }
    }
    case 'E':
      return { kind: 'execute', portal: strings[0] ?? '', rowsMax: body.readInt32BE(body.length - 4) }
    case 'S':
      return { kind: 'sync' }
    case 'H':
      return { kind: 'flush' }
    case 'F':
      return { kind: 'call', argument: body.toString('utf8') }
    case 'd':
      return { kind: 'copyData', bytes: body.toString('utf8') }
    case 'c':
      return { kind: 'copyDone' }
    case 'f':
      return { kind: 'copyFail' }
    case 'X':
      return { kind: 'terminate' }
    default:
      return null
  }
}

/** Portal, statement name, parameter formats, parameters (text), result formats. */
function bindOf(body: Buffer): { portal: string; name: string; values: string[] } {
  const portalEnd = body.indexOf(0)
  const nameEnd = body.indexOf(0, portalEnd + 1)
  const portal = body.toString('utf8', 0, portalEnd)
  const name = body.toString('utf8', portalEnd + 1, nameEnd)
  let at = nameEnd + 1
  at += 2 + 2 * body.readInt16BE(at)
  const values: string[] = []
  const count = body.readInt16BE(at)
  at += 2
  for (let index = 0; index < count; index++) {
    const length = body.readInt32BE(at)
    at += 4
    // NULL, which only the engine sends, for a value that is to be the session's first.
    values.push(length < 0 ? nullValue : body.toString('utf8', at, at + length))
    at += Math.max(0, length)
  }
  return { portal, name, values }
}

export function encodeReply(reply: Reply): Buffer {
  switch (reply.tag) {
    case 'T':
      return rowDescription
    case 'D': {
      const columns = (reply.columns ?? [reply.text]).map((column) => Buffer.from(column))
      return message('D', int16(columns.length), ...columns.flatMap((column) => [int32(column.length), column]))
    }
    case 'd':
    case 'V':
      return message(reply.tag, Buffer.from(reply.text))
    case 'C':
      return message('C', reply.text)
    case 'N':
      return noticeMessage(reply.text)
    case 'E':
      return errorMessage('ERROR', reply.code, reply.text)
    case 'Z':
      return message('Z', Buffer.from(reply.status))
    case 'G':
    case 'H':
      return message(reply.tag, Buffer.alloc(1), int16(0))
    case 't':
      return message('t', int16(0))
    default:
      return message(reply.tag)
  }
}

/** One column of text. */
const rowDescription = message('T', int16(1), 'answer', int32(0), int16(0), int32(25), int16(-1), int32(-1), int16(0))

/** The `signature` of the reply in `message`, null when it is not a reply. */
export function signatureOf({ tag, body }: Message): string | null {
  switch (tag) {
    case 'D':
      return signature({ tag, text: body.toString('utf8', 6) })
    case 'd':
    case 'V':
      return signature({ tag, text: body.toString('utf8') })
    case 'C':
      return signature({ tag, text: splitStrings(body)[0] ?? '' })
    case 'N':
      return signature({ tag, text: errorFields(body).get('M') ?? '' })
    case 'E':
      return signature({ tag, code: errorFields(body).get('C') ?? '', text: '' })
    case 'Z': {
      const status = body.toString('latin1')
      return status === 'I' || status === 'T' || status === 'E' ? signature({ tag, status }) : null
    }
    case '1':
    case '2':
    case '3':
    case 'n':
    case 's':
    case 'I':
    case 'G':
    case 'H':
    case 'c':
    case 't':
    case 'T':
      return tag
    default:
      return null
  }
}
