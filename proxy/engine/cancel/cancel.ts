/**
 * Cancel requests (PostgreSQL manual, "Canceling Requests in Progress"). A cancel names a client by the key we gave
 * it; what reaches PostgreSQL is a cancel with the key of the server that client is joined with. While it is on its
 * way, that server is not given to anybody else, so it cannot hit another client's query.
 *
 * The process id of a key says who has given it, so that any proxy of the fleet knows whom to pass a request on to:
 *
 *   bit  31        0: a process id is a positive Int32
 *   bits 30 … 22   the proxy: its number in the fleet, from control (1 … 510); 511 while it has none
 *   bits 21 … 17   the worker: one thread of the proxy
 *   bits 16 … 0    the client, among those of the worker
 *
 * The bits of the proxy are never all 0, so no client has a process id below 2^22, the highest that Linux allows
 * (pid_max): a client that calls `pg_terminate_backend` with the process id it was given ends no other session.
 *
 * The secret is random: 4 bytes up to protocol 3.1, 32 in 3.2. In a request that one proxy passes on to another it is
 * followed by one byte more, a mark: such a request is never passed on to a third one. With another mark it goes back to
 * the processes that had the proxy's listener before an online restart, and no further.
 */
import { timingSafeEqual } from 'node:crypto'
import type { PoolSettings } from '../../../shared/config/settings.ts'
import type { Io, TcpOptions } from '../../io/io.ts'
import { secretBytesMax } from '../../protocol/startup.ts'
import { deliver, Gates } from './cancel-request.ts'
import type { CancelKey } from './cancel-request.ts'
import type { TlsHold } from '../wire/tls.ts'
import type { Peers } from './peers.ts'

/** Cancel connections to one address of PostgreSQL that are open at a time; further ones wait for a place. */
const toOne = { openMax: 100, waitingMax: 10_000 }
/** To all of them: ten may be silent before anybody else waits for their sake. */
const toAll = { openMax: 1000, waitingMax: 10_000 }

const workerShift = 17
const proxyShift = 22
const clientNumbers = 1 << workerShift
/** In the bits of the proxy: one that has no number. */
const noProxyBits = 511
const workerMask = (1 << (proxyShift - workerShift)) - 1

/** As long as PostgreSQL's own. */
const shortSecretBytes = 4
const longSecretBytes = 32
const passedOnMark = 1
const passedBackMark = 2

/** The length of the secret for a client that speaks protocol 3.`minor`. */
export function secretBytesOf(minor: number): number {
  return minor >= 2 ? longSecretBytes : shortSecretBytes
}

/** The process id of a key. `proxy` is 0 for one without a number. */
export function pidOf(proxy: number, worker: number, client: number): number {
  return ((proxy === 0 ? noProxyBits : proxy) << proxyShift) | (worker << workerShift) | client
}

/** The number of the proxy that has given this process id; 0 for one without a number. */
export function proxyOf(pid: number): number {
  const bits = pid >>> proxyShift
  return bits === noProxyBits ? 0 : bits
}

/** Which of its proxy's workers has given it. */
export function workerOf(pid: number): number {
  return (pid >>> workerShift) & workerMask
}

/** As it goes to another proxy, which is to pass it on no further. */
export function passedOn(key: CancelKey): CancelKey {
  return marked(key, passedOnMark)
}

function marked({ pid, secret }: CancelKey, mark: number): CancelKey {
  const bytes = new Uint8Array(secret.length + 1).fill(mark)
  bytes.set(secret)
  return { pid, secret: bytes }
}

/** The mark of a request, 0 for none; and the key without it. */
function unmarked(key: CancelKey): { mark: number; plain: CancelKey } {
  const { pid, secret } = key
  const { length } = secret
  const mark = length === shortSecretBytes + 1 || length === longSecretBytes + 1 ? (secret[length - 1] ?? 0) : 0
  const isOurs = mark === passedOnMark || mark === passedBackMark
  return isOurs ? { mark, plain: { pid, secret: secret.subarray(0, -1) } } : { mark: 0, plain: key }
}

/** Whom a cancel request may be for. */
export interface Cancelable {
  readonly cancelKey: CancelKey | null
  cancel(done: () => void): void
}

