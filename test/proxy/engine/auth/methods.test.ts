import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { authenticate, secretAt, unknownUser } from '../../../../proxy/engine/auth/methods.ts'
import type { Claim } from '../../../../proxy/engine/auth/methods.ts'
import { answerServerFirst, boundTo, checkServerFinal } from '../../../../proxy/engine/auth/scram.ts'
import { Dialogue, int32, message } from './exchange.ts'
import { verifierOf } from './verifier.ts'

const salt = Buffer.alloc(16, 7)
const secret = { md5: `md5${md5('pencilapp')}`, scram: verifierOf('pencil', salt) }
const claim: Claim = { user: 'app', method: 'scram-sha-256', secret, mockKey: Buffer.alloc(32, 9) }

const wrongPassword = { sqlstate: '28P01', message: 'password authentication failed for user "app"' }

function begin(changes: Partial<Claim>): Dialogue<void> {
  return new Dialogue((conversation) => authenticate(conversation, { ...claim, ...changes }))
}

function initialResponse(text: string, mechanism = 'SCRAM-SHA-256'): Buffer {
  return message('p', Buffer.concat([Buffer.from(`${mechanism}\0`), int32(Buffer.byteLength(text)), Buffer.from(text)]))
}

/** Plays a client that knows `password`; gives what the server asked on the way. */
function proveScram(dialogue: Dialogue<void>, password: string): { challenge: string } {
  expect(dialogue.takeSent('R').toString('latin1')).toBe('\0\0\0\x0aSCRAM-SHA-256\0\0')
  dialogue.push(initialResponse('n,,n=,r=mynonce'))
  const challenge = dialogue.takeSent('R')
  expect(challenge.readInt32BE(0)).toBe(11)
  const reply = answerServerFirst(password, 'mynonce', challenge.subarray(4).toString(), new Map())
  dialogue.push(message('p', reply.message))
  const final = dialogue.takeSent('R')
  expect(final.readInt32BE(0)).toBe(12)
  checkServerFinal(final.subarray(4).toString(), reply.serverSignature)
  return { challenge: challenge.subarray(4).toString() }
}

describe('trust', () => {
  test('lets in at once', () => {
    const dialogue = begin({ method: 'trust', secret: null })

    expect(dialogue.finished).toBe(true)
    expect(dialogue.sent).toEqual(message('R', int32(0)))
  })
})

describe('SCRAM-SHA-256-PLUS', () => {
  const channel = Buffer.from('hash of our certificate')
  const header = 'p=tls-server-end-point,,'

  function bind(dialogue: Dialogue<void>, to: Uint8Array): void {
    expect(dialogue.takeSent('R').toString('latin1', 4)).toBe('SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0')
    dialogue.push(initialResponse(`${header}n=,r=mynonce`, 'SCRAM-SHA-256-PLUS'))
    const challenge = dialogue.takeSent('R').subarray(4).toString()
    dialogue.push(message('p', answerServerFirst('pencil', 'mynonce', challenge, new Map(), boundTo(to)).message))
  }

  test('who is bound to our certificate is let in', () => {
    const dialogue = begin({ channel })

    bind(dialogue, channel)

    expect(dialogue.finished).toBe(true)
  })

  test('a client that saw another certificate is rejected', () => {
    expect(() => bind(begin({ channel }), Buffer.from('hash of another'))).toThrow(
      expect.objectContaining({ sqlstate: '08P01' }),
    )
  })

  test.for([
    ['SCRAM-SHA-256-PLUS', 'n,,n=,r=mynonce'],
    ['SCRAM-SHA-256', `${header}n=,r=mynonce`],
  ] as const)('mechanism %s does not go with the header of %s', ([mechanism, first]) => {
    const dialogue = begin({ channel })

    expect(() => dialogue.push(initialResponse(first, mechanism))).toThrow('does not match the channel binding')
  })

  test('PLUS is not to be had without TLS', () => {
    const dialogue = begin({})

    expect(() => dialogue.push(initialResponse(`${header}n=,r=mynonce`, 'SCRAM-SHA-256-PLUS'))).toThrow('not offered')
  })
})

