/**
 * The other proxies of the fleet, as listed by control: cancel requests for their clients are forwarded to them
 * unchanged. Only those addresses are ever connected to, and nothing that comes from them is read. The other proxy
 * checks the secret, so a stranger cannot make this one do more than is bounded here.
 */
import type { Address, Io, TcpOptions, Timer, TlsOptions } from '../../io/io.ts'
import { deliver, Gate } from './cancel-request.ts'
import type { CancelKey } from './cancel-request.ts'
import type { FromEngine } from '../../port.ts'
import type { PeerSpec, PeersUpdate } from '../../spec.ts'
import type { TlsContexts, TlsHold } from '../wire/tls.ts'

/** Concurrent connections to one peer, and waiting requests. */
export const peerOpenMax = 100
const peerWaitingMax = 1000

/** Requests kept while control is queried for an unknown number. */
const strayMax = 100

interface Request {
  readonly proxy: number
  readonly key: CancelKey
  readonly secured: boolean
  readonly done: () => void
}

interface PeersContext {
  readonly io: Io
  readonly post: (message: FromEngine) => void
  readonly tls: TlsContexts
  readonly waitTimeoutMs: () => number
  readonly tcpOptions: () => TcpOptions
  /** Cancel sockets of the former owners of this proxy's listener. */
  readonly predecessors: readonly Address[]
}

export class Peers {
  readonly #context: PeersContext
  #peers: readonly PeerSpec[] = []
  readonly #gates = new Map<number, Gate>()
  /** Requests for unknown numbers, kept until control has answered. */
  readonly #strays = new Set<Request>()
  /** Running while control is queried. */
  #strayTimer: Timer | null = null
  #tls: TlsHold | null = null
  /** Gate for the former owners together. */
  readonly #back: Gate

  constructor(context: PeersContext) {
    this.#context = context
    this.#back = new Gate(context.io, peerOpenMax, peerWaitingMax)
  }

  /** Proxies of the fleet with an address, including this one, by number. */
  get known(): readonly PeerSpec[] {
    return this.#peers
  }

  gate({ number }: PeerSpec): Gate {
    let gate = this.#gates.get(number)
    if (gate === undefined) {
      gate = new Gate(this.#context.io, peerOpenMax, peerWaitingMax)
      this.#gates.set(number, gate)
    }
    return gate
  }

  /** Control's answer; null without one. */
  update(update: PeersUpdate | null): void {
    if (update !== null) {
      this.#peers = update.peers
      for (const number of this.#gates.keys()) if (this.#find(number) === undefined) this.#gates.delete(number)
    }
    this.#strayTimer?.cancel()
    this.#strayTimer = null
    const strays = [...this.#strays]
    this.#strays.clear()
    for (const stray of strays) {
      const peer = this.#find(stray.proxy)
      if (peer === undefined) stray.done()
      else this.#passOnTo(peer, stray)
    }
  }

  /** TLS options as for clients: a peer is shown the same certificate. */
  secure(options: TlsOptions | undefined): void {
    const former = this.#tls
    this.#tls =
      options === undefined
        ? null
        : this.#context.tls.acquire({ ...options, side: 'client', ca: null, peerRequired: false })
    former?.release()
  }

  /** `done` is called once, when the peer has taken the request, or it failed. */
  passOn(proxy: number, key: CancelKey, secured: boolean, done: () => void): void {
    const request = { proxy, key, secured, done }
    const peer = this.#find(proxy)
    if (peer !== undefined) {
      this.#passOnTo(peer, request)
      return
    }
    if (this.#strays.size >= strayMax) {
      done()
      return
    }
    this.#strays.add(request)
    if (this.#strayTimer !== null) return
    this.#strayTimer = this.#context.io.after(this.#context.waitTimeoutMs(), () => this.update(null))
    this.#context.post({ type: 'peers' })
  }

  /**
   * Forwards to all former owners of the listener that may still have the client, over Unix sockets that only this user
   * can access, so without TLS. `done` is called once, when each has taken it or failed.
   */
  passBack(key: CancelKey, done: () => void): void {
    const { io, waitTimeoutMs, tcpOptions, predecessors } = this.#context
    let awaited = predecessors.length
    const finish = (): void => {
      if (--awaited === 0) done()
    }
    if (awaited === 0) done()
    for (const address of predecessors) {
      const delivery = { address, options: tcpOptions(), tls: null, key, timeoutMs: waitTimeoutMs() }
      const run = (leave: () => void): void =>
        deliver(io, delivery, () => {
          finish()
          leave()
        })
      this.#back.enter(delivery.timeoutMs, run, finish)
    }
  }

  #find(proxy: number): PeerSpec | undefined {
    return this.#peers.find(({ number }) => number === proxy)
  }

  #passOnTo(peer: PeerSpec, { key, secured, done }: Request): void {
    const { io, waitTimeoutMs, tcpOptions } = this.#context
    const hold = secured ? (this.#tls?.again() ?? null) : null
    const finish = (): void => {
      hold?.release()
      done()
    }
    // A request that came over TLS is not forwarded in plaintext.
    if (secured && hold === null) {
      finish()
      return
    }
    const tls = hold === null ? null : { context: hold.context, settings: peerTls, host: peer.address, required: true }
    const delivery = {
      address: { host: peer.address, port: peer.port },
      options: tcpOptions(),
      tls,
      key,
      timeoutMs: waitTimeoutMs(),
    }
    this.gate(peer).enter(
      delivery.timeoutMs,
      (leave) => {
        deliver(io, delivery, () => {
          finish()
          leave()
        })
      },
      finish,
    )
  }
}

/** The name in a peer's certificate is the fleet's, not that of its address. */
const peerTls = { serverTlsSslmode: 'require', serverTlsNegotiation: 'postgres' } as const
