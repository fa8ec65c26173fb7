import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { inParallel } from './in-parallel.ts'
import { reasonOf, type Log } from './log.ts'

/** Returns all current addresses of a name; the default uses the system, including /etc/hosts. */
export type Lookup = (host: string) => Promise<readonly string[]>

/** getaddrinfo(3) blocks one of the four threads of Node's pool; files and key derivation need the others. */
export const lookupsAtOnce = 2

export const systemLookup: Lookup = async (host) => {
  const found = await lookup(host, { all: true, order: 'verbatim' })
  return found.map(({ address }) => address)
}

export interface ResolverOptions {
  readonly lookup: Lookup
  readonly timeoutMs: number
  readonly log: Log
  /** Names whose addresses changed in a later lookup. */
  readonly onChange: (hosts: Readonly<Record<string, readonly string[]>>) => void
}

/**
 * Server names and their addresses. Names in use are looked up again every `dns_max_ttl`; if a later lookup fails, the
 * known addresses are kept.
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

  /** Addresses of the last run, used only if a lookup fails. */
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

  /** Sets the names in use; others are dropped. */
  watch(hosts: readonly string[], intervalMs: number): void {
    const names = new Set(hosts)
    this.#watched = [...names].filter((host) => !isAddress(host))
    for (const host of this.#known.keys()) {
      if (!names.has(host)) this.#known.delete(host)
    }
    this.#intervalMs = intervalMs
    this.#schedule()
  }

  /** Known addresses of the names in use, for last-known-good. */
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
      // Undefined: a version applied meanwhile does not use the name.
      if (before === undefined) return
      const after = await this.#resolve(host)
      if (!sameSet(before, after)) changed[host] = after
    })
    // A version applied meanwhile has set other names and another timer.
    if (names !== this.#watched) return
    if (Object.keys(changed).length > 0) this.#options.onChange(changed)
    this.#schedule()
  }

  async #resolve(host: string): Promise<readonly string[]> {
    if (isAddress(host)) return [host]
    const known = this.#known.get(host)
    try {
      const addresses = [...new Set(await this.#lookupInTime(host))]
      if (addresses.length === 0) throw new Error('the name does not resolve')
      this.#known.set(host, addresses)
      return addresses
    } catch (error) {
      if (known === undefined) throw new UnresolvableHost(host, reasonOf(error))
      this.#options.log('warn', 'could not resolve a server name; its last addresses stay in use', {
        host,
        reason: reasonOf(error),
      })
      return known
    }
  }

  async #lookupInTime(host: string): Promise<readonly string[]> {
    const { promise, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => reject(new Error(`no response within ${this.#options.timeoutMs} ms`)),
      this.#options.timeoutMs,
    )
    try {
      return await Promise.race([this.#options.lookup(host), promise])
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Needs no lookup: an IP address, or the directory of a Unix socket. */
function isAddress(host: string): boolean {
  return isIP(host) !== 0 || host.startsWith('/')
}

export class UnresolvableHost extends Error {
  readonly host: string
  constructor(host: string, reason: string) {
    super(`could not resolve the host ${host}: ${reason}`)
    this.name = 'UnresolvableHost'
    this.host = host
  }
}

function sameSet(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((address) => other.includes(address))
}
