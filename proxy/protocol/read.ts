/**
 * Readers of message bodies by offset. They take the whole buffer with `start` and `end` of the body, copy only the
 * text they return, and tolerate truncated bodies.
 */

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Int32, big-endian. */
export function int32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  )
}

/** Int16, big-endian, unsigned. */
export function int16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number)
}

/** Offset of the NUL that ends the string at `at`; `end` if there is none. */
export function stringEnd(bytes: Uint8Array, at: number, end: number): number {
  const found = bytes.indexOf(0, at)
  return found === -1 || found > end ? end : found
}

export function text(bytes: Uint8Array, start: number, end: number): string {
  return utf8.decode(bytes.subarray(start, end))
}

/** { String } …, ended by an empty one. */
export function strings(bytes: Uint8Array, start: number, end: number): string[] {
  const found: string[] = []
  let at = start
  while (at < end && bytes[at] !== 0) {
    const stop = stringEnd(bytes, at, end)
    found.push(text(bytes, at, stop))
    at = stop + 1
  }
  return found
}

export interface ErrorFields {
  /** Not localized: ERROR, FATAL, PANIC, WARNING, NOTICE, DEBUG, INFO, LOG. */
  readonly severity: string
  /** SQLSTATE. */
  readonly code: string
  readonly message: string
  /** The server's function that reported the error, which tells apart causes with the same SQLSTATE. */
  readonly routine: string
}

const errorMessageCharactersMax = 500

/**
 * ErrorResponse and NoticeResponse: { Byte1 field type, String value } …, Byte1 0 (manual, "Error and Notice Message
 * Fields"). Field V is the severity that is never translated; before PostgreSQL 9.6 there is only S.
 */
export function errorFields(bytes: Uint8Array, start: number, end: number): ErrorFields {
  let severity = ''
  let localized = ''
  let code = ''
  let message = ''
  let routine = ''
  let at = start
  while (at < end && bytes[at] !== 0) {
    const stop = stringEnd(bytes, at + 1, end)
    switch (bytes[at]) {
      case 0x56: // V
        severity = text(bytes, at + 1, stop)
        break
      case 0x53: // S
        localized = text(bytes, at + 1, stop)
        break
      case 0x43: // C
        code = text(bytes, at + 1, stop)
        break
      case 0x4d: // M
        message = text(bytes, at + 1, Math.min(stop, at + 1 + 4 * errorMessageCharactersMax))
        break
      case 0x52: // R
        routine = text(bytes, at + 1, stop)
        break
      default:
        break
    }
    at = stop + 1
  }
  return {
    severity: severity || localized,
    code: code || 'XX000',
    message: message.slice(0, errorMessageCharactersMax),
    routine,
  }
}

/** Detail and hint of an error. */
export interface Advice {
  readonly detail?: string
  readonly hint?: string
}

/** Fields D and H of an ErrorResponse, if present. */
export function errorAdvice(bytes: Uint8Array, start: number, end: number): Advice {
  const field = (letter: number): string | undefined => {
    for (let at = start; at < end && bytes[at] !== 0;) {
      const stop = stringEnd(bytes, at + 1, end)
      if (bytes[at] === letter) {
        const cut = Math.min(stop, at + 1 + 4 * errorMessageCharactersMax)
        return text(bytes, at + 1, cut).slice(0, errorMessageCharactersMax)
      }
      at = stop + 1
    }
    return undefined
  }
  const [detail, hint] = [field(0x44), field(0x48)]
  return { ...(detail === undefined ? {} : { detail }), ...(hint === undefined ? {} : { hint }) }
}

/** Whether the error ends the connection. */
export function isFatal(severity: string): boolean {
  return severity === 'FATAL' || severity === 'PANIC'
}

/** ParameterStatus: String name, String value. */
export function parameterStatus(bytes: Uint8Array, start: number, end: number): [name: string, value: string] {
  const nameEnd = stringEnd(bytes, start, end)
  const valueStart = Math.min(nameEnd + 1, end)
  return [text(bytes, start, nameEnd), text(bytes, valueStart, stringEnd(bytes, valueStart, end))]
}
