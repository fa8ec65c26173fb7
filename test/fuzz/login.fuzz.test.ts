/** Both logins, ours as a server and ours as a client, against peers that say anything. */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { authenticate } from '../../proxy/engine/auth/methods.ts'
import {
  answerServerFirst,
  checkServerFinal,
  parseClientFinal,
  parseClientFirst,
  serverFirst,
} from '../../proxy/engine/auth/scram.ts'
import { LoginRefused, serverLogin } from '../../proxy/engine/auth/server-login.ts'
import { errorFields } from '../../proxy/protocol/read.ts'
import * as write from '../../proxy/protocol/write.ts'
import { SqlError } from '../../shared/errors.ts'
import { Dialogue, int32, message } from '../proxy/engine/auth/exchange.ts'
import { verifierOf } from '../proxy/engine/auth/verifier.ts'
import { cuts, mutated, pieces, thrownBy } from './mutated.ts'

const verifier = verifierOf('pencil', Buffer.alloc(16, 3))
const nonce = 'bm9uY2U'
const challenge = serverFirst(verifier, `${nonce}more`)
const clientFirst = `n,,n=,r=${nonce}`
const clientFinal = answerServerFirst('pencil', nonce, challenge, new Map()).message
const noRandomness = (bytes: Uint8Array): void => void bytes.fill(0)

/** What became of the exchange: its result, its typed error, or nothing yet. Any other error is a bug. */
function outcome<Result>(make: () => Dialogue<Result>, chunks: readonly Uint8Array[]): unknown {
  let dialogue: Dialogue<Result> | undefined
  const error = thrownBy(() => {
    dialogue = make()
    for (const chunk of chunks) if (!dialogue.finished) dialogue.push(chunk)
  })
  if (error !== null && !(error instanceof SqlError || error instanceof LoginRefused)) {
    throw new Error('an error that is not typed', { cause: error })
  }
  return { error, result: dialogue?.result, finished: dialogue?.finished, sent: dialogue?.sent.toString('hex') }
}

test('21: SCRAM messages of a client are read or refused by a typed error', () => {
  const messages = fc
    .constantFrom(clientFirst, clientFinal, 'p=tls-exporter,,n=,r=a', 'y,a=x,m=1,n=,r=a')
    .map((text) => Buffer.from(text))
  fc.assert(
    fc.property(mutated(messages), (bytes) => {
      for (const parse of [parseClientFirst, parseClientFinal]) {
        const error = thrownBy(() => parse(bytes.toString()))

        expect(error === null || error instanceof SqlError).toBe(true)
      }
    }),
    { numRuns: 5000 },
  )
})

test('SCRAM messages of a server are answered or refused by a typed error, and never accepted when changed', () => {
  const { serverSignature } = answerServerFirst('pencil', nonce, challenge, new Map())
  const final = `v=${serverSignature.toString('base64')}`
  fc.assert(
    fc.property(mutated(fc.constant(Buffer.from(final))), (bytes) => {
      const text = bytes.toString()
      const error = thrownBy(() => checkServerFinal(text, serverSignature))

      expect(error === null || error instanceof SqlError).toBe(true)
      // The last character before the padding holds two bits that count for nothing.
      expect(error !== null || text.startsWith(final.slice(0, -2))).toBe(true)
    }),
    { numRuns: 3000 },
  )
  fc.assert(
    fc.property(mutated(fc.constant(Buffer.from(`r=${nonce}more,s=AAAA,i=2`))), (bytes) => {
      const error = thrownBy(() => answerServerFirst('pencil', nonce, bytes.toString(), new Map()))

      expect(error === null || error instanceof SqlError).toBe(true)
    }),
    { numRuns: 1000 },
  )
})

test('a client that says anything is refused by a typed error, waited for, or let in, however its bytes are cut', () => {
  const initial = message(
    'p',
    Buffer.concat([Buffer.from('SCRAM-SHA-256\0'), int32(clientFirst.length), Buffer.from(clientFirst)]),
  )
  const valid = fc.constantFrom(Buffer.concat([initial, message('p', clientFinal)]), initial, message('p', 'md5abc\0'))
  const method = fc.constantFrom('scram-sha-256', 'md5', 'trust', 'plain', 'cert')
  const secret = { md5: `md5${'0'.repeat(32)}`, scram: verifier }
  fc.assert(
    fc.property(
      method,
      mutated(valid).chain((bytes) => cuts(bytes.length).map((places) => ({ bytes, places }))),
      (chosen, { bytes, places }) => {
        const make = (): Dialogue<void> =>
          new Dialogue((conversation) => {
            const mockKey = Buffer.alloc(32)
            return authenticate(conversation, { user: 'app', method: chosen, secret, mockKey })
          }, noRandomness)

        expect(outcome(make, pieces(bytes, places))).toEqual(outcome(make, [bytes]))
      },
    ),
    { numRuns: 2000 },
  )
})

test('a server that says anything is refused by a typed error, waited for, or believed, however its bytes are cut', () => {
  const kinds = fc.constantFrom(
    write.authenticationOk(),
    message('R', int32(3)),
    write.authenticationMd5(Buffer.from('salt')),
    write.authenticationSasl(['SCRAM-SHA-256']),
    write.authenticationSaslContinue(`r=${Buffer.alloc(18).toString('base64')}x,s=AAAA,i=1`),
    write.authenticationSaslFinal('v=AAAA'),
    message('R', int32(7)),
    write.parameterStatus('server_version', '18.1'),
    write.backendKeyData(1, Buffer.alloc(4)),
    write.readyForQuery('I'),
    write.noticeResponse({ severity: 'NOTICE', code: '00000', message: 'hello' }),
    write.errorResponse({ severity: 'FATAL', code: '53300', message: 'sorry, too many clients already' }),
    write.negotiateProtocolVersion(0, []),
  )
  const conversations = fc.oneof(
    fc.array(kinds, { maxLength: 8 }).map((messages) => Buffer.concat(messages)),
    fc.array(kinds, { maxLength: 8 }).map((messages) => Buffer.concat([write.authenticationOk(), ...messages])),
  )
  fc.assert(
    fc.property(
      mutated(conversations).chain((bytes) => cuts(bytes.length).map((places) => ({ bytes, places }))),
      ({ bytes, places }) => {
        const make = (): Dialogue<unknown> =>
          new Dialogue(
            (conversation) =>
              serverLogin(conversation, { user: 'app', database: 'app', password: 'pencil', saltedKeys: new Map() }),
            noRandomness,
          )

        expect(outcome(make, pieces(bytes, places))).toEqual(outcome(make, [bytes]))
      },
    ),
    { numRuns: 3000 },
  )
})

test('error fields are bounded text from within the body, whatever it is', () => {
  const valid = fc
    .record({ message: fc.string({ maxLength: 2000 }), code: fc.string({ maxLength: 10 }) })
    .map((fields) => write.errorResponse({ severity: 'ERROR', ...fields }).subarray(5))
  fc.assert(
    fc.property(mutated(valid), (body) => {
      const bytes = Buffer.concat([Buffer.from('before\0'), body, Buffer.from('\0behind\0')])

      const fields = errorFields(bytes, 7, 7 + body.length)

      expect(fields.message.length).toBeLessThanOrEqual(500)
      expect(body.includes('behind') || !Object.values(fields).some((field) => String(field).includes('behind'))).toBe(
        true,
      )
    }),
    { numRuns: 3000 },
  )
})