describe('SCRAM-SHA-256', () => {
  test('the right password is let in, after the server has proven itself', () => {
    const dialogue = begin({})

    proveScram(dialogue, 'pencil')

    expect(dialogue.finished).toBe(true)
    expect(dialogue.sent).toEqual(message('R', int32(0)))
  })

  test('a wrong password is refused as PostgreSQL refuses it', () => {
    const dialogue = begin({})

    expect(() => proveScram(dialogue, 'pen')).toThrow(expect.objectContaining(wrongPassword))
  })

  test('an unknown user sees the same messages, of the same lengths, and the same challenge each time', () => {
    const ask = (changes: Partial<Claim>): { lengths: number[]; salt: string; error: unknown } => {
      const dialogue = begin(changes)
      const lengths = [dialogue.takeSent('R').length]
      dialogue.push(initialResponse('n,,n=,r=mynonce'))
      const challenge = dialogue.takeSent('R').subarray(4).toString()
      lengths.push(challenge.length)
      const reply = answerServerFirst('guess', 'mynonce', challenge, new Map())
      let error: unknown
      try {
        dialogue.push(message('p', reply.message))
      } catch (thrown) {
        error = thrown
      }
      lengths.push(dialogue.sent.length)
      return { lengths, salt: /s=([^,]*)/.exec(challenge)?.[1] ?? '', error }
    }
    const known = ask({})
    const unknown = [ask({ secret: unknownUser }), ask({ secret: unknownUser })]

    expect(unknown[0]?.lengths).toEqual(known.lengths)
    expect(unknown[0]?.error).toEqual(known.error)
    expect(known.error).toMatchObject(wrongPassword)
    expect(unknown[0]?.salt).toBe(unknown[1]?.salt)
  })

  test('with nothing but an md5 hash every password is rejected', () => {
    const dialogue = begin({ secret: { md5: secret.md5, scram: null } })

    expect(() => proveScram(dialogue, 'pencil')).toThrow(expect.objectContaining(wrongPassword))
  })

  test('an answer to another challenge, or with another binding, is a protocol violation', () => {
    for (const [from, to] of [
      ['r=mynonce', 'r=yournonce'],
      ['c=biws', 'c=eSws'],
    ] as const) {
      const dialogue = begin({})
      dialogue.takeSent('R')
      dialogue.push(initialResponse('n,,n=,r=mynonce'))
      const challenge = dialogue.takeSent('R').subarray(4).toString()
      const reply = answerServerFirst('pencil', 'mynonce', challenge, new Map())

      expect(() => dialogue.push(message('p', reply.message.replace(from, to)))).toThrow(
        expect.objectContaining({ sqlstate: '08P01' }),
      )
    }
  })

  test('another mechanism, another message and a wrong length are protocol violations', () => {
    const wrong = [
      initialResponse('n,,n=,r=abc', 'SCRAM-SHA-256-PLUS'),
      initialResponse('n,,n=,r=abc', ''),
      message('p', 'pencil\0'),
      message('p', Buffer.concat([Buffer.from('SCRAM-SHA-256\0'), int32(2 ** 31 - 1), Buffer.from('n,,n=,r=abc')])),
      message('p', Buffer.concat([Buffer.from('SCRAM-SHA-256\0'), int32(-1)])),
      message('p', ''),
      message('Q', 'SELECT 1\0'),
    ]
    for (const bytes of wrong) {
      expect(() => begin({}).push(bytes)).toThrow(expect.objectContaining({ sqlstate: '08P01' }))
    }
  })

  test('a message above the limit is refused by its length alone', () => {
    expect(() => begin({}).push(Buffer.from('7000002711', 'hex'))).toThrow(
      expect.objectContaining({ sqlstate: '08P01' }),
    )
  })

  test('messages that come byte by byte are the same', () => {
    const dialogue = begin({})
    for (const byte of initialResponse('n,,n=,r=mynonce')) dialogue.push(Uint8Array.of(byte))
    dialogue.takeSent('R')
    const challenge = dialogue.takeSent('R').subarray(4).toString()
    const reply = answerServerFirst('pencil', 'mynonce', challenge, new Map())
    for (const byte of message('p', reply.message)) dialogue.push(Uint8Array.of(byte))

    expect(dialogue.finished).toBe(true)
  })
})

