/** Client authentication: one line per method. */
import { createHash, pbkdf2Sync, timingSafeEqual } from 'node:crypto'
import { plainIterationsMax } from '../../../shared/config/password.ts'
import { SqlError } from '../../../shared/errors.ts'
import { preparePassword } from '../../../shared/saslprep.ts'
import { int32, stringEnd, text } from '../../protocol/read.ts'
import { FrontendTag } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { readMessage } from '../wire/conversation.ts'
import type { Message } from '../../protocol/framing.ts'
import type { Conversation, Exchange } from '../wire/conversation.ts'
import type { ClientSecret, ScramVerifier } from '../../spec.ts'
import {
  checkProof,
  mockVerifier,
  nonce,
  parseClientFinal,
  parseClientFirst,
  provenKeys,
  scramMechanism,
  scramPlusMechanism,
  serverFirst,
  clientKeyFrom,
} from './scram.ts'
import type { ScramKeys } from './scram.ts'
import { mockSecret } from './mock-secret.ts'

export interface Claim {
  readonly user: string
  readonly method: 'trust' | 'plain' | 'md5' | 'scram-sha-256' | 'cert'
  /** `unknownUser` for a user that does not exist. */
  readonly secret: ClientSecret | null
  /** Secret of an existing user, like which an unknown user is challenged. Null or absent without any. */
  readonly like?: ClientSecret | null
  /** A certificate was presented, and it is for this user. */
  readonly certified?: boolean
  /** Derives the challenge of an unknown user. */
  readonly mockKey: Uint8Array
  /** Channel binding of the client's TLS connection (tls-server-end-point); null or absent without. */
  readonly channel?: Uint8Array | null
  /** Looks the secret up again after a wrong proof, as it may have changed. Returns null if it was not. */
  readonly again?: () => Exchange<ClientSecret | null>
  /**
   * Called with the keys of a client, from SCRAM or from a password that matches a verifier, and whether they are those
   * of the former password.
   */
  readonly proven?: (keys: ScramKeys, isFormer: boolean) => void
}

/** The secret of an unknown user: no answer is correct. */
export const unknownUser: ClientSecret = { md5: null, scram: null }

/** A claim with a secret to check it against. */
interface Checked extends Claim {
  readonly secret: ClientSecret
}

type Method = (conversation: Conversation, claim: Checked) => Exchange<boolean>

const methods: Readonly<Record<Claim['method'], Method>> = {
  trust: proveNothing,
  plain: provePlain,
  md5: proveMd5,
  'scram-sha-256': proveScram,
  cert: proveCertificate,
}

/**
 * Authenticates the peer as `claim.user` (manual, "Message Flow", "Start-up"). Throws SqlError 28P01, or 28000 for
 * certificates, with PostgreSQL's text.
 */
export function* authenticate(conversation: Conversation, claim: Claim): Exchange<void> {
  const known = claim.secret !== unknownUser
  const secret = isEmpty(claim.secret) ? mockSecretFor(claim) : claim.secret
  // Unknown users get a password challenge, even under `trust`.
  const method = claim.method === 'trust' && !known ? 'scram-sha-256' : claim.method
  const proven = yield* methods[method](conversation, { ...claim, secret })
  if (!proven || !known) {
    if (method === 'cert') throw certificateRefused(claim.user)
    throw new SqlError('invalid_password', `password authentication failed for user "${claim.user}"`)
  }
  conversation.send(write.authenticationOk())
}

/** No method can succeed with it: the user is unknown, or has no password. */
function isEmpty(secret: ClientSecret | null): secret is null {
  return secret === null || (secret.md5 === null && secret.scram === null && secret.digest === undefined)
}

function mockSecretFor({ mockKey, user, like = null }: Claim): ClientSecret {
  return mockSecret(mockKey, user, isEmpty(like) ? null : like)
}

