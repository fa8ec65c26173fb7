import { int16, int32, stringEnd } from './read.ts'

/** PostgreSQL's MAX_STARTUP_PACKET_LENGTH: no longer packet is kept for a peer that has not logged in. */
export const startupBytesMax = 10_000

const shortestBytes = 8
const cancelRequestCode = 80877102
const sslRequestCode = 80877103
const gssRequestCode = 80877104
/** Protocol 3.2 allows keys of up to 256 bytes. */
export const secretBytesMax = 256

export type StartupPacket =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'ssl' | 'gss'; readonly end: number }
  | { readonly kind: 'cancel'; readonly end: number; readonly pid: number; readonly secret: Uint8Array }
  | {
      readonly kind: 'startup'
      readonly end: number
      readonly major: number
      readonly minor: number
      /** As sent; of a repeated name the last value counts, as in PostgreSQL. */
      readonly parameters: ReadonlyMap<string, string>
      /** Names that begin with `_pq_.`: protocol extensions, none of which is supported. */
      readonly protocolOptions: readonly string[]
    }
  | {
      readonly kind: 'invalid'
      readonly reason: string
      /** Whether the peer is told: PostgreSQL answers no packet whose length is impossible. */
      readonly told: boolean
    }

/**
 * The first packet of a connection (manual, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest,
 * CancelRequest). It has no type byte:
 *
 *   Int32 length, itself included
 *   Int32 protocol version (major in the high half) or request code
 *   StartupMessage: { String name, String value } …, Byte1 0
 *   CancelRequest: Int32 process id, Byte n secret key
 */
export function parseStartup(bytes: Uint8Array, start: number, end: number): StartupPacket {
  if (end - start < 4) return { kind: 'incomplete' }
  const length = int32(bytes, start)
  if (length < shortestBytes || length > startupBytesMax) {
    return { kind: 'invalid', reason: 'invalid length of startup packet', told: false }
  }
  const stop = start + length
  if (stop > end) return { kind: 'incomplete' }
  const code = int32(bytes, start + 4)
  const body = start + shortestBytes
  switch (code) {
    case sslRequestCode:
    case gssRequestCode:
      if (length !== shortestBytes)
        return { kind: 'invalid', reason: 'invalid length of encryption request', told: false }
      return { kind: code === sslRequestCode ? 'ssl' : 'gss', end: stop }
    case cancelRequestCode: {
      const secretBytes = stop - body - 4
      if (secretBytes < 4 || secretBytes > secretBytesMax) {
        return { kind: 'invalid', reason: 'invalid length of cancel request', told: false }
      }
      return {
        kind: 'cancel',
        end: stop,
        pid: int32(bytes, body),
        secret: Uint8Array.from(bytes.subarray(body + 4, stop)),
      }
    }
    default:
      return startupMessage(bytes, start, body, stop)
  }
}

const noTerminatorText = 'invalid startup packet layout: expected terminator as last byte'

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function startupMessage(bytes: Uint8Array, start: number, body: number, stop: number): StartupPacket {
  const major = int16(bytes, start + 4)
  const minor = int16(bytes, start + 6)
  const parameters = new Map<string, string>()
  const protocolOptions: string[] = []
  // Another major version may have another layout, so it is rejected by its number alone.
  if (major !== 3) return { kind: 'startup', end: stop, major, minor, parameters, protocolOptions }

  let at = body
  while (at < stop && bytes[at] !== 0) {
    const nameEnd = stringEnd(bytes, at, stop)
    const valueEnd = nameEnd < stop ? stringEnd(bytes, nameEnd + 1, stop) : stop
    if (valueEnd >= stop) return { kind: 'invalid', reason: noTerminatorText, told: true }
    let name: string
    let value: string
    try {
      name = strictUtf8.decode(bytes.subarray(at, nameEnd))
      value = strictUtf8.decode(bytes.subarray(nameEnd + 1, valueEnd))
    } catch {
      return { kind: 'invalid', reason: 'startup packet is not valid UTF-8', told: true }
    }
    if (name.startsWith('_pq_.')) protocolOptions.push(name)
    else parameters.set(name, value)
    at = valueEnd + 1
  }
  if (at !== stop - 1) return { kind: 'invalid', reason: noTerminatorText, told: true }
  return { kind: 'startup', end: stop, major, minor, parameters, protocolOptions }
}
