/** Login to PostgreSQL (manual, "Message Flow", "Start-up"), with pg-protocol for the messages that are sent. */
import { createHash } from 'node:crypto'
import { serialize } from 'pg-protocol'
import { SqlError } from '../../../shared/errors.ts'
import { preparePassword } from '../../../shared/saslprep.ts'
import { errorFields, int32, parameterStatus, strings, text } from '../../protocol/read.ts'
import { BackendTag } from '../../protocol/tags.ts'
import { secretBytesMax } from '../../protocol/startup.ts'
import { protocolVersion, startup } from '../../protocol/write.ts'
import type { CancelKey } from '../cancel/cancel-request.ts'
import { nextMessage } from '../wire/conversation.ts'
import type { Message } from '../../protocol/framing.ts'
import type { Conversation, Exchange } from '../wire/conversation.ts'
import {
  answerServerFirst,
  boundTo,
  checkServerFinal,
  clientFirstBare,
  nonce,
  scramMechanism,
  scramPlusMechanism,
  unbound,
  unofferedBinding,
} from './scram.ts'
import type { SaltedKeys, ScramKeys } from './scram.ts'

export interface ServerLogin {
  /** As reported, in the server's spelling. */
  readonly parameters: ReadonlyMap<string, string>
  /** Null if the server sent none: its queries cannot be canceled. */
  readonly backendKey: CancelKey | null
}

export interface Credentials {
  readonly user: string
  readonly database: string
  readonly password: string | null
  /** In place of a password. */
  readonly keys?: ServerKeys | null
  readonly saltedKeys: SaltedKeys
  /** Further parameters of the startup packet. */
  readonly parameters?: Readonly<Record<string, string>>
  /** Newest minor version of protocol 3 to request; 2 has longer cancel keys. Default: 0. */
  readonly minor?: number
  /** Channel binding of the TLS connection (tls-server-end-point); null or absent without. */
  readonly channel?: Uint8Array | null
}

/** Keys that a client has proven, which open servers with the same verifier; null where it has not. */
export interface ServerKeys {
  /** As in pg_authid: enough to answer an MD5 challenge. */
  readonly md5: string | null
  readonly scram: ScramKeys | null
}

/** The server answered the login with an error. */
export class LoginRefused extends Error {
  readonly sqlstate: string
  constructor(sqlstate: string, message: string) {
    super(message)
    this.name = 'LoginRefused'
    this.sqlstate = sqlstate
  }
}

/** AuthenticationMD5Password: Int32 kind, Byte4 salt. */
const md5SaltBytes = 4

/** Unsupported kinds of AuthenticationRequest by name, for the error message. */
const unsupportedRequests: Readonly<Record<number, string>> = { 2: 'Kerberos V5', 6: 'SCM', 7: 'GSSAPI', 9: 'SSPI' }

/**
 * From the startup message to the first ReadyForQuery. Throws LoginRefused with the server's error, or SqlError if the
 * server does something unsupported.
 */
export function* serverLogin(conversation: Conversation, credentials: Credentials): Exchange<ServerLogin> {
  const minor = credentials.minor ?? 0
  const { user, database } = credentials
  conversation.send(startup({ ...credentials.parameters, user, database }, minor))
  const parameters = new Map<string, string>()
  let backendKey: CancelKey | null = null
  let authenticated = false
  for (;;) {
    const message = yield* nextMessage(conversation)
    switch (message.tag) {
      case BackendTag.Authentication:
        if (authenticated) throw new SqlError('protocol_violation', 'the server requested a second authentication')
        yield* answer(conversation, message, credentials)
        authenticated = true
        break
      case BackendTag.ParameterStatus: {
        const [name, value] = parameterStatus(message.bytes, message.start, message.end)
        parameters.set(name, value)
        break
      }
      case BackendTag.BackendKeyData:
        if (message.end - message.start < 8) throw new SqlError('protocol_violation', 'short BackendKeyData')
        if (message.end - message.start > 4 + secretBytesMax) {
          throw new SqlError('protocol_violation', 'BackendKeyData is too long')
        }
        backendKey = {
          pid: int32(message.bytes, message.start),
          // A copy: Buffer's slice would be a view of the read buffer.
          secret: Uint8Array.from(message.bytes.subarray(message.start + 4, message.end)),
        }
        break
      case BackendTag.ErrorResponse:
        throw refusal(message)
      case BackendTag.NegotiateProtocolVersion:
        acceptOlder(message, minor)
        break
      case BackendTag.NoticeResponse:
        break
      case BackendTag.ReadyForQuery:
        if (!authenticated)
          throw new SqlError('protocol_violation', 'the server sent ReadyForQuery before authentication')
        return { parameters, backendKey }
      default:
        throw new SqlError('protocol_violation', `unexpected message ${message.tag} during login`)
    }
  }
}