export function certificateRefused(user: string): SqlError {
  return new SqlError('invalid_authorization_specification', `certificate authentication failed for user "${user}"`)
}

// eslint-disable-next-line require-yield -- the other methods do
function* proveNothing(): Exchange<boolean> {
  return true
}

/** The certificate was verified in the TLS handshake; that it is for this user, before. */
// eslint-disable-next-line require-yield -- as above
function* proveCertificate(_conversation: Conversation, claim: Checked): Exchange<boolean> {
  return claim.certified === true
}

/** AuthenticationCleartextPassword, PasswordMessage. */
function* provePlain(conversation: Conversation, claim: Checked): Exchange<boolean> {
  conversation.send(write.authenticationCleartextPassword())
  const answer = yield* readMessage(conversation, FrontendTag.Password)
  // A copy, because the bytes are valid until the next yield only.
  const given = answer.bytes.slice(answer.start, stringEnd(answer.bytes, answer.start, answer.end))
  // All secrets are checked, so that timing reveals nothing.
  const checks = goodOf(claim.secret).map((secret) => checkPassword(given, claim.user, secret))
  const proven = checks.findIndex(({ isRight }) => isRight)
  if (proven !== -1) return isProven(claim, checks[proven] as PasswordCheck, proven > 0)
  const fresh = yield* askedAgain(claim)
  return fresh !== null && isProven(claim, checkPassword(given, claim.user, fresh), false)
}

function isProven({ proven }: Claim, { isRight, keys }: PasswordCheck, isFormer: boolean): boolean {
  if (isRight && keys !== null) proven?.(keys, isFormer)
  return isRight
}

interface PasswordCheck {
  readonly isRight: boolean
  /** Set if the password was checked against a SCRAM verifier only. */
  readonly keys: ScramKeys | null
}

/** The secret, and the previous one while it is valid. */
function goodOf(secret: ClientSecret): readonly Omit<ClientSecret, 'previous'>[] {
  return secret.previous === undefined ? [secret] : [secret, secret.previous]
}

/** The secrets valid at this time of the system clock. */
export function secretAt(secret: ClientSecret, wallMs: number): ClientSecret {
  const { previous, ...rest } = secret
  return previous === undefined || previous.untilMs === null || wallMs < previous.untilMs ? secret : rest
}

function checkPassword(
  given: Uint8Array,
  user: string,
  { digest, md5, scram }: Pick<ClientSecret, 'digest' | 'md5' | 'scram'>,
): PasswordCheck {
  if (digest !== undefined) {
    return { isRight: timingSafeEqual(createHash('sha256').update(given).digest(), digest), keys: null }
  }
  if (md5 !== null) {
    const hash = createHash('md5').update(given).update(user).digest('hex')
    return { isRight: timingSafeEqual(Buffer.from(`md5${hash}`), Buffer.from(md5)), keys: null }
  }
  if (scram === null || scram.iterations > plainIterationsMax) return { isRight: false, keys: null }
  const { salt, iterations, storedKey, serverKey } = scram
  const password = preparePassword(text(given, 0, given.length))
  const clientKey = clientKeyFrom(pbkdf2Sync(password, salt, iterations, storedKey.length, 'sha256'))
  const isRight = timingSafeEqual(createHash('sha256').update(clientKey).digest(), storedKey)
  return { isRight, keys: { salt, iterations, serverKey, clientKey } }
}

/**
 * "md5" + md5(md5(password + user) + salt), in hex. SCRAM if there is only a SCRAM verifier, as in PostgreSQL: one
 * exchange must work for both passwords of a user that has two.
 */
