import { createHmac, timingSafeEqual } from 'node:crypto'
import { hintSchema, type Hint } from '../../shared/wire.ts'

/** The headers of the Standard Webhooks specification that a hint comes with. */
export interface HintHeaders {
  readonly id: string | undefined
  /** Seconds since 1970. */
  readonly timestamp: string | undefined
  /** Space-separated `v1,<base64>`: several while a secret is being replaced. */
  readonly signature: string | undefined
}

export const hintBodyBytesMax = 4096

const toleranceS = 300
const secretPrefix = 'whsec_'
const signaturePrefix = 'v1,'

/**
 * Checks that a hint was signed with the secret control gave this proxy, not long ago (Standard Webhooks, "Verifying
 * signatures"). Undefined when it was not; the caller is not told which part is wrong.
 */
export function verifiedHint(headers: HintHeaders, body: Uint8Array, secret: string, now: Date): Hint | undefined {
  const { id, timestamp, signature } = headers
  if (id === undefined || timestamp === undefined || signature === undefined) return undefined
  if (!/^\d{1,12}$/.test(timestamp)) return undefined
  if (Math.abs(now.getTime() / 1000 - Number(timestamp)) > toleranceS) return undefined
  const expected = signatureOf(id, timestamp, body, secret)
  const given = signature.split(' ').filter((part) => part.startsWith(signaturePrefix))
  if (!given.some((part) => isSame(Buffer.from(part.slice(signaturePrefix.length), 'base64'), expected))) {
    return undefined
  }
  return parseHint(body)
}

function signatureOf(id: string, timestamp: string, body: Uint8Array, secret: string): Buffer {
  const text = secret.startsWith(secretPrefix) ? secret.slice(secretPrefix.length) : secret
  return createHmac('sha256', Buffer.from(text, 'base64')).update(`${id}.${timestamp}.`).update(body).digest()
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && timingSafeEqual(one, other)
}

function parseHint(body: Uint8Array): Hint | undefined {
  try {
    const parsed = hintSchema.safeParse(JSON.parse(Buffer.from(body).toString('utf8')))
    return parsed.success ? parsed.data : undefined
  } catch {
    return undefined
  }
}
