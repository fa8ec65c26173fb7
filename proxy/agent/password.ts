import { createHash, createHmac, hash, pbkdf2, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { passwordFault, passwordKind } from '../../shared/config/password.ts'
import { preparePassword } from '../../shared/saslprep.ts'
import type { ClientSecret, ScramVerifier } from '../engine/messages.ts'
import { ApplyError } from './failure.ts'

const derive = promisify(pbkdf2)

/** RFC 7677, 4: the least that a SCRAM-SHA-256 server uses, and PostgreSQL's default. */
const iterations = 4096
/** A verifier with more would let one login occupy the client for minutes. */
const iterationsMax = 10_000_000
const saltBytes = 16
const digestBytes = 32
/** Verifiers remembered, so that an unchanged password costs no new derivation and keeps its salt. */
const rememberedMax = 20_000

/** Nobody has to prove anything (auth_type "trust"). */
const noSecret: ClientSecret = { md5: null, scram: null }

/** Makes what a client's login is checked against from what the configuration says about its password. */
export class Passwords {
  /** By digest under a key of this process, so that the map's keys tell nothing about the passwords. */
  readonly #verifiers = new Map<string, Promise<ScramVerifier>>()
  readonly #digestKey = randomBytes(digestBytes)

  /**
   * `text` is the password, or as in pg_authid an md5 hash or a SCRAM verifier; null needs none. Throws an ApplyError
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
        return { md5: `md5${md5Hex(text + user)}`, scram: await this.#verifier(text), digest: digestOf(text) }
      default:
        return kind satisfies never
    }
  }

  #verifier(password: string): Promise<ScramVerifier> {
    const digest = createHmac('sha256', this.#digestKey).update(password).digest('base64')
    const known = this.#verifiers.get(digest)
    // Taken out and put back, so that the map stays in the order of last use.
    if (known !== undefined) this.#verifiers.delete(digest)
    const verifier = known ?? deriveVerifier(password)
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

/** RFC 5802, 3: SaltedPassword, ClientKey, StoredKey, ServerKey. */
async function deriveVerifier(password: string): Promise<ScramVerifier> {
  const salt = randomBytes(saltBytes)
  const salted = await derive(preparePassword(password), salt, iterations, digestBytes, 'sha256')
  const clientKey = createHmac('sha256', salted).update('Client Key').digest()
  return {
    iterations,
    salt,
    storedKey: createHash('sha256').update(clientKey).digest(),
    serverKey: createHmac('sha256', salted).update('Server Key').digest(),
  }
}

/** `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, whose form has been checked. */
function parseVerifier(text: string): ScramVerifier {
  const [, head = '', tail = ''] = text.split('$')
  const [count, salt = ''] = head.split(':')
  const [storedKey = '', serverKey = ''] = tail.split(':')
  if (Number(count) > iterationsMax) {
    throw new ApplyError('unusable_password', `the SCRAM verifier asks for more than ${iterationsMax} iterations`)
  }
  return {
    iterations: Number(count),
    salt: Buffer.from(salt, 'base64'),
    storedKey: Buffer.from(storedKey, 'base64'),
    serverKey: Buffer.from(serverKey, 'base64'),
  }
}

function digestOf(password: string): Uint8Array {
  return createHash('sha256').update(password).digest()
}

function md5Hex(text: string): string {
  return hash('md5', text, 'hex')
}