function* proveMd5(conversation: Conversation, claim: Checked): Exchange<boolean> {
  const stored = goodOf(claim.secret).map(({ md5 }) => md5)
  if (stored.includes(null)) return yield* proveScram(conversation, claim)
  const salt = new Uint8Array(4)
  conversation.random(salt)
  conversation.send(write.authenticationMd5(salt))
  const answer = yield* readMessage(conversation, FrontendTag.Password)
  // A copy, because the bytes are valid until the next yield only.
  const given = answer.bytes.slice(answer.start, stringEnd(answer.bytes, answer.start, answer.end))
  if (stored.filter((md5) => isMd5Answer(given, md5 ?? '', salt)).length > 0) return true
  const fresh = (yield* askedAgain(claim))?.md5 ?? null
  return fresh !== null && isMd5Answer(given, fresh, salt)
}

function isMd5Answer(given: Uint8Array, stored: string, salt: Uint8Array): boolean {
  const inner = Buffer.from(stored.slice('md5'.length))
  const expected = Buffer.from(`md5${createHash('md5').update(inner).update(salt).digest('hex')}`)
  return given.length === expected.length && timingSafeEqual(given, expected)
}

function* askedAgain({ again }: Claim): Exchange<ClientSecret | null> {
  return again === undefined ? null : yield* again()
}

/** AuthenticationSASL, SASLInitialResponse, AuthenticationSASLContinue, SASLResponse, AuthenticationSASLFinal. */
function* proveScram(conversation: Conversation, claim: Checked): Exchange<boolean> {
  const known = goodOf(claim.secret).flatMap(({ scram }) => scram ?? [])
  const verifiers = known.length > 0 ? known : [mockVerifier(claim.mockKey, claim.user)]
  const verifier = verifiers[0] as ScramVerifier
  const channel = claim.channel ?? null
  const offered = channel === null ? [scramMechanism] : [scramPlusMechanism, scramMechanism]
  conversation.send(write.authenticationSasl(offered))
  const { mechanism, response: initial } = initialResponse(yield* readMessage(conversation, FrontendTag.Password))
  if (!offered.includes(mechanism)) {
    throw new SqlError('protocol_violation', 'the client selected a SASL mechanism that was not offered')
  }
  const first = parseClientFirst(initial, channel)
  if (first.bound !== (mechanism === scramPlusMechanism)) {
    throw new SqlError('protocol_violation', 'the SASL mechanism does not match the channel binding')
  }
  const combinedNonce = first.nonce + nonce((bytes) => conversation.random(bytes))
  const challenge = serverFirst(verifier, combinedNonce)
  conversation.send(write.authenticationSaslContinue(challenge))

  const response = yield* readMessage(conversation, FrontendTag.Password)
  const final = parseClientFinal(text(response.bytes, response.start, response.end))
  if (final.nonce !== combinedNonce || final.binding !== first.binding) {
    throw new SqlError('protocol_violation', 'the SCRAM response does not match the challenge')
  }
  const confirmations = verifiers.map((stored) => checkProof(stored, first, challenge, final))
  const proven = confirmations.findIndex((text) => text !== null)
  const confirmation = confirmations[proven] ?? null
  const fitting = verifiers[proven]
  if (confirmation === null || fitting === undefined) {
    // The proof is for the salt that was sent, so a changed verifier applies to the next attempt.
    yield* askedAgain(claim)
    return false
  }
  claim.proven?.(provenKeys(fitting, first, challenge, final), proven > 0)
  conversation.send(write.authenticationSaslFinal(confirmation))
  return true
}

/** SASLInitialResponse: String mechanism, Int32 length or -1, Byte n response. */
function initialResponse({ bytes, start, end }: Message): { mechanism: string; response: string } {
  const mechanismEnd = stringEnd(bytes, start, end)
  if (mechanismEnd + 5 > end) throw new SqlError('protocol_violation', 'malformed SASLInitialResponse')
  const length = int32(bytes, mechanismEnd + 1)
  const from = mechanismEnd + 5
  if (length !== end - from) throw new SqlError('protocol_violation', 'malformed SASLInitialResponse')
  return { mechanism: text(bytes, start, mechanismEnd), response: text(bytes, from, end) }
}
