import { setTimeout as sleep } from 'node:timers/promises'
import type { Hint } from '../../shared/wire.ts'
import type { Hints } from '../host.ts'
import type { HintTarget } from '../store/proxies.ts'
import { ProxyFault, ProxyRequests } from './proxy-requests.ts'
import type { ProxySurroundings } from './proxy-requests.ts'

const attemptsMax = 2
const betweenAttemptsMs = 250
const attemptTimeoutMs = 1000
const runningMax = 64
/** After this many failed deliveries in a row, a proxy is skipped for a while. */
const failuresMax = 3
const silenceMs = 60_000

export interface HintSurroundings extends ProxySurroundings {
  readonly onResult: (result: 'delivered' | 'failed' | 'silenced') => void
  /** A hint failed because of what the proxy answered or registered. */
  readonly onFault: (target: HintTarget, message: string) => void
}

/**
 * Delivers hints in the background, one at a time per process of a proxy. Of several hints for one proxy only the newest is sent; a
 * proxy that does not respond delays no other.
 */
export class NodeHints implements Hints {
  readonly #around: HintSurroundings
  readonly #requests: ProxyRequests
  readonly #closing = new AbortController()
  /** By process, in order of arrival. */
  readonly #waiting = new Map<string, { target: HintTarget; hint: Hint }>()
  readonly #running = new Map<string, Promise<void>>()
  readonly #failing = new Map<string, { failures: number; silentUntilMs: number }>()

  constructor(around: HintSurroundings) {
    this.#around = around
    this.#requests = new ProxyRequests(around, attemptTimeoutMs)
  }

  send(targets: readonly HintTarget[], hint: Hint): void {
    if (this.#closing.signal.aborted) return
    for (const target of targets) {
      const key = keyOf(target)
      if ((this.#failing.get(key)?.silentUntilMs ?? 0) > this.#around.nowMs()) this.#around.onResult('silenced')
      else this.#waiting.set(key, { target, hint })
    }
    this.#startMore()
  }

  cleared(fleet: string, proxy: string, boot: string): void {
    this.#failing.delete(keyOf({ fleet, proxy, boot }))
  }

  /** Aborts deliveries in progress. */
  async close(): Promise<void> {
    this.#closing.abort()
    this.#waiting.clear()
    await Promise.all(this.#running.values())
    await this.#requests.close()
  }

  #startMore(): void {
    for (const [key, { target, hint }] of this.#waiting) {
      if (this.#running.size >= runningMax) return
      // A delivery is in progress; this hint replaces a waiting one.
      if (this.#running.has(key)) continue
      this.#waiting.delete(key)
      const done = this.#deliver(key, target, hint).finally(() => {
        this.#running.delete(key)
        this.#startMore()
      })
      this.#running.set(key, done)
    }
  }

  async #deliver(key: string, target: HintTarget, hint: Hint): Promise<void> {
    let failure: unknown
    for (let attempt = 1; attempt <= attemptsMax; attempt += 1) {
      if (attempt > 1)
        await sleep(betweenAttemptsMs, undefined, { signal: this.#closing.signal }).catch(() => undefined)
      if (this.#closing.signal.aborted) return
      failure = await this.#attempt(target, hint)
      if (failure === undefined) {
        this.#failing.delete(key)
        this.#around.onResult('delivered')
        return
      }
    }
    const failures = (this.#failing.get(key)?.failures ?? 0) + 1
    // After a pause, one failure starts the next pause.
    const silentUntilMs = failures >= failuresMax ? this.#around.nowMs() + silenceMs : 0
    this.#failing.set(key, { failures, silentUntilMs })
    this.#around.onResult('failed')
    if (failure instanceof ProxyFault) this.#around.onFault(target, failure.message)
  }

  /** Undefined when it arrived. */
  async #attempt(target: HintTarget, hint: Hint): Promise<unknown> {
    try {
      const { signal } = this.#closing
      await this.#requests.post(target, { path: '/v1/hint', idPrefix: 'msg', body: hint, signal })
      return undefined
    } catch (error) {
      return error
    }
  }
}

/** Names contain no spaces. */
function keyOf({ fleet, proxy, boot }: Pick<HintTarget, 'fleet' | 'proxy' | 'boot'>): string {
  return `${fleet} ${proxy} ${boot}`
}
