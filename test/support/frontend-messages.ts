/**
 * Messages of a client, byte by byte (PostgreSQL manual, "Message Formats"). Written independently of the product's
 * writer, so that tests do not share its mistakes.
 */

export function startup(parameters: Readonly<Record<string, string>>, protocol = 0x00030000): Buffer {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [cstring(name), cstring(value)])
  return packet(int32(protocol), ...pairs, Buffer.from([0]))
}

export const sslRequest = Buffer.from('0000000804d2162f', 'hex')
export const gssEncRequest = Buffer.from('0000000804d21630', 'hex')

export function cancelRequest(pid: number, secret: Uint8Array): Buffer {
  return packet(int32(80877102), int32(pid), secret)
}

export function query(sql: string): Buffer {
  return message('Q', cstring(sql))
}

export function parse(name: string, sql: string, parameterTypes: readonly number[] = []): Buffer {
  return message('P', cstring(name), cstring(sql), int16(parameterTypes.length), ...parameterTypes.map(int32))
}

/** Parameters as text; null for NULL. Results in text format. */
export function bind(portal: string, statement: string, values: readonly (string | null)[] = []): Buffer {
  const parameters = values.flatMap((value) => {
    if (value === null) return [int32(-1)]
    const bytes = Buffer.from(value)
    return [int32(bytes.length), bytes]
  })
  return message('B', cstring(portal), cstring(statement), int16(0), int16(values.length), ...parameters, int16(0))
}

export function describeStatement(name: string): Buffer {
  return message('D', Buffer.from('S'), cstring(name))
}

export function describePortal(name: string): Buffer {
  return message('D', Buffer.from('P'), cstring(name))
}

/** `rowsMax` 0 fetches all rows. */
export function execute(portal: string, rowsMax = 0): Buffer {
  return message('E', cstring(portal), int32(rowsMax))
}

export function closeStatement(name: string): Buffer {
  return message('C', Buffer.from('S'), cstring(name))
}

export function closePortal(name: string): Buffer {
  return message('C', Buffer.from('P'), cstring(name))
}

export const sync = message('S')
export const flush = message('H')
export const terminate = message('X')
export const copyDone = message('c')

export function copyData(data: string | Uint8Array): Buffer {
  return message('d', Buffer.from(data))
}

export function copyFail(reason: string): Buffer {
  return message('f', cstring(reason))
}

/** Calls a function by its OID, with arguments and result as text. */
export function functionCall(oid: number, values: readonly (string | null)[]): Buffer {
  const parameters = values.flatMap((value) => {
    if (value === null) return [int32(-1)]
    const bytes = Buffer.from(value)
    return [int32(bytes.length), bytes]
  })
  return message('F', int32(oid), int16(0), int16(values.length), ...parameters, int16(0))
}

/** Also SASLInitialResponse and SASLResponse, which have the same tag. */
export function passwordMessage(...parts: readonly Uint8Array[]): Buffer {
  return message('p', ...parts)
}

/** Any message: tag, length, body. */
export function message(tag: string, ...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.from(tag, 'latin1'), packet(...parts)])
}

export function cstring(text: string): Buffer {
  return Buffer.from(`${text}\0`)
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

/** Length (including itself) and body. */
function packet(...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([int32(body.length + 4), body])
}
