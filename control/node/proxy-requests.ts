import { randomUUID } from 'node:crypto'
import { Agent, errors, request } from 'undici'
import type { Network } from '../../shared/config/network.ts'
import { addressFault } from '../../shared/registered-address.ts'
import { hintHeaders } from '../domain/hint-signature.ts'
import { hintUrlFault } from '../domain/hint-url.ts'
import type { HintTarget } from '../store/proxies.ts'
import { guardedLookup } from './guarded-lookup.ts'
import type { Lookup } from './guarded-lookup.ts'

export interface ProxySurroundings {
  readonly nowMs: () => number
  /** The Standard Webhooks secret that the proxy was given at hello. */
  readonly secretOf: (target: HintTarget) => string
  /** The networks that the operator allows; undefined allows all but the forbidden addresses. */
  readonly proxyNetworks?: readonly Network[] | undefined
  /** The system's unless given. */
  readonly lookup?: Lookup
}

export interface ProxyRequest {
  readonly path: '/v1/hint' | '/v1/order'
  /** The first part of the message's id. */
  readonly idPrefix: string
  readonly body: unknown
  /** Ends the request before its time. */
  readonly signal?: AbortSignal
}

/**
 * The proxy answered, or registered as its address, what no proxy should. The message is for operators and holds nothing of
 * the answer's text.
 */
export class ProxyFault extends Error {
  override readonly name = 'ProxyFault'
}

export const answerBytesMax = 64 * 1024
const headerBytesMax = 16 * 1024

/**
 * Signed requests to proxies. A proxy is not trusted: nothing that `registered-address.ts` forbids is connected to, the
 * answer is read up to `answerBytesMax`, all of it within `timeoutMs`, and a redirect is not followed.
 */
export class ProxyRequests {
  readonly #around: ProxySurroundings
  readonly #timeoutMs: number
  readonly #agent: Agent

  constructor(around: ProxySurroundings, timeoutMs: number) {
    this.#around = around
    this.#timeoutMs = timeoutMs
    this.#agent = new Agent({
      connections: 1,
      connect: {
        timeout: timeoutMs,
        lookup: guardedLookup(
          (address) => addressFault(address, around.proxyNetworks),
          (reason) => new ProxyFault(reason),
          around.lookup,
        ),
      },
      allowH2: false,
      maxHeaderSize: headerBytesMax,
      maxResponseSize: answerBytesMax,
    })
  }

  /**
   * Gives the text of the proxy's 2xx answer.
   * @throws ProxyFault when it answered something else, or is at an address that may not be used.
   * @throws Error when it did not answer: refused, reset, timed out, or ended by `signal`.
   */
  async post(target: HintTarget, { path, idPrefix, body, signal }: ProxyRequest): Promise<string> {
    // Checked at hello too; the operator may have changed what is allowed since.
    const urlFault = hintUrlFault(target.hint_url, this.#around.proxyNetworks)
    if (urlFault !== undefined) throw new ProxyFault(`hint_url: ${urlFault}`)
    const text = JSON.stringify(body)
    const timestampS = Math.floor(this.#around.nowMs() / 1000)
    // One limit for the whole exchange, so that a byte now and then does not prolong it.
    const deadline = AbortSignal.timeout(this.#timeoutMs)
    let statusCode: number | undefined
    try {
      const response = await request(`${target.hint_url.replace(/\/+$/, '')}${path}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...hintHeaders(this.#around.secretOf(target), `${idPrefix}_${randomUUID()}`, timestampS, text),
        },
        body: text,
        dispatcher: this.#agent,
        signal: signal === undefined ? deadline : AbortSignal.any([deadline, signal]),
      })
      statusCode = response.statusCode
      const answer = await response.body.text()
      if (statusCode >= 200 && statusCode < 300) return answer
    } catch (error) {
      if (statusCode !== undefined && deadline.aborted) {
        throw new ProxyFault(`the answer did not end within ${this.#timeoutMs} ms`, { cause: error })
      }
      throw faultOf(error) ?? error
    }
    throw new ProxyFault(`the answer has status ${statusCode}`)
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }
}

/** Undefined where the proxy did not answer at all. */
function faultOf(error: unknown): ProxyFault | undefined {
  if (error instanceof errors.ResponseExceededMaxSizeError) {
    return new ProxyFault(`the answer exceeds ${answerBytesMax} bytes`, { cause: error })
  }
  if (error instanceof errors.HeadersOverflowError) {
    return new ProxyFault(`the headers of the answer exceed ${headerBytesMax} bytes`, { cause: error })
  }
  if (error instanceof errors.HTTPParserError) return new ProxyFault('the answer is not HTTP', { cause: error })
  return undefined
}
