import { describe, expect, test } from 'vitest'
import {
  answerServerFirst,
  checkProof,
  checkServerFinal,
  mockVerifier,
  parseClientFinal,
  parseClientFirst,
  provenKeys,
  serverFirst,
} from '../../../../proxy/engine/auth/scram.ts'
import { verifierOf } from './verifier.ts'

/** RFC 7677, 3: the conversation of user "user" with password "pencil". */
const vector = {
  clientFirst: 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO',
  combinedNonce: 'rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0',
  serverFirst: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
  clientFinal:
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
  serverFinal: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
}
const pencil = verifierOf('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'))

const channel = Buffer.from('the hash')

describe('as the server', () => {
  test("the RFC's conversation goes as the RFC writes it", () => {
    const first = parseClientFirst(vector.clientFirst)
    expect(first.nonce).toBe('rOprNGfwEbeRWgbNEkqO')
    expect(serverFirst(pencil, vector.combinedNonce)).toBe(vector.serverFirst)

    const final = parseClientFinal(vector.clientFinal)

    expect(final.binding).toBe(first.binding)
    expect(final.nonce).toBe(vector.combinedNonce)
    expect(checkProof(pencil, first, vector.serverFirst, final)).toBe(vector.serverFinal)
  })

  test('a proof with any one bit changed is wrong', () => {
    const first = parseClientFirst(vector.clientFirst)
    const final = parseClientFinal(vector.clientFinal)
    for (let bit = 0; bit < 256; bit++) {
      const proof = Uint8Array.from(final.proof)
      proof[bit >> 3] = (proof[bit >> 3] as number) ^ (1 << (bit & 7))

      expect(checkProof(pencil, first, vector.serverFirst, { ...final, proof })).toBeNull()
    }
  })

  test('a proof for another nonce, salt or password is wrong', () => {
    const first = parseClientFirst(vector.clientFirst)
    const final = parseClientFinal(vector.clientFinal)

    expect(checkProof(pencil, first, vector.serverFirst.replace('r=r', 'r=s'), final)).toBeNull()
    expect(checkProof(verifierOf('pencil', Buffer.alloc(16)), first, vector.serverFirst, final)).toBeNull()
    expect(checkProof(verifierOf('Pencil', pencil.salt), first, vector.serverFirst, final)).toBeNull()
  })

  test('channel binding, an extension and an authorization identity are each refused by name', () => {
    expect(() => parseClientFirst('p=tls-exporter,,n=,r=abc')).toThrow('channel binding')
    expect(() => parseClientFirst('p=tls-exporter,,n=,r=abc', channel)).toThrow('channel binding')
    expect(() => parseClientFirst('p=tls-server-end-point,,n=,r=abc')).toThrow('channel binding')
    expect(() => parseClientFirst('n,,m=x,n=,r=abc')).toThrow('unsupported SCRAM extension')
    expect(() => parseClientFirst('n,a=admin,n=,r=abc')).toThrow('authorization identity')
  })

  test('a client that binds must repeat header and channel', () => {
    const bound = parseClientFirst('p=tls-server-end-point,,n=,r=abc', channel)

    expect(bound.bound).toBe(true)
    expect(Buffer.from(bound.binding, 'base64').toString('latin1')).toBe('p=tls-server-end-point,,the hash')
  })

  test('a client that believes no binding was offered, though it was, is refused', () => {
    expect(() => parseClientFirst('y,,n=,r=abc', channel)).toThrow(
      expect.objectContaining({ sqlstate: '28000', message: 'SCRAM channel binding negotiation error' }),
    )
    expect(parseClientFirst('n,,n=,r=abc', channel).bound).toBe(false)
  })

  test('a client that could bind but was not offered it is let in', () => {
    expect(parseClientFirst('y,,n=,r=abc').binding).toBe('eSws')
    expect(parseClientFirst('n,,n=,r=abc,x=later').nonce).toBe('abc')
  })

  test('what is not a SCRAM message is malformed', () => {
    const firsts = [
      '',
      'n,,',
      'n,,n=',
      'n,,r=abc',
      'n,,n=,r=',
      'n,,n=,r=a b',
      'x,,n=,r=abc',
      'n,n=,r=abc',
      'n,,n=,r=abc,',
    ]
    for (const text of firsts) expect(() => parseClientFirst(text)).toThrow('malformed SCRAM message')
    const finals = ['', 'c=biws', 'c=biws,r=abc', 'c=biws,r=abc,p=', 'c=biws,r=abc,p=AAAA', `${vector.clientFinal},x=y`]
    for (const text of finals) expect(() => parseClientFinal(text)).toThrow('malformed SCRAM message')
  })

  test('an unknown user has the same challenge each time, another one in another process, and no password fits it', () => {
    const key = Buffer.alloc(32, 1)

    expect(mockVerifier(key, 'ghost')).toEqual(mockVerifier(key, 'ghost'))
    expect(mockVerifier(key, 'ghost').salt).not.toEqual(mockVerifier(key, 'spook').salt)
    expect(mockVerifier(key, 'ghost').salt).not.toEqual(mockVerifier(Buffer.alloc(32, 2), 'ghost').salt)
    expect(mockVerifier(key, 'ghost').salt.length).toBe(16)
    expect(mockVerifier(key, 'ghost').iterations).toBe(4096)
  })
})

