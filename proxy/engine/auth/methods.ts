/** How a client proves who it is: one line per method. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { SqlError } from '../../../shared/errors.ts'
import { int32, stringEnd, text } from '../../protocol/read.ts'
import { FrontendTag } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { readMessage } from '../conversation.ts'
import type { Conversation, Exchange, Message } from '../conversation.ts'
import type { ClientSecret } from '../messages.ts'
import {
  checkProof,
  mockVerifier,
  nonce,
  parseClientFinal,
  parseClientFirst,
  scramMechanism,
  scramPlusMechanism,
  serverFirst,
} from './scram.ts'

export interface Claim {
  readonly user: string
  readonly method: 'trust' | 'md5' | 'scram-sha-256'
  readonly secret: ClientSecret | null
  /** Makes up the challenge of a user that is not known. */
  readonly mockKey: Uint8Array
  /** Of the TLS channel the client came by (tls-server-end-point); null or absent without. */
  readonly channel?: Uint8Array | null
}

/** The secret of somebody who does not exist: no answer is right. */
export const unknownUser: ClientSecret = { md5: null, scram: null }

type Method = (conversation: Conversation, claim: Claim) => Exchange<boolean>

const methods: Readonly<Record<Claim['method'], Method>> = {
  trust: proveNothing,
  md5: proveMd5,
  'scram-sha-256': proveScram,
}

/**
 * Has the peer prove that it is `claim.user`, and tells it so (manual, "Message Flow", "Start-up"). Throws SqlError
 * 28P01 when it cannot, worded as PostgreSQL does.
 */
export function* authenticate(conversation: Conversation, claim: Claim): Exchange<void> {
  const proven = yield* methods[claim.method](conversation, claim)
  if (!proven) throw new SqlError('invalid_password', `password authentication failed for user "${claim.user}"`)
  conversation.send(write.authenticationOk())
}

// eslint-disable-next-line require-yield -- the other methods do
function* proveNothing(): Exchange<boolean> {
  return true
}

/** "md5" + md5(md5(password + user) + salt), in hex. With only a SCRAM verifier at hand, SCRAM (as PostgreSQL). */
function* proveMd5(conversation: Conversation, claim: Claim): Exchange<boolean> {
  const stored = claim.secret === unknownUser ? mockMd5(claim.mockKey, claim.user) : (claim.secret?.md5 ?? null)
  if (stored === null) return yield* proveScram(conversation, claim)
  const salt = new Uint8Array(4)
  conversation.random(salt)
  conversation.send(write.authenticationMd5(salt))
  const answer = yield* readMessage(conversation, FrontendTag.Password)
  const given = answer.bytes.subarray(answer.start, stringEnd(answer.bytes, answer.start, answer.end))
  const inner = Buffer.from(stored.slice('md5'.length))
  const expected = Buffer.from(`md5${createHash('md5').update(inner).update(salt).digest('hex')}`)
  return given.length === expected.length && timingSafeEqual(given, expected)
}

/** A hash that nobody knows a password for. */
function mockMd5(mockKey: Uint8Array, user: string): string {
  return `md5${createHmac('md5', mockKey).update(user).digest('hex')}`
}

/** AuthenticationSASL, SASLInitialResponse, AuthenticationSASLContinue, SASLResponse, AuthenticationSASLFinal. */
function* proveScram(conversation: Conversation, claim: Claim): Exchange<boolean> {
  const known = claim.secret?.scram ?? null
  const verifier = known ?? mockVerifier(claim.mockKey, claim.user)
  const channel = claim.channel ?? null
  const offered = channel === null ? [scramMechanism] : [scramPlusMechanism, scramMechanism]
  conversation.send(write.authenticationSasl(offered))
  const { mechanism, response: initial } = initialResponse(yield* readMessage(conversation, FrontendTag.Password))
  if (!offered.includes(mechanism)) {
    throw new SqlError('protocol_violation', 'the client selected a SASL mechanism that was not offered')
  }
  const first = parseClientFirst(initial, channel)
  if (first.bound !== (mechanism === scramPlusMechanism)) {
    throw new SqlError('protocol_violation', 'the SASL mechanism and the channel binding do not go together')
  }
  const combinedNonce = first.nonce + nonce((bytes) => conversation.random(bytes))
  const challenge = serverFirst(verifier, combinedNonce)
  conversation.send(write.authenticationSaslContinue(challenge))

  const response = yield* readMessage(conversation, FrontendTag.Password)
  const final = parseClientFinal(text(response.bytes, response.start, response.end))
  if (final.nonce !== combinedNonce || final.binding !== first.binding) {
    throw new SqlError('protocol_violation', 'the SCRAM answer does not belong to this challenge')
  }
  const confirmation = checkProof(verifier, first, challenge, final)
  if (confirmation === null || known === null) return false
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