describe('plain', () => {
  const password = (text: string): Buffer => message('p', `${text}\0`)
  const digest = createHash('sha256').update('pencil').digest()

  test.for([
    ['the password itself', { ...secret, digest }],
    ['an md5 hash', { md5: secret.md5, scram: null }],
    ['a SCRAM verifier', { md5: null, scram: secret.scram }],
  ] as const)('is checked against %s', ([, known]) => {
    const right = begin({ method: 'plain', secret: known })
    expect(right.takeSent('R')).toEqual(int32(3))
    right.push(password('pencil'))
    expect(right.sent).toEqual(message('R', int32(0)))

    for (const wrong of ['pen', '', 'pencil2', 'x'.repeat(5000)]) {
      const dialogue = begin({ method: 'plain', secret: known })

      expect(() => dialogue.push(password(wrong))).toThrow(expect.objectContaining(wrongPassword))
    }
  })

  test('SASLprep does not keep a password from its verifier', () => {
    const known = { md5: null, scram: verifierOf('IX', salt) }
    const dialogue = begin({ method: 'plain', secret: known })
    dialogue.push(password('I\u00adX'))

    expect(dialogue.finished).toBe(true)
  })

  test('a verifier of very many iterations is not derived in the loop', () => {
    const known = { md5: null, scram: { ...secret.scram, iterations: 100_001 } }

    expect(() => begin({ method: 'plain', secret: known }).push(password('pencil'))).toThrow(
      expect.objectContaining(wrongPassword),
    )
  })

  test('a message without a NUL is a password all the same, one above the limit is refused by its length', () => {
    const dialogue = begin({ method: 'plain', secret: { ...secret, digest } })
    dialogue.push(message('p', 'pencil'))
    expect(dialogue.finished).toBe(true)

    expect(() => begin({ method: 'plain' }).push(Buffer.from('7000002711', 'hex'))).toThrow(
      expect.objectContaining({ sqlstate: '08P01' }),
    )
  })
})

describe('cert', () => {
  test('accepts a certificate for this user, and no other', () => {
    const refused = { sqlstate: '28000', message: 'certificate authentication failed for user "app"' }
    const right = begin({ method: 'cert', certified: true })
    expect(right.sent).toEqual(message('R', int32(0)))

    for (const claim of [{ certified: false }, {}, { certified: true, secret: unknownUser }]) {
      expect(() => begin({ method: 'cert', ...claim })).toThrow(expect.objectContaining(refused))
    }
  })
})

describe('who has two passwords', () => {
  const former = { md5: `md5${md5('oldapp')}`, scram: verifierOf('old', salt) }
  const digests = (password: string): { digest: Buffer } => ({ digest: createHash('sha256').update(password).digest() })
  const both = {
    ...secret,
    ...digests('pencil'),
    previous: { ...former, ...digests('old'), untilMs: 1000 },
  }

  function answer(method: Claim['method'], claimed: Claim['secret'], password: string): Dialogue<void> {
    const dialogue = begin({ method, secret: claimed })
    if (method === 'plain') dialogue.push(message('p', `${password}\0`))
    else if (dialogue.sent.readInt32BE(5) === 10) proveScram(dialogue, password)
    else {
      const asked = dialogue.takeSent('R')
      dialogue.push(message('p', `md5${md5(md5(`${password}app`), asked.subarray(4))}\0`))
    }
    return dialogue
  }

  test.for(['plain', 'md5', 'scram-sha-256'] as const)('is let in by either with %s, and by no third', (method) => {
    expect(answer(method, both, 'pencil').finished).toBe(true)
    expect(answer(method, both, 'old').finished).toBe(true)
    expect(() => answer(method, both, 'pen')).toThrow(expect.objectContaining(wrongPassword))
  })

  test('are checked by SCRAM where one of them is a verifier, though md5 is configured', () => {
    const { previous, ...rest } = both
    const mixed = { ...rest, previous: { ...previous, md5: null } }

    expect(begin({ method: 'md5', secret: mixed }).sent.readInt32BE(5)).toBe(10)
    expect(answer('md5', mixed, 'pencil').finished).toBe(true)
    expect(answer('md5', mixed, 'old').finished).toBe(true)
  })

  test('has the former one until its time is over, or as long as it is configured', () => {
    const { previous, ...rest } = both

    expect(secretAt(both, 999)).toBe(both)
    expect(secretAt(both, 1000)).toEqual(rest)
    expect(secretAt({ ...rest, previous: { ...previous, untilMs: null } }, 1e15).previous).toBeDefined()
    expect(secretAt(rest, 0)).toEqual(rest)
  })
})

