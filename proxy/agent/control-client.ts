import { Pool } from 'undici'
import type { z } from 'zod'
import { problemSchema } from '../../shared/problem.ts'
import {
  bodyFormatHeader,
  bootHeader,
  reportNowHeader,
  helloResponseSchema,
  manifestSchema,
  peersSchema,
  proxyHeader,
  reportResponseSchema,
  secretValueSchema,
} from '../../shared/wire.ts'
import type { HelloRequest, HelloResponse, Manifest, Peer, Report, ReportResponse } from '../../shared/wire.ts'
import { reasonOf } from './log.ts'
import { sentences } from './offer.ts'

/**
 * Why a call of control failed.
 *   unreachable  no response: refused, reset, timed out
 *   forbidden    401 or 403: the token is not valid for this fleet
 *   missing      404: no such fleet, proxy or object
 *   refused      any other 4xx
 *   failing      5xx and 429: may pass
 *   garbled      the response violates the API
 *   given_up     the caller aborted the request
 */
export type ControlFault = 'unreachable' | 'forbidden' | 'missing' | 'refused' | 'failing' | 'garbled' | 'given_up'

export class ControlError extends Error {
  readonly fault: ControlFault
  /** Retry-After in milliseconds. */
  readonly retryAfterMs: number | null

  constructor(fault: ControlFault, message: string, about: { retryAfterMs?: number | null; cause?: unknown } = {}) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause })
    this.name = 'ControlError'
    this.fault = fault
    this.retryAfterMs = about.retryAfterMs ?? null
  }
}

export interface ControlClientOptions {
  /** URL of control, for example "https://control.internal:8080"; a path before /v1 is kept. */
  readonly url: string
  readonly fleet: string
  readonly proxy: string
  /** Of this process. */
  readonly boot: string
  readonly token: string
  readonly agentVersion: string
  readonly requestTimeoutMs: number
  readonly now: () => Date
  readonly onContact?: (contact: Contact) => void
}

/** What every response of control tells. */
export interface Contact {
  readonly status: number
  /** Control's time, to a second, in milliseconds since 1970; null if it did not say. */
  readonly dateMs: number | null
}

/**
 * `unchanged`: the last offer is still current; `isAsked` if control ended a parked poll because an operator waits.
 * `none`: the fleet has no version.
 */
export type Polled =
  | { readonly kind: 'unchanged'; readonly isAsked: boolean }
  | { readonly kind: 'none' }
  | { readonly kind: 'offered'; readonly etag: string | null; readonly manifest: Manifest }

interface Answer {
  readonly status: number
  readonly etag: string | null
  readonly isAsked: boolean
  readonly text: string
}

const connectionsMax = 8
const answerBytesMax = 64 * 1024 * 1024
const connectTimeoutMs = 5000
/** Longer delays are not honored. */
const retryAfterMaxMs = 600_000

/** Calls of control by a proxy. All throw a ControlError. */
export class ControlClient {
  readonly #options: ControlClientOptions
  readonly #pool: Pool
  readonly #prefix: string

