import { operationOutcomeSchema } from '../../shared/wire.ts'
import type { OperationRequest } from '../../shared/wire.ts'
import type { OperationAnswer, Operations } from '../host.ts'
import type { HintTarget } from '../store/proxies.ts'
import { limiter } from './limiter.ts'
import { ProxyFault, ProxyRequests } from './proxy-requests.ts'
import type { ProxySurroundings } from './proxy-requests.ts'

const defaultTimeoutMs = 5000
/** Answers that may be in memory at the same time, over all operations under way. */
const runningMax = 256

/** Sends operations to proxies, each once: the operator sees which proxies did not answer and may repeat the request. */
export class NodeOperations implements Operations {
  readonly #requests: ProxyRequests
  readonly #inTurn = limiter(runningMax)

  constructor(around: ProxySurroundings, timeoutMs = defaultTimeoutMs) {
    this.#requests = new ProxyRequests(around, timeoutMs)
  }

  async send(target: HintTarget, request: OperationRequest): Promise<OperationAnswer> {
    return await this.#inTurn(async () => await this.#send(target, request))
  }

  async close(): Promise<void> {
    await this.#requests.close()
  }

  async #send(target: HintTarget, request: OperationRequest): Promise<OperationAnswer> {
    try {
      return readOutcome(await this.#requests.post(target, { path: '/v1/order', idPrefix: 'ord', body: request }))
    } catch (error) {
      return error instanceof ProxyFault ? { kind: 'faulty', message: error.message } : { kind: 'unreachable' }
    }
  }
}

function readOutcome(text: string): OperationAnswer {
  try {
    return { kind: 'answered', outcome: operationOutcomeSchema.parse(JSON.parse(text)) }
  } catch {
    return { kind: 'faulty', message: 'the answer is not the outcome of an operation' }
  }
}