describe('an unknown user', () => {
  const digest = createHash('sha256').update('pencil').digest()
  const forms = {
    'the password itself': { ...secret, digest },
    'an md5 hash': { md5: secret.md5, scram: null },
    'a verifier': { md5: null, scram: verifierOf('pencil', Buffer.alloc(24, 7), 100) },
    nothing: { md5: null, scram: null },
    'two passwords': { ...secret, digest, previous: { ...secret, digest, untilMs: null } },
  }

  /** The messages to a user whose every answer is wrong, without random parts, and the error. */
  function trace(changes: Partial<Claim>): unknown[] {
    const seen: unknown[] = []
    try {
      const dialogue = begin(changes)
      while (!dialogue.finished) {
        const asked = dialogue.takeSent('R')
        const kind = asked.readInt32BE(0)
        const challenge = /s=([^,]*),i=(.*)/.exec(asked.toString())
        seen.push([kind, asked.length, challenge?.[1]?.length, challenge?.[2]])
        if (kind === 10) dialogue.push(initialResponse('n,,n=,r=mynonce'))
        else if (kind !== 11) dialogue.push(message('p', 'guess\0'))
        else {
          const text = asked.subarray(4).toString()
          dialogue.push(message('p', answerServerFirst('guess', 'mynonce', text, new Map()).message))
        }
      }
      seen.push('let in')
    } catch (error) {
      seen.push(error)
    }
    return seen
  }

  test.for(
    Object.entries(forms).flatMap(([form, known]) =>
      (['plain', 'md5', 'scram-sha-256', 'cert'] as const).map((method) => [method, form, known] as const),
    ),
  )('is challenged by %s, and rejected, like a user with %s', ([method, , like]) => {
    const known = trace({ method, secret: like })
    const unknown = trace({ method, secret: unknownUser, like })

    expect(unknown).toEqual(known)
    expect(known.at(-1)).toMatchObject({ message: expect.stringMatching(/authentication failed for user "app"$/) })
  })

  test('is not let in for a name that is trusted, but asked for a password', () => {
    const asked = trace({ method: 'trust', secret: unknownUser })

    expect(asked).toHaveLength(3)
    expect(asked.at(-1)).toMatchObject(wrongPassword)
  })
})

describe('md5', () => {
  function answer(dialogue: Dialogue<void>, inner: string): void {
    const asked = dialogue.takeSent('R')
    expect(asked.readInt32BE(0)).toBe(5)
    dialogue.push(message('p', `md5${md5(inner, asked.subarray(4))}\0`))
  }

  test('the right password is let in, the wrong one refused as PostgreSQL refuses it', () => {
    const right = begin({ method: 'md5' })
    answer(right, md5('pencilapp'))
    expect(right.sent).toEqual(message('R', int32(0)))

    expect(() => answer(begin({ method: 'md5' }), md5('penapp'))).toThrow(expect.objectContaining(wrongPassword))
    const short = begin({ method: 'md5' })
    expect(() => short.push(message('p', 'md5\0'))).toThrow(expect.objectContaining(wrongPassword))
  })

  test('each login has its own salt, so an answer cannot be used again', () => {
    const salts = new Set(Array.from({ length: 50 }, () => begin({ method: 'md5' }).takeSent('R').toString('hex')))

    expect(salts.size).toBe(50)
  })

  test('with nothing but a SCRAM verifier, SCRAM is used', () => {
    const dialogue = begin({ method: 'md5', secret: { md5: null, scram: secret.scram } })

    proveScram(dialogue, 'pencil')

    expect(dialogue.finished).toBe(true)
  })
})

function md5(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('md5')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}