/** A server connection, as far as what it does can be canceled. */
export interface CancelTarget {
  readonly backendKey: CancelKey | null
  readonly target: { readonly address: string; readonly host: { readonly host: string; readonly port: number } }
  readonly socket: { readonly tls: object | null }
  readonly serverSet: {
    readonly tls: TlsHold | null
    readonly tcpOptions: TcpOptions
    readonly settings: Pick<PoolSettings, 'serverTlsSslmode' | 'serverTlsNegotiation'>
  }
  /** A request is on its way to it. */
  cancelBegan(): void
  /** It has arrived, or does not any more; `late`: it may still. */
  cancelEnded(late: boolean): void
}

/** The keys handed out to clients, and the cancel requests under way to servers. */
export class Cancels {
  /** Of this proxy in its fleet. Clients keep the number they were given. */
  proxy = 0
  readonly #io: Io
  readonly #worker: number
  readonly #waitTimeoutMs: () => number
  readonly #peers: Peers
  readonly #clients = new Map<number, Cancelable>()
  /** The number that a client was given last: one that was left is given again as late as can be. */
  #last = 0
  readonly #gates: Gates

  /** `waitTimeoutMs` is the time a server has to take a request. */
  constructor(io: Io, waitTimeoutMs: () => number, peers: Peers, worker: number) {
    this.#io = io
    this.#worker = worker
    this.#waitTimeoutMs = waitTimeoutMs
    this.#peers = peers
    this.#gates = new Gates(io, toOne, toAll)
  }

  get keys(): number {
    return this.#clients.size
  }

  /** A key whose process id no other client has; null when all are taken, and then there is nothing to cancel by. */
  add(client: Cancelable, secretBytes: number): CancelKey | null {
    if (this.#clients.size >= clientNumbers) return null
    const secret = new Uint8Array(secretBytes)
    this.#io.random(secret)
    let pid: number
    do {
      this.#last = (this.#last + 1) % clientNumbers
      pid = pidOf(this.proxy, this.#worker, this.#last)
    } while (this.#clients.has(pid))
    this.#clients.set(pid, client)
    return { pid, secret }
  }

  remove(pid: number): void {
    this.#clients.delete(pid)
  }

  /** Takes as long for a process id that nobody has, and for a secret of any length. */
  find(pid: number, secret: Uint8Array): Cancelable | null {
    const client = this.#clients.get(pid) ?? null
    const wanted = client?.cancelKey?.secret ?? noSecret
    const equal = timingSafeEqual(padded(wanted), padded(secret))
    return equal && wanted.length === secret.length ? client : null
  }

  /**
   * A request from outside. `done` is called once, when it was passed on, or had nothing to hit. `secured` says that it
   * came by TLS.
   */
  take(key: CancelKey, secured: boolean, done: () => void): void {
    const { mark, plain } = unmarked(key)
    const client = this.find(plain.pid, plain.secret)
    const proxy = proxyOf(plain.pid)
    if (client !== null) client.cancel(done)
    else if (mark === passedBackMark) done()
    else if (mark === passedOnMark || this.isOwn(proxy)) this.#peers.passBack(marked(plain, passedBackMark), done)
    else this.#peers.passOn(proxy, passedOn(plain), secured, done)
  }

  /** Whether this proxy gave keys with the number: its own, or none while it had none. */
  isOwn(proxy: number): boolean {
    return proxy === 0 || proxy === this.proxy
  }

  /**
   * Asks PostgreSQL to cancel what `server` does. `done` is called once, when the request was taken, failed or timed
   * out; until then the server is kept from other clients.
   */
  send(server: CancelTarget, done: () => void): void {
    const { backendKey, target, serverSet } = server
    if (backendKey === null) {
      done()
      return
    }
    server.cancelBegan()
    // Where the server is reached by TLS, so is it to cancel: the key is a secret too.
    const hold = server.socket.tls === null ? null : (serverSet.tls?.again() ?? null)
    const finish = (late: boolean): void => {
      hold?.release()
      server.cancelEnded(late)
      done()
    }
    const { host } = target.host
    const delivery = {
      address: { host: target.address, port: target.host.port },
      options: serverSet.tcpOptions,
      tls: hold === null ? null : { context: hold.context, settings: serverSet.settings, host, required: true },
      key: backendKey,
      timeoutMs: this.#waitTimeoutMs(),
    }
    this.#gates.enter(
      `${target.address} ${target.host.port}`,
      delivery.timeoutMs,
      (leave) => {
        deliver(this.#io, delivery, (late) => {
          finish(late)
          leave()
        })
      },
      () => finish(false),
    )
  }
}

const noSecret = new Uint8Array(0)

function padded(secret: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(secretBytesMax)
  bytes.set(secret)
  return bytes
}
