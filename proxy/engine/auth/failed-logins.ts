import { createHmac } from 'node:crypto'
import { networkOf, parseIp } from '../../../shared/config/network.ts'
import type { GeneralSettings } from '../../../shared/config/settings.ts'
import type { KeyCounts } from '../../memory/key-counts.ts'

/** An IPv6 customer has all addresses under such a prefix. */
const ipv6PrefixBits = 64

const firstDelayMs = 250

type BackoffSettings = Pick<GeneralSettings, 'loginBackoffAfter' | 'loginBackoffWindowMs' | 'loginBackoffMaxMs'>

/**
 * Failed logins by address, counted by all threads of the process together, so that workers do not multiply the number
 * of tries. Only the answer to a failure is delayed, never that to a success, so other users at the address of an
 * attacker are not affected. An attacker with more addresses than are remembered is not delayed for long.
 */
export class FailedLogins {
  readonly #counts: KeyCounts
  readonly #key: Uint8Array
  readonly #clockOffsetMs: number
  /** Number of delayed answers. */
  delayed = 0

  /** `key` is secret; `clockOffsetMs` converts this thread's clock to the shared one. */
  constructor(counts: KeyCounts, key: Uint8Array, clockOffsetMs: number) {
    this.#counts = counts
    this.#key = key
    this.#clockOffsetMs = clockOffsetMs
  }

  /** A login from `host` has failed. Returns the delay of the answer. */
  failed(host: string, nowMs: number, settings: BackoffSettings): number {
    const { loginBackoffAfter: after, loginBackoffWindowMs: windowMs, loginBackoffMaxMs: maxMs } = settings
    if (after === 0) return 0
    const count = this.#counts.add(this.#keyOf(host), nowMs + this.#clockOffsetMs, windowMs)
    if (count < after) return 0
    this.delayed++
    return Math.min(maxMs, firstDelayMs * 2 ** (count - after))
  }

  /** A login from `host` has succeeded. */
  succeeded(host: string): void {
    if (this.#counts.size > 0) this.#counts.delete(this.#keyOf(host))
  }

  #keyOf(host: string): Uint8Array {
    return createHmac('sha256', this.#key)
      .update(`failed logins from ${networkOfHost(host)}`)
      .digest()
  }
}

function networkOfHost(host: string): string {
  const address = parseIp(host)
  if (address?.family !== 6) return host
  return `${networkOf(address, ipv6PrefixBits)?.bits}/${ipv6PrefixBits}`
}
