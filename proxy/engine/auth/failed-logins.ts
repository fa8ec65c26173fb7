import { networkOf, parseIp } from '../../../shared/config/network.ts'
import type { GeneralSettings } from '../../../shared/config/settings.ts'

/** Addresses remembered: who fails from more of them is delayed at none for long, and memory stays bounded. */
export const addressesMax = 10_000

/** An IPv6 customer has all addresses under such a prefix for himself. */
const ipv6PrefixBits = 64

const firstDelayMs = 250

type BackoffSettings = Pick<GeneralSettings, 'loginBackoffAfter' | 'loginBackoffWindowMs' | 'loginBackoffMaxMs'>

interface Failures {
  count: number
  lastAtMs: number
}

/**
 * Failed logins by the address they came from. Only the answer to a failure is delayed, and the one to a success never,
 * so whoever shares an address with somebody who guesses is let in as ever.
 */
export class FailedLogins {
  /** In the order of their last failure. */
  readonly #byAddress = new Map<string, Failures>()
  /** Answers that were delayed so far. */
  delayed = 0

  get addresses(): number {
    return this.#byAddress.size
  }

  /** A login from `host` has failed: how long its answer has to wait. */
  failed(host: string, nowMs: number, settings: BackoffSettings): number {
    const { loginBackoffAfter: after, loginBackoffWindowMs: windowMs, loginBackoffMaxMs: maxMs } = settings
    if (after === 0) return 0
    const key = keyOf(host)
    const known = this.#byAddress.get(key)
    const count = known !== undefined && nowMs - known.lastAtMs < windowMs ? known.count + 1 : 1
    this.#byAddress.delete(key)
    this.#byAddress.set(key, { count, lastAtMs: nowMs })
    this.#forgetOldest()
    if (count < after) return 0
    this.delayed++
    return Math.min(maxMs, firstDelayMs * 2 ** (count - after))
  }

  /** Somebody there knows a password. */
  succeeded(host: string): void {
    if (this.#byAddress.size > 0) this.#byAddress.delete(keyOf(host))
  }

  #forgetOldest(): void {
    if (this.#byAddress.size <= addressesMax) return
    for (const oldest of this.#byAddress.keys()) {
      this.#byAddress.delete(oldest)
      return
    }
  }
}

function keyOf(host: string): string {
  const address = parseIp(host)
  if (address?.family !== 6) return host
  return `${networkOf(address, ipv6PrefixBits)?.bits}/${ipv6PrefixBits}`
}
