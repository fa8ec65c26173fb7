/**
 * SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides. The messages are ASCII attributes separated by commas; the nonce is
 * printable ASCII without commas. Over TLS the exchange may be bound to the channel by the hash of the server's
 * certificate (tls-server-end-point, RFC 5929), so that an attacker in the middle cannot forward it.
 */
import { createHash, createHmac, pbkdf2Sync, timingSafeEqual } from 'node:crypto'
import { SqlError } from '../../../shared/errors.ts'
import { mockSalt } from '../../mock-salt.ts'
import type { ScramVerifier } from '../../spec.ts'

export const scramMechanism = 'SCRAM-SHA-256'
export const scramPlusMechanism = 'SCRAM-SHA-256-PLUS'

/** The GS2 header of a client that uses channel binding. */
const boundHeader = 'p=tls-server-end-point,,'

/** The usual form of verifiers: RFC 7677, 4, and PostgreSQL's defaults. */
const usualForm = { iterations: 4096, salt: new Uint8Array(16) }
/** More iterations would block the loop for seconds. */
const iterationsMax = 1_000_000
const digestBytes = 32
const nonceRandomBytes = 18

function hmac(key: Uint8Array, data: string | Uint8Array): Buffer {
  return createHmac('sha256', key).update(data).digest()
}

function sha256(data: Uint8Array): Buffer {
  return createHash('sha256').update(data).digest()
}

function xor(left: Uint8Array, right: Uint8Array): Buffer {
  return Buffer.from(left.map((byte, index) => byte ^ (right[index] as number)))
}

function malformed(): SqlError {
  return new SqlError('protocol_violation', 'malformed SCRAM message')
}

export function nonce(random: (bytes: Uint8Array) => void): string {
  const bytes = new Uint8Array(nonceRandomBytes)
  random(bytes)
  return Buffer.from(bytes).toString('base64')
}

// As server

export interface ClientFirst {
  /** What the final message must contain in base64: the GS2 header, and the channel binding if used. */
  readonly binding: string
  /** The client uses channel binding. */
  readonly bound: boolean
  /** client-first-message-bare, part of the signed message. */
  readonly bare: string
  readonly nonce: string
}

const clientFirst =
  /^(p=tls-server-end-point|[ny]),(a=[^,]*)?,((?:m=[^,]*,)?n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+)(?:,[a-zA-Z]=[^,]*)*)$/
const clientFinal = /^(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,[a-zA-Z]=[^,]*)*),p=([A-Za-z0-9+/=]+)$/

/**
 * gs2-header client-first-message-bare. The user name in it is ignored, as in PostgreSQL. `channel` is the offered
 * binding, null without one. Throws SqlError.
 */
export function parseClientFirst(message: string, channel: Uint8Array | null = null): ClientFirst {
  if (message.startsWith('p=') && (channel === null || !message.startsWith('p=tls-server-end-point,'))) {
    throw new SqlError('protocol_violation', 'client requires a channel binding that was not offered')
  }
  // The client believes that none was offered: an attacker removed the offer.
  if (message.startsWith('y') && channel !== null) {
    throw new SqlError('invalid_authorization_specification', 'SCRAM channel binding negotiation error')
  }
  const match = clientFirst.exec(message)
  if (match === null) throw malformed()
  if (match[2] !== undefined) {
    throw new SqlError('feature_not_supported', 'client uses a SCRAM authorization identity, which is not supported')
  }
  const bare = match[3] as string
  if (bare.startsWith('m=')) {
    throw new SqlError('feature_not_supported', 'client requires an unsupported SCRAM extension')
  }
  const header = message.slice(0, message.length - bare.length)
  const bound = message.startsWith('p=')
  const data = bound && channel !== null ? channel : noData
  const binding = Buffer.concat([Buffer.from(header), data]).toString('base64')
  return { binding, bound, bare, nonce: match[4] as string }
}

const noData = new Uint8Array(0)

export interface ClientFinal {
  readonly withoutProof: string
  readonly binding: string
  readonly nonce: string
  readonly proof: Uint8Array
}

/** client-final-message. Throws SqlError. */
export function parseClientFinal(message: string): ClientFinal {
  const match = clientFinal.exec(message)
  if (match === null) throw malformed()
  const proof = Buffer.from(match[4] as string, 'base64')
  if (proof.length !== digestBytes) throw malformed()
  return { withoutProof: match[1] as string, binding: match[2] as string, nonce: match[3] as string, proof }
}

export function serverFirst(verifier: ScramVerifier, combinedNonce: string): string {
  return `r=${combinedNonce},s=${Buffer.from(verifier.salt).toString('base64')},i=${verifier.iterations}`
}

/** The server's final message, or null if the proof is wrong. */
export function checkProof(
  verifier: ScramVerifier,
  first: ClientFirst,
  serverFirstMessage: string,
  final: ClientFinal,
): string | null {
  const signed = `${first.bare},${serverFirstMessage},${final.withoutProof}`
  if (!timingSafeEqual(sha256(clientKeyOf(verifier, signed, final)), verifier.storedKey)) return null
  return `v=${hmac(verifier.serverKey, signed).toString('base64')}`
}

/** ClientKey from the salted password. */
export function clientKeyFrom(salted: Uint8Array): Uint8Array {
  return hmac(salted, 'Client Key')
}

/** RFC 5802, 3: ClientKey := ClientProof XOR ClientSignature. */
function clientKeyOf(verifier: ScramVerifier, signed: string, final: ClientFinal): Buffer {
  return xor(final.proof, hmac(verifier.storedKey, signed))
}

