/**
 * Both sides of SCRAM-SHA-256 (RFC 5802, RFC 7677) for the models, independent of the engine's. Few iterations, because
 * the simulation needs the conversation and not the work.
 */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'

import type { ScramVerifier } from '../../proxy/spec.ts'

export const mechanism = 'SCRAM-SHA-256'

const iterations = 3

const gs2Header = 'n,,'

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

function hash(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest()
}

function xor(left: Buffer, right: Buffer): Buffer {
  const both = Buffer.alloc(left.length)
  for (let at = 0; at < left.length; at++) both[at] = (left[at] ?? 0) ^ (right[at] ?? 0)
  return both
}

/** "a=1,b=2" → {a: 1, b: 2}; a value may contain "=". */
function attributes(text: string): Map<string, string> {
  return new Map(text.split(',').map((part) => [part.slice(0, 1), part.slice(2)]))
}

const verifiers = new Map<string, ScramVerifier>()

/** What a server stores of a password. */
export function verifierOf(password: string, salt: string): ScramVerifier {
  const key = `${password}\0${salt}`
  const known = verifiers.get(key)
  if (known !== undefined) return known
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256')
  const storedKey = hash(hmac(salted, 'Client Key'))
  const verifier = { iterations, salt: Buffer.from(salt), storedKey, serverKey: hmac(salted, 'Server Key') }
  verifiers.set(key, verifier)
  return verifier
}

export class ScramClient {
  readonly #password: string
  readonly #nonce: string
  #signature = ''

  constructor(password: string, nonce: string) {
    this.#password = password
    this.#nonce = nonce
  }

  first(): string {
    return `${gs2Header}n=,r=${this.#nonce}`
  }

  /** Null when the challenge is not for this client. */
  final(challenge: string): string | null {
    const given = attributes(challenge)
    const nonce = given.get('r') ?? ''
    if (!nonce.startsWith(this.#nonce) || nonce === this.#nonce) return null
    const salt = Buffer.from(given.get('s') ?? '', 'base64')
    const salted = pbkdf2Sync(this.#password, salt, Number(given.get('i')), 32, 'sha256')
    const unproven = `c=${Buffer.from(gs2Header).toString('base64')},r=${nonce}`
    const signed = `n=,r=${this.#nonce},${challenge},${unproven}`
    const clientKey = hmac(salted, 'Client Key')
    this.#signature = hmac(hmac(salted, 'Server Key'), signed).toString('base64')
    return `${unproven},p=${xor(clientKey, hmac(hash(clientKey), signed)).toString('base64')}`
  }

  /** Whether the server has proven that it knows the password. */
  trusts(confirmation: string): boolean {
    return attributes(confirmation).get('v') === this.#signature
  }
}

export class ScramServer {
  readonly #verifier: ScramVerifier
  readonly #nonce: string
  #bare = ''
  #challenge = ''

  constructor(verifier: ScramVerifier, nonce: string) {
    this.#verifier = verifier
    this.#nonce = nonce
  }

  challenge(first: string): string {
    this.#bare = first.slice(gs2Header.length)
    const { salt, iterations: count } = this.#verifier
    const nonce = `${attributes(this.#bare).get('r')}${this.#nonce}`
    this.#challenge = `r=${nonce},s=${Buffer.from(salt).toString('base64')},i=${count}`
    return this.#challenge
  }

  /** The answer to a correct proof, null to a wrong one. */
  confirm(final: string): string | null {
    const unproven = final.slice(0, final.lastIndexOf(',p='))
    const signed = `${this.#bare},${this.#challenge},${unproven}`
    const proof = Buffer.from(final.slice(unproven.length + 3), 'base64')
    const { storedKey, serverKey } = this.#verifier
    const clientKey = xor(proof, hmac(storedKey, signed))
    return hash(clientKey).equals(storedKey) ? `v=${hmac(serverKey, signed).toString('base64')}` : null
  }
}
