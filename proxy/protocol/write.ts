/**
 * Builders of whole messages for cold paths: logins, errors, the console. The grammar of each message is in the comment
 * above it (manual, "Message Formats"); Int32 length includes itself.
 */
import { BackendTag, FrontendTag } from './tags.ts'

/** Byte1 tag, Int32 length, body. */
export function message(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  const head = Buffer.alloc(5)
  head[0] = tag
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

/** String: the bytes and a NUL. A value is truncated at a NUL inside it. */
function string(value: string): Buffer {
  const end = value.indexOf('\0')
  return Buffer.from(`${end === -1 ? value : value.slice(0, end)}\0`)
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

// Authentication requests: Int32 kind, then its data

export function authenticationOk(): Buffer {
  return message(BackendTag.Authentication, int32(0))
}

export function authenticationCleartextPassword(): Buffer {
  return message(BackendTag.Authentication, int32(3))
}

/** Byte4 salt. */
export function authenticationMd5(salt: Uint8Array): Buffer {
  return message(BackendTag.Authentication, int32(5), salt)
}

/** { String mechanism } …, Byte1 0. */
export function authenticationSasl(mechanisms: readonly string[]): Buffer {
  return message(BackendTag.Authentication, int32(10), ...mechanisms.map(string), Buffer.from([0]))
}

export function authenticationSaslContinue(data: string): Buffer {
  return message(BackendTag.Authentication, int32(11), Buffer.from(data))
}

export function authenticationSaslFinal(data: string): Buffer {
  return message(BackendTag.Authentication, int32(12), Buffer.from(data))
}

// The greeting

/** String name, String value. */
export function parameterStatus(name: string, value: string): Buffer {
  return message(BackendTag.ParameterStatus, string(name), string(value))
}

export function parameterStatuses(parameters: Iterable<readonly [string, string]>): Buffer {
  return Buffer.concat([...parameters].map(([name, value]) => parameterStatus(name, value)))
}

/** Int32 process id, Byte n secret key. */
export function backendKeyData(pid: number, secret: Uint8Array): Buffer {
  return message(BackendTag.BackendKeyData, int32(pid), secret)
}

/** Byte1 transaction status. */
export function readyForQuery(status: 'I' | 'T' | 'E'): Buffer {
  return message(BackendTag.ReadyForQuery, Buffer.from(status))
}

/** Int32 newest minor version, Int32 count, { String option not recognized } … */
export function negotiateProtocolVersion(newestMinor: number, options: readonly string[]): Buffer {
  const version = int32(protocolVersion(newestMinor))
  return message(BackendTag.NegotiateProtocolVersion, version, int32(options.length), ...options.map(string))
}

/** Version number of protocol 3.`minor`: the major version is in the high half. */
export function protocolVersion(minor: number): number {
  return (3 << 16) | minor
}

// Errors

export interface Trouble {
  readonly severity: 'ERROR' | 'FATAL' | 'NOTICE' | 'WARNING'
  readonly code: string
  readonly message: string
  readonly detail?: string
  readonly hint?: string
  /** The function that reported it, by which some drivers tell apart errors with the same SQLSTATE. */
  readonly routine?: string
}

/** { Byte1 field type, String value } …, Byte1 0. */
export function errorResponse(trouble: Trouble): Buffer {
  return message(BackendTag.ErrorResponse, ...fields(trouble))
}

export function noticeResponse(trouble: Trouble): Buffer {
  return message(BackendTag.NoticeResponse, ...fields(trouble))
}

function fields(trouble: Trouble): Buffer[] {
  const written = [`S${trouble.severity}`, `V${trouble.severity}`, `C${trouble.code}`, `M${trouble.message}`]
  if (trouble.detail !== undefined) written.push(`D${trouble.detail}`)
  if (trouble.hint !== undefined) written.push(`H${trouble.hint}`)
  if (trouble.routine !== undefined) written.push(`R${trouble.routine}`)
  return [...written.map(string), Buffer.from([0])]
}

// Results

/** Type oids of the console's columns. */
export const TypeOid = { bytea: 17, int8: 20, int4: 23, text: 25, numeric: 1700 } as const
export type TypeOid = (typeof TypeOid)[keyof typeof TypeOid]

const typeBytes: Readonly<Record<TypeOid, number>> = { 17: -1, 20: 8, 23: 4, 25: -1, 1700: -1 }

export interface Column {
  readonly name: string
  readonly type: TypeOid
}

/**
 * Int16 count, { String name, Int32 table oid, Int16 column, Int32 type oid, Int16 type size, Int32 modifier, Int16
 * format } …
 */
export function rowDescription(columns: readonly Column[]): Buffer {
  const described = columns.flatMap((column) => [
    string(column.name),
    int32(0),
    int16(0),
    int32(column.type),
    int16(typeBytes[column.type]),
    int32(-1),
    int16(0),
  ])
  return message(BackendTag.RowDescription, int16(columns.length), ...described)
}

/** Int16 count, { Int32 length or -1 for null, bytes } …, in text format. */
export function dataRow(values: readonly (string | null)[]): Buffer {
  const written = values.flatMap((value) => {
    if (value === null) return [int32(-1)]
    const bytes = Buffer.from(value)
    return [int32(bytes.length), bytes]
  })
  return message(BackendTag.DataRow, int16(values.length), ...written)
}

/** String command tag. */
export function commandComplete(tag: string): Buffer {
  return message(BackendTag.CommandComplete, string(tag))
}

export function emptyQueryResponse(): Buffer {
  return message(BackendTag.EmptyQueryResponse)
}

// To PostgreSQL

/**
 * Int32 length, Int32 protocol version, { String name, String value } …, Byte1 0. client_encoding is not sent:
 * otherwise the default encoding of the role or database could not be known or reset to.
 */
export function startup(parameters: Readonly<Record<string, string>>, minor = 0): Buffer {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [string(name), string(value)])
  const body = Buffer.concat([int32(protocolVersion(minor)), ...pairs, Buffer.from([0])])
  return Buffer.concat([int32(body.length + 4), body])
}

/** String query. */
export function query(sql: string): Buffer {
  return message(FrontendTag.Query, string(sql))
}

export function terminate(): Buffer {
  return message(FrontendTag.Terminate)
}

/** String statement (unnamed), String query, Int16 count, { Int32 type oid } … */
function parse(sql: string, types: readonly TypeOid[]): Buffer {
  return message(FrontendTag.Parse, string(''), string(sql), int16(types.length), ...types.map(int32))
}

/**
 * String portal (unnamed), String statement (unnamed), Int16 count, { Int16 format } …, Int16 count, { Int32 length,
 * bytes } …, Int16 1 result format, Int16 format. A string is a value in text format, bytes are one in binary format;
 * null has the length -1.
 */
function bind(values: readonly (string | Uint8Array | null)[], resultFormat: 0 | 1 = 0): Buffer {
  const formats = values.map((value) => int16(value instanceof Uint8Array ? 1 : 0))
  const written = values.flatMap((value) => {
    if (value === null) return [int32(-1)]
    const bytes = Buffer.from(value)
    return [int32(bytes.length), bytes]
  })
  const count = int16(values.length)
  const results = resultFormat === 0 ? [int16(0)] : [int16(1), int16(resultFormat)]
  return message(FrontendTag.Bind, string(''), string(''), count, ...formats, count, ...written, ...results)
}

/** String portal (unnamed), Int32 row limit (none). */
function execute(): Buffer {
  return message(FrontendTag.Execute, string(''), int32(0))
}

function sync(): Buffer {
  return message(FrontendTag.Sync)
}

/** String name, then what the client wrote: String query, Int16 count, { Int32 parameter type } … */
export function parseMessage(name: string, textAndTypes: Uint8Array): Buffer {
  return message(FrontendTag.Parse, string(name), textAndTypes)
}

/** Byte1 'S', String name. */
export function closeStatement(name: string): Buffer {
  return message(FrontendTag.Close, Buffer.from('S'), string(name))
}

/** Byte1 'S', String name. */
export function describeStatement(name: string): Buffer {
  return message(FrontendTag.Describe, Buffer.from('S'), string(name))
}

/** Makes the server send its pending output. */
export function flush(): Buffer {
  return message(FrontendTag.Flush)
}

export function parseComplete(): Buffer {
  return message(BackendTag.ParseComplete)
}

export function closeComplete(): Buffer {
  return message(BackendTag.CloseComplete)
}

/** Int32 length, Int32 request code: requests TLS. */
export function sslRequest(): Buffer {
  return Buffer.concat([int32(8), int32(80877103)])
}

/** Int32 length, Int32 request code, Int32 process id, Byte n secret key. */
export function cancelRequest(pid: number, secret: Uint8Array): Buffer {
  return Buffer.concat([int32(12 + secret.length), int32(80877102), int32(pid), secret])
}

/**
 * One statement that sets all of `settings`, in order, for the session or its transaction; null resets. Ended by a Sync.
 * Names and values are parameters of the Bind, never SQL. The session may have any encoding, so a value that is not ASCII
 * is sent as bytes, declared as UTF-8, and is not answered. The statement is closed, so that the session's client cannot execute it.
 */
export function setConfig(settings: readonly (readonly [name: string, value: string | null])[], local = false): Buffer {
  const calls = settings.map(([, value], index) => {
    const name = `$${2 * index + 1}`
    const given = `$${2 * index + 2}`
    const text = isText(value) ? given : `pg_catalog.convert_from(${given}, 'UTF8')`
    return `pg_catalog.set_config(${name}, ${text}, ${local}) IS NULL`
  })
  const types = settings.flatMap(([, value]) => [TypeOid.text, isText(value) ? TypeOid.text : TypeOid.bytea])
  const values = settings.flatMap(([name, value]) => [name, isText(value) ? value : Buffer.from(value ?? '')])
  return Buffer.concat([
    parse(`SELECT ${calls.join(', ')}`, types),
    bind(values),
    execute(),
    closeStatement(''),
    sync(),
  ])
}

/**
 * One statement that gives a row with the values of these parameters as UTF-8, whatever the encoding of the session; and
 * after them, if `sources`, the names of those that the session has set, separated by commas.
 */
export function currentSettings(names: readonly string[], sources: boolean): Buffer {
  const columns = names.map((_, index) => toUtf8(`pg_catalog.current_setting($${index + 1}, true)`))
  if (sources) {
    const list = names.map((_, index) => `$${index + 1}`).join(', ')
    columns.push(
      toUtf8(
        `(SELECT pg_catalog.string_agg(pg_catalog.lower(s.name), ',') FROM pg_catalog.pg_settings s` +
          ` WHERE s.source OPERATOR(pg_catalog.=) 'session'` +
          ` AND pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) ANY (ARRAY[${list}]))`,
      ),
    )
  }
  return Buffer.concat([
    parse(
      `SELECT ${columns.join(', ')}`,
      names.map(() => TypeOid.text),
    ),
    bind(names, 1),
    execute(),
    closeStatement(''),
    sync(),
  ])
}

function toUtf8(text: string): string {
  return `pg_catalog.convert_to(${text}, 'UTF8')`
}

/** One statement that makes these settings again, as they are, for its transaction: whether the session may. */
export function remakeSettings(names: readonly string[]): Buffer {
  const calls = names.map(
    (_, index) => `pg_catalog.set_config($${index + 1}, pg_catalog.current_setting($${index + 1}, true), true)`,
  )
  return Buffer.concat([
    parse(
      `SELECT ${calls.join(', ')}`,
      names.map(() => TypeOid.text),
    ),
    bind(names),
    execute(),
    closeStatement(''),
    sync(),
  ])
}

/** One statement with `values` as parameters, whose types are inferred by the server, ended by a Sync. */
export function extendedQuery(sql: string, values: readonly string[]): Buffer {
  return Buffer.concat([parse(sql, []), bind(values), execute(), sync()])
}

/** Whether a value is sent as text: it is ASCII, the same in each encoding, or null. */
function isText(value: string | null): boolean {
  return value === null || Buffer.byteLength(value) === value.length
}