describe('as the client', () => {
  const nonce = 'clientnonce'
  const challenge = serverFirst(pencil, `${nonce}servernonce`)

  test('our answer convinces our own server, and its signature convinces us', () => {
    const reply = answerServerFirst('pencil', nonce, challenge, new Map())
    const first = parseClientFirst(`n,,n=,r=${nonce}`)

    const confirmation = checkProof(pencil, first, challenge, parseClientFinal(reply.message))

    expect(confirmation).not.toBeNull()
    expect(() => checkServerFinal(confirmation ?? '', reply.serverSignature)).not.toThrow()
  })

  test('the keys that a client has proven itself by convince a server with the same salt and count, and no other', () => {
    const given = answerServerFirst('pencil', nonce, challenge, new Map())
    const first = parseClientFirst(`n,,n=,r=${nonce}`)
    const keys = provenKeys(pencil, first, challenge, parseClientFinal(given.message))
    const another = serverFirst(pencil, `${nonce}anothernonce`)

    const reply = answerServerFirst(keys, nonce, another, new Map())
    const confirmation = checkProof(pencil, first, another, parseClientFinal(reply.message))

    expect(confirmation).not.toBeNull()
    expect(() => checkServerFinal(confirmation ?? '', reply.serverSignature)).not.toThrow()
    for (const other of [{ salt: Buffer.alloc(16) }, { iterations: 4097 }]) {
      const text = serverFirst({ ...pencil, ...other }, `${nonce}anothernonce`)
      expect(() => answerServerFirst(keys, nonce, text, new Map())).toThrow('differs in salt or iterations')
    }
  })

  test('a server that does not know the password is not believed', () => {
    const { serverSignature } = answerServerFirst('pencil', nonce, challenge, new Map())
    const wrong = [vector.serverFinal, 'v=', 'v=AAAA', 'e=other-error', '', `v=${serverSignature.toString('base64')}x`]

    for (const text of wrong) expect(() => checkServerFinal(text, serverSignature)).toThrow('could not prove')
  })

  test("a nonce that does not continue ours, or adds nothing, is not the server's", () => {
    for (const theirs of ['other', nonce, 'clientnonc']) {
      expect(() => answerServerFirst('x', nonce, `r=${theirs},s=AAAA,i=4096`, new Map())).toThrow(
        'does not begin with ours',
      )
    }
  })

  test('an iteration count of zero, or one that would stop the loop, is refused before anything is derived', () => {
    const asked = (count: string) => () => answerServerFirst('x', nonce, `r=${nonce}1,s=AAAA,i=${count}`, new Map())

    for (const count of ['0', '-1', '01', '', '4096x', '99999999999']) expect(asked(count)).toThrow('malformed')
    const beganMs = performance.now()
    expect(asked('999999999')).toThrow('more than 1000000 SCRAM iterations')
    expect(performance.now() - beganMs).toBeLessThan(1000)
    expect(asked('1')).not.toThrow()
  })

  test('a second login with the same password, salt and count derives nothing', () => {
    const challenge = serverFirst(verifierOf('pencil', pencil.salt, 4096), `${nonce}servernonce`)
    const saltedKeys = new Map<string, Uint8Array>()
    const first = answerServerFirst('pencil', nonce, challenge, saltedKeys)

    const second = answerServerFirst('pencil', nonce, challenge, saltedKeys)
    for (const key of saltedKeys.keys()) saltedKeys.set(key, new Uint8Array(32))
    const third = answerServerFirst('pencil', nonce, challenge, saltedKeys)

    expect(second).toEqual(first)
    // What is remembered is what is used: a derivation would have come to the first answer again.
    expect(third).not.toEqual(first)
    expect(answerServerFirst('Pencil', nonce, challenge, saltedKeys)).not.toEqual(first)
    expect([...saltedKeys.keys()].some((key) => key.toLowerCase().includes('pencil'))).toBe(false)
  })

  test('a server that changes its salt for ever does not fill the memory', () => {
    const saltedKeys = new Map<string, Uint8Array>()

    for (let salt = 0; salt < 1000; salt++) {
      const text = Buffer.from(String(salt)).toString('base64')
      answerServerFirst('x', nonce, `r=${nonce}1,s=${text},i=1`, saltedKeys)
    }

    expect(saltedKeys.size).toBeLessThanOrEqual(64)
  })
})
