/**
 * Uses of control's one secret key: encrypting stored passwords, comparing them without decryption, a key for hints per
 * proxy, and a mock secret per fleet. Each use has a key of its own, derived from the secret key.
 */
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, concatBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import { fromBase64, toBase64 } from './base64.ts'

/** Authenticated with the ciphertext, so that a sealed value cannot be moved to another place. */
export interface SecretPlace {
  readonly fleet: string
  readonly name: string
  readonly version: number
}

export interface Sealing {
  /** AES-256-GCM with a random nonce: "v1." and base64 of nonce, ciphertext and tag. */
  seal(value: string, place: SecretPlace): Promise<string>
  /** Throws if it was sealed with another key or for another place. */
  open(sealed: string, place: SecretPlace): Promise<string>
  /** Hex; equal for equal values of one secret, and meaningless without the key. */
  digest(fleet: string, name: string, value: string): string
  /** The Standard Webhooks secret for one boot of a proxy: "whsec_" and base64. */
  hintSecret(fleet: string, proxy: string, boot: string): string
  /** Base64 of 32 bytes: the fleet's secret for mock authentication of unknown users. */
  mockKey(fleet: string): string
  /** Hex; identifies the key without revealing it. */
  readonly keyCheck: string
}

export const secretKeyBytes = 32
const nonceBytes = 12
const prefix = 'v1.'

/** `key` is 32 random bytes; `random` returns random bytes. */
export function createSealing(key: Uint8Array, random: (bytes: number) => Uint8Array): Sealing {
  if (key.length !== secretKeyBytes) throw new RangeError(`the secret key must be ${secretKeyBytes} bytes long`)
  const derived = (use: string): Uint8Array => hmac(sha256, key, utf8ToBytes(`flotilla ${use}`))
  const digestKey = derived('digest of a secret')
  const hintKey = derived('hint secret')
  const mockKey = derived('mock authentication')
  const sealKey = crypto.subtle.importKey('raw', Uint8Array.from(derived('seal of a secret')), 'AES-GCM', false, [
    'encrypt',
    'decrypt',
  ])

  return {
    async seal(value, place) {
      const iv = Uint8Array.from(random(nonceBytes))
      const sealed = await crypto.subtle.encrypt(
        parameters(iv, place),
        await sealKey,
        Uint8Array.from(utf8ToBytes(value)),
      )
      return prefix + toBase64(concatBytes(iv, new Uint8Array(sealed)))
    },
    async open(sealed, place) {
      if (!sealed.startsWith(prefix)) throw new TypeError('a sealed secret has an unknown format')
      const bytes = fromBase64(sealed.slice(prefix.length))
      const iv = bytes.slice(0, nonceBytes)
      const value = await crypto.subtle.decrypt(parameters(iv, place), await sealKey, bytes.slice(nonceBytes))
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value)
    },
    digest: (fleet, name, value) => bytesToHex(hmac(sha256, digestKey, listed(fleet, name, value))),
    hintSecret: (fleet, proxy, boot) => `whsec_${toBase64(hmac(sha256, hintKey, listed(fleet, proxy, boot)))}`,
    mockKey: (fleet) => toBase64(hmac(sha256, mockKey, listed(fleet))),
    keyCheck: bytesToHex(derived('key check')),
  }
}

function parameters(iv: Uint8Array<ArrayBuffer>, { fleet, name, version }: SecretPlace) {
  return { name: 'AES-GCM', iv, additionalData: Uint8Array.from(listed(fleet, name, String(version))) }
}

/** Injective encoding of several texts. */
function listed(...texts: string[]): Uint8Array {
  return utf8ToBytes(JSON.stringify(texts))
}
