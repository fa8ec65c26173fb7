import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'

const keyBytes = 32
const saltBytes = 16
/** NIST SP 800-38D, 8.2: the recommended length for GCM. */
const nonceBytes = 12
const tagBytes = 16
const purpose = 'flotilla proxy secrets on disk'

/** Encrypts secrets that a proxy keeps on disk: AES-256-GCM with a key derived from its token (HKDF, RFC 5869). */
export class Seal {
  readonly #key: Uint8Array
  /** Base64; needed, with the token, to open sealed values. */
  readonly salt: string

  constructor(token: string, salt: string = randomBytes(saltBytes).toString('base64')) {
    this.salt = salt
    this.#key = new Uint8Array(hkdfSync('sha256', token, Buffer.from(salt, 'base64'), purpose, keyBytes))
  }

  /**
   * `name` is authenticated with the value, which opens under the same name only. Base64 of nonce, tag and ciphertext.
   */
  close(name: string, value: string): string {
    const nonce = randomBytes(nonceBytes)
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce)
    cipher.setAAD(Buffer.from(name))
    const sealed = Buffer.concat([cipher.update(value, 'utf8'), cipher.final()])
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64')
  }

  /** Undefined if it was sealed with another token or name, or was modified. */
  open(name: string, sealed: string): string | undefined {
    const bytes = Buffer.from(sealed, 'base64')
    if (bytes.length < nonceBytes + tagBytes) return undefined
    const nonce = bytes.subarray(0, nonceBytes)
    const decipher = createDecipheriv('aes-256-gcm', this.#key, nonce, { authTagLength: tagBytes })
    decipher.setAAD(Buffer.from(name))
    decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes))
    try {
      const value = decipher.update(bytes.subarray(nonceBytes + tagBytes))
      return Buffer.concat([value, decipher.final()]).toString('utf8')
    } catch {
      return undefined
    }
  }
}
