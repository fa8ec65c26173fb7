import { createHash, createHmac, hash, pbkdf2, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { iterationsMax, passwordFault, passwordKind, readVerifier } from '../../shared/config/password.ts'
import { preparePassword } from '../../shared/saslprep.ts'
import type { ClientSecret, ScramVerifier } from '../spec.ts'
import { mockSalt } from '../mock-salt.ts'
import { ApplyError } from './failure.ts'

const derive = promisify(pbkdf2)

/** RFC 7677, 4: the minimum for SCRAM-SHA-256, and PostgreSQL's default. */
const usualIterations = 4096
const saltBytes = 16
const digestBytes = 32
/** Number of verifiers cached, so that an unchanged password needs no new derivation. */
const rememberedMax = 20_000

type VerifierForm = Pick<ScramVerifier, 'iterations' | 'salt'>

/** For auth_type "trust". */
const noSecret: ClientSecret = { md5: null, scram: null }

/** Derives what client logins are checked against from the configured password. */
export class Passwords {
  /** Keyed by a digest with a key of this process, so that the map's keys reveal nothing about passwords. */
  readonly #verifiers = new Map<string, Promise<ScramVerifier>>()
  readonly #digestKey = randomBytes(digestBytes)
  readonly #mockKey: () => Uint8Array

  /** `mockKey` is the secret from which salts are derived: see `saltOf`. */
  constructor(mockKey: () => Uint8Array) {
    this.#mockKey = mockKey
  }

  /**
   * `text` is a password or, as in pg_authid, an md5 hash or a SCRAM verifier; null needs none. Throws an ApplyError
   * `unusable_password`.
   */
  async clientSecret(text: string | null, user: string): Promise<ClientSecret> {
    if (text === null) return noSecret
    const fault = passwordFault(text)
    if (fault !== undefined) throw new ApplyError('unusable_password', `the password ${fault}`)
    const kind = passwordKind(text)
    switch (kind) {
      case 'md5':
        return { md5: text, scram: null }
      case 'scram':
        return { md5: null, scram: parseVerifier(text) }
      case 'plain':
        return {
          md5: `md5${md5Hex(text + user)}`,
          scram: await this.#verifier(text, this.#formOf(user)),
          digest: digestOf(text),
        }
      default:
        return kind satisfies never
    }
  }

  /**
   * Secrets during a rotation: `previous` is also accepted until then. A client is challenged with one salt, so both
   * verifiers use the salt of the one that cannot be derived anew. Throws an ApplyError `unusable_password`.
   */
  async rotatedSecret(
    text: string,
    previous: { readonly text: string; readonly untilMs: number | null },
    user: string,
  ): Promise<ClientSecret> {
    const [secret, former] = await Promise.all([this.clientSecret(text, user), this.clientSecret(previous.text, user)])
    const { untilMs } = previous
    if (secret.scram === null || former.scram === null || sameSalt(secret.scram, former.scram)) {
      return { ...secret, previous: { ...former, untilMs } }
    }
    if (passwordKind(previous.text) === 'plain') {
      const scram = await this.#verifier(previous.text, secret.scram)
      return { ...secret, previous: { ...former, scram, untilMs } }
    }
    if (passwordKind(text) === 'plain') {
      const scram = await this.#verifier(text, former.scram)
      return { ...secret, scram, previous: { ...former, untilMs } }
    }
    throw new ApplyError(
      'unusable_password',
      'password and previous_password are verifiers with different salts, and a client is challenged with one salt; use the password itself for one of the two',
    )
  }

  #formOf(user: string): VerifierForm {
    return { iterations: usualIterations, salt: mockSalt(this.#mockKey(), user, saltBytes) }
  }

  #verifier(password: string, { iterations, salt }: VerifierForm): Promise<ScramVerifier> {
    const form = `${iterations} ${Buffer.from(salt).toString('base64')}`
    const digest = `${createHmac('sha256', this.#digestKey).update(password).digest('base64')} ${form}`
    const known = this.#verifiers.get(digest)
    // Deleted and set again, so that the map stays in order of use.
    if (known !== undefined) this.#verifiers.delete(digest)
    const verifier = known ?? deriveVerifier(password, { iterations, salt })
    this.#verifiers.set(digest, verifier)
    if (this.#verifiers.size > rememberedMax) {
      for (const oldest of this.#verifiers.keys()) {
        this.#verifiers.delete(oldest)
        break
      }
    }
    return verifier
  }
}

function sameSalt(a: ScramVerifier, b: ScramVerifier): boolean {
  return a.iterations === b.iterations && Buffer.compare(a.salt, b.salt) === 0
}

/** RFC 5802, 3: SaltedPassword, ClientKey, StoredKey, ServerKey. */
async function deriveVerifier(password: string, { iterations, salt }: VerifierForm): Promise<ScramVerifier> {
  const salted = await derive(preparePassword(password), salt, iterations, digestBytes, 'sha256')
  const clientKey = createHmac('sha256', salted).update('Client Key').digest()
  return {
    iterations,
    salt,
    storedKey: createHash('sha256').update(clientKey).digest(),
    serverKey: createHmac('sha256', salted).update('Server Key').digest(),
  }
}

function parseVerifier(text: string): ScramVerifier {
  const verifier = readVerifier(text)
  if (verifier !== undefined) return verifier
  // Its form has been checked.
  throw new ApplyError('unusable_password', `the SCRAM verifier has more than ${iterationsMax} iterations`)
}

function digestOf(password: string): Uint8Array {
  return createHash('sha256').update(password).digest()
}

function md5Hex(text: string): string {
  return hash('md5', text, 'hex')
}
