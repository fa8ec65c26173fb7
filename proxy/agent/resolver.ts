import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { inParallel } from './in-parallel.ts'
import { reasonOf, type Log } from './log.ts'

/** Gives all addresses a name has now; the default asks the system, /etc/hosts included. */
export type Lookup = (host: string) => Promise<readonly string[]>

/** getaddrinfo(3) blocks a thread of Node's pool of four; files and key derivation need the others. */
const lookupsAtOnce = 2

export const systemLookup: Lookup = async (host) => {
  const found = await lookup(host, { all: true, order: 'verbatim' })
  return found.map(({ address }) => address)
}

export interface ResolverOptions {
  readonly lookup: Lookup
  readonly timeoutMs: number
  readonly log: Log
  /** Names whose set of addresses changed in a later look-up. */
  readonly onChange: (hosts: Readonly<Record<string, readonly string[]>>) => void
}

/**
 * Names of servers and the addresses they have. Names in use are looked up again every `dns_max_ttl`; a look-up that
 * fails later on keeps the addresses that were known.
 */
export class Resolver {
  readonly #options: ResolverOptions
  readonly #known = new Map<string, readonly string[]>()
  #watched: readonly string[] = []
  #timer: NodeJS.Timeout | undefined
  #intervalMs = 0

  constructor(options: ResolverOptions) {
    this.#options = options
  }

  /** Addresses of the last run, used only for a name that cannot be looked up now. */
  remember(hosts: Readonly<Record<string, readonly string[]>>): void {
    for (const [host, addresses] of Object.entries(hosts)) {
      if (!this.#known.has(host)) this.#known.set(host, addresses)
    }
  }

  /** The addresses of each name, never empty. Throws an UnresolvableHost. */
  async resolveAll(hosts: readonly string[]): Promise<Map<string, readonly string[]>> {
    const unique = [...new Set(hosts)]
    const found = await inParallel(unique, lookupsAtOnce, async (host) => await this.#resolve(host))
    return new Map(unique.map((host, index) => [host, found[index]!]))
  }

  /** From now on these names are in use; all others are forgotten. */
  watch(hosts: readonly string[], intervalMs: number): void {
    const names = new Set(hosts)
    this.#watched = [...names].filter((host) => !isAddress(host))
    for (const host of this.#known.keys()) {
      if (!names.has(host)) this.#known.delete(host)
    }
    this.#intervalMs = intervalMs
    this.#schedule()
  }

  /** What is known now about the names in use, for the last-known-good. */
  get addresses(): Record<string, readonly string[]> {
    return Object.fromEntries(this.#known)
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#watched = []
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    if (this.#watched.length === 0) return
    this.#timer = setTimeout(() => void this.#refresh(), this.#intervalMs)
    this.#timer.unref()
  }

  async #refresh(): Promise<void> {
    const names = this.#watched
    const changed: Record<string, readonly string[]> = {}
    await inParallel(names, lookupsAtOnce, async (host) => {
      const before = this.#known.get(host)
      // Undefined: a version that was applied meanwhile uses the name no more.
      if (before === undefined) return
      const after = await this.#resolve(host)
      if (!sameSet(before, after)) changed[host] = after
    })
    // A version that was applied meanwhile has brought its own names and its own timer.
    if (names !== this.#watched) return
    if (Object.keys(changed).length > 0) this.#options.onChange(changed)
    this.#schedule()
  }

  async #resolve(host: string): Promise<readonly string[]> {
    if (isAddress(host)) return [host]
    const known = this.#known.get(host)
    try {
      const addresses = [...new Set(await this.#lookupInTime(host))]
      if (addresses.length === 0) throw new Error('the name has no address')
      this.#known.set(host, addresses)
      return addresses
    } catch (error) {
      if (known === undefined) throw new UnresolvableHost(host, reasonOf(error))
      this.#options.log('warn', 'a name cannot be looked up; its last addresses stay in use', {
        host,
        reason: reasonOf(error),
      })
      return known
    }
  }

  async #lookupInTime(host: string): Promise<readonly string[]> {
    const { promise, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => reject(new Error(`no answer within ${this.#options.timeoutMs} ms`)),
      this.#options.timeoutMs,
    )
    try {
      return await Promise.race([this.#options.lookup(host), promise])
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Needs no look-up: an IP address, or the folder of a Unix socket. */
function isAddress(host: string): boolean {
  return isIP(host) !== 0 || host.startsWith('/')
}

export class UnresolvableHost extends Error {
  readonly host: string
  constructor(host: string, reason: string) {
    super(`the host ${host} cannot be resolved: ${reason}`)
    this.name = 'UnresolvableHost'
    this.host = host
  }
}

function sameSet(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((address) => other.includes(address))
}
