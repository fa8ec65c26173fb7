import { createHash, createHmac, hash, pbkdf2, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { passwordFault, passwordKind } from '../../shared/config/password.ts'
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
        return { md5: `md5${md5Hex(text + user)}`, scram: await this.#verifier(text) }
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
  const salted = await derive(saslPrep(password), salt, iterations, digestBytes, 'sha256')
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

function md5Hex(text: string): string {
  return hash('md5', text, 'hex')
}

/** RFC 3454, tables C.1.2 and B.1: spaces that become U+0020, and characters that vanish. */
const otherSpaces = /[\u00A0\u1680\u2000-\u200B\u202F\u205F\u3000]/gu
const vanishing = /[\u00AD\u034F\u1806\u180B-\u180D\u200B-\u200D\u2060\uFE00-\uFE0F\uFEFF]/gu
/** RFC 4013, 2.3: control, private use, non-character, surrogate, tagging and unassigned code points. */
const prohibited = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{Zl}\p{Zp}\uFFFC\uFFFD\u2FF0-\u2FFB\u0340\u0341]/u

/**
 * RFC 4013 as far as passwords that people use need it: mapping, NFKC, prohibited characters. As in PostgreSQL, a
 * password that may not be prepared is used as it is.
 */
function saslPrep(password: string): string {
  const prepared = password.replaceAll(otherSpaces, ' ').replaceAll(vanishing, '').normalize('NFKC')
  return prepared === '' || prohibited.test(prepared) ? password : prepared
}
