import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import { expect, test } from 'vitest'
import { Passwords } from '../../../proxy/agent/password.ts'
import { mockVerifier } from '../../../proxy/engine/auth/scram.ts'

const mockKey = Buffer.alloc(32, 1)

function newPasswords(): Passwords {
  return new Passwords(() => mockKey)
}

test('a password gives the md5 hash PostgreSQL stores and a SCRAM verifier that its owner can prove', async () => {
  const secret = await newPasswords().clientSecret('pencil', 'user')

  const { salt, iterations, storedKey, serverKey } = secret.scram!
  const salted = pbkdf2Sync('pencil', salt, iterations, 32, 'sha256')
  const clientKey = createHmac('sha256', salted).update('Client Key').digest()
  // md5('penciluser'), made with PostgreSQL's md5().
  expect(secret.md5).toBe(`md5${createHash('md5').update('penciluser').digest('hex')}`)
  expect(iterations).toBe(4096)
  expect(Buffer.from(storedKey)).toEqual(createHash('sha256').update(clientKey).digest())
  expect(Buffer.from(serverKey)).toEqual(createHmac('sha256', salted).update('Server Key').digest())
})

test('an unchanged password keeps its verifier, and two users with the same have different ones', async () => {
  const passwords = newPasswords()

  const first = await passwords.clientSecret('pencil', 'a')
  const again = await passwords.clientSecret('pencil', 'a')
  const other = await passwords.clientSecret('pencil', 'b')

  expect(again.scram).toBe(first.scram)
  expect(other.md5).not.toBe(first.md5)
  expect(other.scram?.salt).not.toEqual(first.scram?.salt)
})

test('a user has the same salt before and after it has a password, on every proxy of the fleet', async () => {
  const form = { iterations: 4096, salt: new Uint8Array(16) }

  const here = await newPasswords().clientSecret('pencil', 'a')
  const there = await newPasswords().clientSecret('ink', 'a')
  const elsewhere = await new Passwords(() => Buffer.alloc(32, 2)).clientSecret('pencil', 'a')
  const unknown = mockVerifier(mockKey, 'a', form)

  expect(here.scram).toMatchObject({ salt: unknown.salt, iterations: unknown.iterations })
  expect(there.scram?.salt).toEqual(here.scram?.salt)
  expect(there.scram?.storedKey).not.toEqual(here.scram?.storedKey)
  expect(elsewhere.scram?.salt).not.toEqual(here.scram?.salt)
})

test('a SCRAM verifier is taken as it is', async () => {
  // The exchange of RFC 7677, 3, as PostgreSQL would store it.
  const text =
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU='

  const { md5, scram } = await newPasswords().clientSecret(text, 'user')

  const salted = pbkdf2Sync('pencil', scram!.salt, scram!.iterations, 32, 'sha256')
  expect(md5).toBeNull()
  expect(scram?.iterations).toBe(4096)
  expect(Buffer.from(scram!.serverKey)).toEqual(createHmac('sha256', salted).update('Server Key').digest())
})

test('an md5 hash allows md5 alone', async () => {
  const text = `md5${'0123456789abcdef'.repeat(2)}`

  expect(await newPasswords().clientSecret(text, 'user')).toEqual({ md5: text, scram: null })
})

test('without a password there is no challenge', async () => {
  expect(await newPasswords().clientSecret(null, 'user')).toEqual({ md5: null, scram: null })
})

test.each([
  ['a broken verifier', 'SCRAM-SHA-256$4096:c2FsdA==$short:short'],
  ['a verifier that costs minutes', `SCRAM-SHA-256$900000000:c2FsdA==$${'A'.repeat(43)}=:${'A'.repeat(43)}=`],
  ['a NUL', 'pen\0cil'],
])('%s is refused without being quoted', async (_, text) => {
  const refused = await newPasswords()
    .clientSecret(text, 'user')
    .catch((error: unknown) => String(error))

  expect(refused).toContain('ApplyError')
  expect(refused).not.toContain(text)
})

const verifier =
  'SCRAM-SHA-256$7:W22ZaJ0SNY7soEsUEjb6gQ==$ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICA=:ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICA='

test.for([
  ['two passwords', 'pencil', 'old', 4096],
  ['a verifier after a password', verifier, 'old', 7],
  ['a password after a verifier', 'pencil', verifier, 7],
  ['the same verifier again', verifier, verifier, 7],
] as const)('%s are checked with one salt', async ([, text, former, iterations]) => {
  const passwords = newPasswords()

  const { scram, previous } = await passwords.rotatedSecret(text, { text: former, untilMs: 5 }, 'user')

  expect(scram).toMatchObject({ iterations })
  expect(previous?.scram).toMatchObject({ iterations, salt: scram?.salt })
  expect(previous?.untilMs).toBe(5)
})

test('a verifier of the former password is that of the very password', async () => {
  const passwords = newPasswords()
  const { scram, previous } = await passwords.rotatedSecret('pencil', { text: 'pencil', untilMs: null }, 'user')

  expect(previous?.scram).toEqual(scram)
})

test('two verifiers with different salts cannot be used in one exchange', async () => {
  const other = verifier.replace('W22ZaJ0S', 'AAAAAAAA')

  await expect(newPasswords().rotatedSecret(verifier, { text: other, untilMs: null }, 'user')).rejects.toMatchObject({
    code: 'unusable_password',
    message: expect.stringContaining('different salts') as string,
  })
})
