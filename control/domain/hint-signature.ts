import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { fromBase64, toBase64 } from './base64.ts'

const secretPrefix = 'whsec_'

/**
 * Headers that sign a hint (Standard Webhooks 1.0, symmetric): HMAC-SHA256 over `id.timestamp.body` with the secret
 * given to the proxy at hello.
 */
export function hintHeaders(
  secret: string,
  id: string,
  timestampS: number,
  body: string,
): { 'webhook-id': string; 'webhook-timestamp': string; 'webhook-signature': string } {
  const key = fromBase64(secret.slice(secretPrefix.length))
  const signature = toBase64(hmac(sha256, key, utf8ToBytes(`${id}.${timestampS}.${body}`)))
  return { 'webhook-id': id, 'webhook-timestamp': String(timestampS), 'webhook-signature': `v1,${signature}` }
}