/**
 * Opens servers whose verifier has this salt and iteration count, without the password. Kept in memory only, and never
 * shown.
 */
export interface ScramKeys {
  readonly salt: Uint8Array
  readonly iterations: number
  readonly clientKey: Uint8Array
  readonly serverKey: Uint8Array
}

/** The keys of a client whose proof was correct. */
export function provenKeys(
  verifier: ScramVerifier,
  first: ClientFirst,
  serverFirstMessage: string,
  final: ClientFinal,
): ScramKeys {
  const { salt, iterations, serverKey } = verifier
  const signed = `${first.bare},${serverFirstMessage},${final.withoutProof}`
  return { salt, iterations, serverKey, clientKey: clientKeyOf(verifier, signed, final) }
}

/**
 * A verifier that matches no password, constant for a user under one key and of the same form as `like`, so that an
 * unknown user cannot be told from a wrong password.
 */
export function mockVerifier(
  mockKey: Uint8Array,
  user: string,
  like: Pick<ScramVerifier, 'iterations' | 'salt'> = usualForm,
): ScramVerifier {
  return {
    iterations: like.iterations,
    salt: mockSalt(mockKey, user, like.salt.length),
    storedKey: hmac(mockKey, `stored ${user}`),
    serverKey: hmac(mockKey, `server ${user}`),
  }
}

// As client

/** Salted passwords by what they were derived from, so that a reconnect needs no derivation. */
export type SaltedKeys = Map<string, Uint8Array>

const saltedKeysMax = 64

const serverFirstPattern = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9]\d{0,8})(?:,[a-zA-Z]=[^,]*)*$/

export function clientFirstBare(clientNonce: string): string {
  // PostgreSQL takes the user name from the startup packet.
  return `n=,r=${clientNonce}`
}

/**
 * Channel binding of the client: n, unsupported; y, supported but not offered; p, used. `header` is sent first and
 * `binding` last.
 */
export interface ChannelUse {
  readonly header: string
  readonly binding: string
}

export const unbound: ChannelUse = { header: 'n,,', binding: 'biws' }
export const unofferedBinding: ChannelUse = { header: 'y,,', binding: 'eSws' }

export function boundTo(channel: Uint8Array): ChannelUse {
  return { header: boundHeader, binding: Buffer.concat([Buffer.from(boundHeader), channel]).toString('base64') }
}

/**
 * Answers server-first with a password, or with keys that a client has proven; returns client-final and the signature
 * that the server must send.
 */
export function answerServerFirst(
  secret: string | ScramKeys,
  clientNonce: string,
  serverFirstMessage: string,
  saltedKeys: SaltedKeys,
  channel: ChannelUse = unbound,
): { message: string; serverSignature: Buffer } {
  const match = serverFirstPattern.exec(serverFirstMessage)
  if (match === null) throw malformed()
  const [, combinedNonce = '', salt = '', count = ''] = match
  const iterations = Number(count)
  if (!combinedNonce.startsWith(clientNonce) || combinedNonce.length === clientNonce.length) {
    throw new SqlError('protocol_violation', 'the server sent a SCRAM nonce that does not begin with ours')
  }
  if (iterations > iterationsMax) {
    throw new SqlError('protocol_violation', `the server requested more than ${iterationsMax} SCRAM iterations`)
  }
  const { clientKey, serverKey } =
    typeof secret === 'string'
      ? derivedKeys(saltedPassword(secret, salt, iterations, saltedKeys))
      : fittingKeys(secret, salt, iterations)
  const withoutProof = `c=${channel.binding},r=${combinedNonce}`
  const signed = `${clientFirstBare(clientNonce)},${serverFirstMessage},${withoutProof}`
  const proof = xor(clientKey, hmac(sha256(clientKey), signed))
  return {
    message: `${withoutProof},p=${proof.toString('base64')}`,
    serverSignature: hmac(serverKey, signed),
  }
}

type Keys = Pick<ScramKeys, 'clientKey' | 'serverKey'>

function derivedKeys(salted: Uint8Array): Keys {
  return { clientKey: hmac(salted, 'Client Key'), serverKey: hmac(salted, 'Server Key') }
}

function fittingKeys(keys: ScramKeys, salt: string, iterations: number): Keys {
  if (keys.iterations === iterations && Buffer.from(salt, 'base64').equals(keys.salt)) return keys
  throw new SqlError(
    'invalid_password',
    'the server\'s SCRAM verifier differs in salt or iterations from the one used by the client (server_auth = "passthrough")',
  )
}

function saltedPassword(password: string, salt: string, iterations: number, saltedKeys: SaltedKeys): Uint8Array {
  const key = `${sha256(Buffer.from(password)).toString('base64')} ${salt} ${iterations}`
  const known = saltedKeys.get(key)
  if (known !== undefined) return known
  const derived = pbkdf2Sync(password, Buffer.from(salt, 'base64'), iterations, digestBytes, 'sha256')
  if (saltedKeys.size >= saltedKeysMax) saltedKeys.clear()
  saltedKeys.set(key, derived)
  return derived
}

/** server-final-message: proves that the server knows the password. Throws SqlError. */
export function checkServerFinal(message: string, serverSignature: Uint8Array): void {
  const match = /^v=([A-Za-z0-9+/]+={0,2})(?:,[a-zA-Z]=[^,]*)*$/.exec(message)
  const signature = Buffer.from(match?.[1] ?? '', 'base64')
  if (signature.length !== serverSignature.length || !timingSafeEqual(signature, serverSignature)) {
    throw new SqlError('invalid_password', 'the server could not prove that it knows the password')
  }
}
