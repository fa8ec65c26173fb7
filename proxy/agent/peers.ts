import { isIP } from 'node:net'
import { addressFault } from '../../shared/registered-address.ts'
import type { Peer } from '../../shared/wire.ts'
import type { PeerSpec, PeersUpdate } from '../spec.ts'
import type { Waits } from './clock.ts'
import type { ControlClient } from './control-client.ts'
import type { ListenAddress } from './engine-thread.ts'
import { reasonOf, type Log } from './log.ts'
import type { Lookup } from './resolver.ts'
import type { StateFolder } from './state.ts'

/** Address at which other proxies reach a listener; null if unknown. */
export function peerAddress(
  listen: ListenAddress,
  peerHost: string | null,
  hintUrl: string | null,
): { host: string; port: number } | null {
  if (peerHost !== null) return { host: peerHost, port: listen.port }
  if (!wildcards.has(listen.host)) return { host: listen.host, port: listen.port }
  if (hintUrl === null) return null
  // URLs have IPv6 addresses in brackets.
  return { host: new URL(hintUrl).hostname.replace(/^\[|\]$/g, ''), port: listen.port }
}

/** Addresses that others cannot connect to. */
const wildcards: ReadonlySet<string> = new Set(['0.0.0.0', '::'])

export interface PeersOptions {
  readonly control: Pick<ControlClient, 'peers'>
  readonly fleet: string
  readonly proxyId: string
  readonly boot: string
  readonly folder: Pick<StateFolder, 'readPeers' | 'savePeers'>
  readonly lookup: Lookup
  readonly waits: Pick<Waits, 'peersMs' | 'peersAgainMs'>
  readonly log: Log
  /** The update for the engine; null if the peers are unknown. */
  readonly onPeers: (update: PeersUpdate | null) => void
}

/**
 * The other proxies of the fleet, for forwarding cancel requests. The list is fetched from control after each hello,
 * periodically, and when a request names an unknown number; if control does not answer, the last list is used, also
 * after a restart.
 */
export class Peers {
  readonly #options: PeersOptions
  #known = ''
  #timer: NodeJS.Timeout | undefined
  #askedAtMs = -Infinity
  #asking: Promise<void> | undefined
  /** The engine has asked again since the request in progress began, and gets another answer. */
  #isWantedAgain = false
  #stopped = false

  constructor(options: PeersOptions) {
    this.#options = options
  }

  /** Loads the list of the last run. */
  async start(): Promise<void> {
    const kept = await this.#options.folder.readPeers(this.#options.fleet)
    this.#again(this.#options.waits.peersMs)
    if (kept !== undefined) void this.#tell(kept)
  }

  /** Control has answered a hello: this proxy has a number now. */
  greeted(): void {
    void this.#ask()
  }

  /** The engine needs the list. It always gets an answer, and control is queried at a limited rate. */
  wanted(): void {
    if (this.#asking !== undefined) this.#isWantedAgain = true
    else this.#askSoon()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #askSoon(): void {
    if (this.#stopped) return
    const waitMs = this.#askedAtMs + this.#options.waits.peersAgainMs - performance.now()
    if (waitMs > 0) this.#again(waitMs)
    else void this.#ask()
  }

  #again(waitMs: number): void {
    clearTimeout(this.#timer)
    if (this.#stopped) return
    this.#timer = setTimeout(() => void this.#ask(), waitMs)
    this.#timer.unref()
  }

  async #ask(): Promise<void> {
    await (this.#asking ??= this.#askControl())
  }

  async #askControl(): Promise<void> {
    const { control, folder, fleet, log, onPeers, waits } = this.#options
    this.#askedAtMs = performance.now()
    try {
      const peers = await control.peers()
      const changed = JSON.stringify(peers) !== this.#known
      await this.#tell(peers)
      if (changed) await folder.savePeers(fleet, peers)
    } catch (error) {
      // Polls already log whether control is reachable.
      log('debug', 'could not update the list of peers', { reason: reasonOf(error) })
      onPeers(null)
    }
    this.#asking = undefined
    if (this.#isWantedAgain) this.#askSoon()
    else this.#again(waits.peersMs)
    this.#isWantedAgain = false
  }

  async #tell(peers: readonly Peer[]): Promise<void> {
    const { proxyId, boot, onPeers } = this.#options
    const known = JSON.stringify(peers)
    this.#known = known
    const specs = await Promise.all(peers.map(async (peer) => await this.#specOf(peer)))
    // A newer list has arrived while names were resolved.
    if (this.#known !== known) return
    const named = peers.filter(({ proxy }) => proxy === proxyId)
    // A list of before this process said hello has its former number, which it gets again.
    const own = named.find((peer) => peer.boot === boot) ?? (named.length === 1 ? named[0] : undefined)
    onPeers({
      number: own?.number ?? 0,
      peers: specs.filter((spec) => spec !== null),
    })
  }

  async #specOf({ proxy, number, address }: Peer): Promise<PeerSpec | null> {
    if (address === null) return null
    const { log, lookup } = this.#options
    const { host, port } = address
    try {
      const [found] = isIP(host) === 0 ? await lookup(host) : [host]
      if (found === undefined) return null
      const fault = addressFault(found)
      if (fault === undefined) return { number, address: found, port }
      log('warn', 'a peer registered a forbidden address', { proxy, host, reason: fault })
      return null
    } catch (error) {
      log('warn', 'could not resolve the address of a peer', { proxy, host, reason: reasonOf(error) })
      return null
    }
  }
}
