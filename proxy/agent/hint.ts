import { createHmac, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { hintSchema, operationRequestSchema, type Hint, type OperationRequest } from '../../shared/wire.ts'

/** Headers of a hint (Standard Webhooks). */
export interface HintHeaders {
  readonly id: string | undefined
  /** Seconds since 1970. */
  readonly timestamp: string | undefined
  /** Space-separated `v1,<base64>`, several during a rotation of the secret. */
  readonly signature: string | undefined
}

export const hintBodyBytesMax = 4096

/** Signed messages are refused when their time differs by more from this machine's. */
export const signatureToleranceS = 300
const secretPrefix = 'whsec_'
const signaturePrefix = 'v1,'

/**
 * Verifies that a hint was signed recently with this proxy's secret (Standard Webhooks, "Verifying signatures").
 * Returns undefined otherwise, without telling why.
 */
export function verifiedHint(headers: HintHeaders, body: Uint8Array, secret: string, now: Date): Hint | undefined {
  return isSigned(headers, body, secret, now) ? parsed(hintSchema, body) : undefined
}

/** As for a hint. The operation may be one of a later release. */
export function verifiedOperation(
  headers: HintHeaders,
  body: Uint8Array,
  secret: string,
  now: Date,
): SignedOperation | undefined {
  return isSigned(headers, body, secret, now) ? parsed(signedOperationSchema, body) : undefined
}

const signedOperationSchema = operationRequestSchema.extend({ operation: z.string().min(1).max(64) })
type SignedOperation = z.infer<typeof signedOperationSchema>

export function isKnown(sent: SignedOperation): sent is OperationRequest {
  return operationRequestSchema.safeParse(sent).success
}

/** Ids of signed messages within the validity of their signatures: an operation is executed once. */
export class Repetitions {
  readonly #seen = new Map<string, number>()

  /** Whether this id is new. */
  isFirst(id: string, now: Date): boolean {
    const nowS = now.getTime() / 1000
    for (const [old, seenS] of this.#seen) {
      // Messages may be dated as far in the future as in the past.
      if (nowS - seenS <= 2 * signatureToleranceS) break
      this.#seen.delete(old)
    }
    if (this.#seen.has(id)) return false
    this.#seen.set(id, nowS)
    return true
  }
}

function isSigned(headers: HintHeaders, body: Uint8Array, secret: string, now: Date): boolean {
  const { id, timestamp, signature } = headers
  if (id === undefined || timestamp === undefined || signature === undefined) return false
  if (!/^\d{1,12}$/.test(timestamp)) return false
  if (Math.abs(now.getTime() / 1000 - Number(timestamp)) > signatureToleranceS) return false
  const expected = signatureOf(id, timestamp, body, secret)
  const given = signature.split(' ').filter((part) => part.startsWith(signaturePrefix))
  return given.some((part) => isSame(Buffer.from(part.slice(signaturePrefix.length), 'base64'), expected))
}

function signatureOf(id: string, timestamp: string, body: Uint8Array, secret: string): Buffer {
  const text = secret.startsWith(secretPrefix) ? secret.slice(secretPrefix.length) : secret
  return createHmac('sha256', Buffer.from(text, 'base64')).update(`${id}.${timestamp}.`).update(body).digest()
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && timingSafeEqual(one, other)
}

function parsed<Schema extends z.ZodType>(schema: Schema, body: Uint8Array): z.infer<Schema> | undefined {
  try {
    const result = schema.safeParse(JSON.parse(Buffer.from(body).toString('utf8')))
    return result.success ? result.data : undefined
  } catch {
    return undefined
  }
}