  constructor(options: ControlClientOptions) {
    const url = new URL(options.url)
    this.#options = options
    this.#prefix = `${url.pathname.replace(/\/+$/, '')}/v1/fleets/${encodeURIComponent(options.fleet)}`
    this.#pool = new Pool(url.origin, {
      connections: connectionsMax,
      connect: { timeout: connectTimeoutMs },
      maxResponseSize: answerBytesMax,
    })
  }

  async hello(request: HelloRequest): Promise<HelloResponse> {
    const answer = await this.#ask('POST', this.#proxyPath('hello'), { body: request })
    return read(helloResponseSchema, answer)
  }

  /**
   * Requests the manifest, in the body format agreed at hello, unless it still has `etag`. With `waitS` control may hold the
   * request for that long; `signal` ends such a wait.
   */
  async manifest(
    etag: string | null,
    format: number,
    wait?: { readonly waitS: number; readonly signal: AbortSignal },
  ): Promise<Polled> {
    const headers: Record<string, string> = {}
    if (etag !== null) headers['if-none-match'] = etag
    if (format > 1) headers[bodyFormatHeader] = String(format)
    if (wait !== undefined) headers['prefer'] = `wait=${wait.waitS}`
    const answer = await this.#ask('GET', 'manifest', {
      headers,
      ...(wait === undefined ? {} : { extraMs: wait.waitS * 1000, signal: wait.signal }),
    })
    if (answer.status === 304) return { kind: 'unchanged', isAsked: answer.isAsked }
    if (answer.status === 204) return { kind: 'none' }
    return { kind: 'offered', etag: answer.etag, manifest: read(manifestSchema, answer) }
  }

  /** The effective configuration with this hash, not verified. */
  async poolBody(hash: string): Promise<unknown> {
    return parseJson(await this.#ask('GET', `pools/${encodeURIComponent(hash)}`))
  }

  /** The epoch is sent, so that a restored store does not answer with another value of the same number. */
  async secret({ secret: name, version, epoch = 1 }: { secret: string; version: number; epoch?: number | undefined }) {
    const answer = await this.#ask('GET', `secrets/${encodeURIComponent(name)}/${version}?epoch=${epoch}`)
    return read(secretValueSchema, answer).value
  }

  /** Proxies of the fleet that have a number, including this one. */
  async peers(): Promise<readonly Peer[]> {
    return read(peersSchema, await this.#ask('GET', 'peers')).peers
  }

  async report(report: Report): Promise<ReportResponse> {
    const answer = await this.#ask('POST', this.#proxyPath('reports'), { body: report })
    return read(reportResponseSchema, answer)
  }

  /** Aborts all requests in progress. */
  async close(): Promise<void> {
    await this.#pool.destroy()
  }

  #proxyPath(rest: string): string {
    return `proxies/${encodeURIComponent(this.#options.proxy)}/${rest}`
  }

  async #ask(
    method: 'GET' | 'POST',
    path: string,
    request: { body?: unknown; headers?: Record<string, string>; extraMs?: number; signal?: AbortSignal } = {},
  ): Promise<Answer> {
    const answer = await this.#send(method, path, request)
    if (answer.status < 300 || answer.status === 304) return answer
    throw new ControlError(faultOf(answer.status), `${method} ${path} failed: ${describe(answer)}`, {
      retryAfterMs: answer.retryAfterMs,
    })
  }

  async #send(
    method: 'GET' | 'POST',
    path: string,
    request: { body?: unknown; headers?: Record<string, string>; extraMs?: number; signal?: AbortSignal },
  ): Promise<Answer & { retryAfterMs: number | null }> {
    const { requestTimeoutMs, token, proxy, boot, agentVersion } = this.#options
    const allowedMs = requestTimeoutMs + (request.extraMs ?? 0)
    // One limit for the whole exchange, so that a peer that sends slowly cannot hold it forever.
    const deadline = AbortSignal.timeout(allowedMs)
    try {
      const response = await this.#pool.request({
        method,
        path: `${this.#prefix}/${path}`,
        headers: {
          authorization: `Bearer ${token}`,
          'user-agent': `flotilla-proxy/${agentVersion}`,
          [proxyHeader]: proxy,
          [bootHeader]: boot,
          accept: 'application/json, application/problem+json',
          ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...request.headers,
        },
        ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
        signal: request.signal === undefined ? deadline : AbortSignal.any([deadline, request.signal]),
        headersTimeout: allowedMs,
        bodyTimeout: allowedMs,
      })
      const dateMs = Date.parse(single(response.headers['date']) ?? '')
      this.#options.onContact?.({ status: response.statusCode, dateMs: Number.isNaN(dateMs) ? null : dateMs })
      return {
        status: response.statusCode,
        etag: single(response.headers['etag']),
        isAsked: single(response.headers[reportNowHeader.toLowerCase()]) !== null,
        retryAfterMs: retryAfterMs(single(response.headers['retry-after']), this.#options.now()),
        text: await response.body.text(),
      }
    } catch (error) {
      if (request.signal?.aborted === true) throw new ControlError('given_up', 'the request was aborted')
      const reason = deadline.aborted ? `no response within ${allowedMs} ms` : reasonOf(error)
      throw new ControlError('unreachable', `${method} ${path}: ${reason}`, { cause: error })
    }
  }
}

function faultOf(status: number): ControlFault {
  if (status === 401 || status === 403) return 'forbidden'
  if (status === 404) return 'missing'
  if (status === 429 || status >= 500) return 'failing'
  return status >= 400 ? 'refused' : 'garbled'
}

const quotedMax = 500
const describedSchema = problemSchema.pick({ title: true, detail: true, errors: true }).partial()

/** The status and, of a problem document (RFC 9457), title, detail and errors. */
function describe(answer: Answer): string {
  const { title, detail, errors = [] } = describedSchema.safeParse(jsonOrUndefined(answer.text)).data ?? {}
  const words = [title, detail].filter((word) => word !== undefined).join(': ')
  const fields = errors.map(({ path, message }) => `${path} ${message}`).join('; ')
  const sentence = [words, fields].filter((part) => part !== '').join('; ')
  return sentence === '' ? String(answer.status) : `${answer.status} ${sentence.slice(0, quotedMax)}`
}

function read<Schema extends z.ZodType>(schema: Schema, answer: Answer): z.output<Schema> {
  const parsed = schema.safeParse(parseJson(answer))
  if (parsed.success) return parsed.data
  throw new ControlError('garbled', `the response violates the API: ${sentences(parsed.error)}`)
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function parseJson(answer: Answer): unknown {
  try {
    return JSON.parse(answer.text)
  } catch (error) {
    throw new ControlError('garbled', 'the response is not JSON', { cause: error })
  }
}

function single(header: string | string[] | undefined): string | null {
  return (Array.isArray(header) ? header[0] : header) ?? null
}

/** RFC 9110, 10.2.3: seconds or a date. */
function retryAfterMs(text: string | null, now: Date): number | null {
  if (text === null) return null
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now.getTime()
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), retryAfterMaxMs)
}
