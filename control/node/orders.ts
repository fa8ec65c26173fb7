import { orderOutcomeSchema } from '../../shared/wire.ts'
import type { Order } from '../../shared/wire.ts'
import type { OrderAnswer, Orders } from '../host.ts'
import type { HintTarget } from '../store/proxies.ts'
import { limiter } from './limiter.ts'
import { ProxyFault, ProxyRequests } from './proxy-requests.ts'
import type { ProxySurroundings } from './proxy-requests.ts'

const defaultTimeoutMs = 5000
/** Answers that may be in memory at the same time, over all operations under way. */
const runningMax = 256

/** Sends operations to proxies, each once: the operator sees which proxies did not answer and may repeat the request. */
export class NodeOrders implements Orders {
  readonly #requests: ProxyRequests
  readonly #inTurn = limiter(runningMax)

  constructor(around: ProxySurroundings, timeoutMs = defaultTimeoutMs) {
    this.#requests = new ProxyRequests(around, timeoutMs)
  }

  async ask(target: HintTarget, order: Order): Promise<OrderAnswer> {
    return await this.#inTurn(async () => await this.#ask(target, order))
  }

  async close(): Promise<void> {
    await this.#requests.close()
  }

  async #ask(target: HintTarget, order: Order): Promise<OrderAnswer> {
    try {
      return readOutcome(await this.#requests.post(target, { path: '/v1/order', idPrefix: 'ord', body: order }))
    } catch (error) {
      return error instanceof ProxyFault ? { kind: 'faulty', message: error.message } : { kind: 'unreachable' }
    }
  }
}

function readOutcome(text: string): OrderAnswer {
  try {
    return { kind: 'answered', outcome: orderOutcomeSchema.parse(JSON.parse(text)) }
  } catch {
    return { kind: 'faulty', message: 'the answer is not the outcome of an operation' }
  }
}