/** An older minor version than requested is accepted: only cancel keys differ. */
function acceptOlder({ bytes, start, end }: Message, minor: number): void {
  const version = end - start >= 8 ? int32(bytes, start) : -1
  if (version < protocolVersion(0) || version > protocolVersion(minor)) {
    throw new SqlError('protocol_violation', 'the server offered a protocol version that was not requested')
  }
}

/** Answers AuthenticationRequests until AuthenticationOk. */
function* answer(conversation: Conversation, first: Message, credentials: Credentials): Exchange<void> {
  const kind = first.end - first.start >= 4 ? int32(first.bytes, first.start) : -1
  switch (kind) {
    case 0:
      return
    case 3:
      conversation.send(serialize.password(known(credentials)))
      break
    case 5: {
      const salt = first.bytes.subarray(first.start + 4, first.end)
      if (salt.length !== md5SaltBytes) throw new SqlError('protocol_violation', 'malformed MD5 request')
      conversation.send(serialize.password(md5Answer(md5Of(credentials), salt)))
      break
    }
    case 10:
      yield* scram(conversation, first, credentials)
      break
    default:
      throw new SqlError(
        'feature_not_supported',
        `the server requested ${unsupportedRequests[kind] ?? `authentication method ${kind}`}, which is not supported`,
      )
  }
  const confirmation = yield* authentication(conversation)
  if (confirmation.kind !== 0) throw new SqlError('protocol_violation', 'the server requested a second authentication')
}

function known(credentials: Credentials): string {
  if (credentials.password !== null) return credentials.password
  throw new SqlError(
    'invalid_password',
    `the server requested the password of user "${credentials.user}", which is not known`,
  )
}

/** md5(password + user), in hex. */
function md5Of(credentials: Credentials): string {
  const { password, keys, user } = credentials
  if (password === null && typeof keys?.md5 === 'string') return keys.md5.slice('md5'.length)
  return createHash('md5')
    .update(known(credentials) + user)
    .digest('hex')
}

function md5Answer(inner: string, salt: Uint8Array): string {
  return `md5${createHash('md5').update(inner).update(salt).digest('hex')}`
}

function* scram(conversation: Conversation, request: Message, credentials: Credentials): Exchange<void> {
  const mechanisms = strings(request.bytes, request.start + 4, request.end)
  const channel = credentials.channel ?? null
  const binds = channel !== null && mechanisms.includes(scramPlusMechanism)
  if (!binds && !mechanisms.includes(scramMechanism)) {
    throw new SqlError('feature_not_supported', `the server supports only ${mechanisms.join(', ')}`)
  }
  const secret = scramSecret(credentials)
  const clientNonce = nonce((bytes) => conversation.random(bytes))
  const use = binds ? boundTo(channel) : channel === null ? unbound : unofferedBinding
  const mechanism = binds ? scramPlusMechanism : scramMechanism
  conversation.send(serialize.sendSASLInitialResponseMessage(mechanism, use.header + clientFirstBare(clientNonce)))
  const challenge = yield* authentication(conversation)
  if (challenge.kind !== 11) throw new SqlError('protocol_violation', 'expected AuthenticationSASLContinue')
  const reply = answerServerFirst(secret, clientNonce, challenge.data, credentials.saltedKeys, use)
  conversation.send(serialize.sendSCRAMClientFinalMessage(reply.message))
  const final = yield* authentication(conversation)
  if (final.kind !== 12) throw new SqlError('protocol_violation', 'expected AuthenticationSASLFinal')
  checkServerFinal(final.data, reply.serverSignature)
}

function scramSecret(credentials: Credentials): string | ScramKeys {
  const { password, keys } = credentials
  if (password === null && keys?.scram) return keys.scram
  return preparePassword(known(credentials))
}

/** The next AuthenticationRequest, parsed at once: the bytes are valid until the next yield only. */
function* authentication(conversation: Conversation): Exchange<{ kind: number; data: string }> {
  for (;;) {
    const message = yield* nextMessage(conversation)
    if (message.tag === BackendTag.ErrorResponse) throw refusal(message)
    if (message.tag === BackendTag.NoticeResponse) continue
    if (message.tag !== BackendTag.Authentication || message.end - message.start < 4) {
      throw new SqlError('protocol_violation', 'expected an authentication message')
    }
    return {
      kind: int32(message.bytes, message.start),
      data: text(message.bytes, message.start + 4, message.end),
    }
  }
}

function refusal({ bytes, start, end }: Message): LoginRefused {
  const { code, message } = errorFields(bytes, start, end)
  return new LoginRefused(code, message || 'the server rejected the login')
}
