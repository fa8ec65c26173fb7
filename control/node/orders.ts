import { randomUUID } from 'node:crypto'
import { Agent, request } from 'undici'
import { orderOutcomeSchema } from '../../shared/wire.ts'
import type { Order, OrderOutcome } from '../../shared/wire.ts'
import { hintHeaders } from '../domain/hint-signature.ts'
import type { Orders } from '../host.ts'
import type { HintTarget } from '../store/proxies.ts'

const timeoutMs = 5000

export interface OrderSurroundings {
  readonly nowMs: () => number
  /** The Standard Webhooks secret given to the proxy at hello. */
  readonly secretOf: (target: HintTarget) => string
}

/**
 * Sends operations to proxies over HTTP, once. The operator sees which proxies did not respond, and can repeat the
 * call.
 */
export class NodeOrders implements Orders {
  readonly #around: OrderSurroundings
  readonly #agent = new Agent({ connections: 1, connect: { timeout: timeoutMs } })

  constructor(around: OrderSurroundings) {
    this.#around = around
  }

  async ask(target: HintTarget, order: Order): Promise<OrderOutcome | undefined> {
    const body = JSON.stringify(order)
    const timestampS = Math.floor(this.#around.nowMs() / 1000)
    try {
      const response = await request(`${target.hint_url.replace(/\/+$/, '')}/v1/order`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...hintHeaders(this.#around.secretOf(target), `ord_${randomUUID()}`, timestampS, body),
        },
        body,
        dispatcher: this.#agent,
        signal: AbortSignal.timeout(timeoutMs),
      })
      if (response.statusCode !== 200) {
        await response.body.dump()
        return undefined
      }
      return orderOutcomeSchema.parse(await response.body.json())
    } catch {
      // Refused, reset, timed out, or an invalid response: reported as not answered.
      return undefined
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }
}
