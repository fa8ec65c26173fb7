/**
 * Cancel requests (PostgreSQL manual, "Canceling Requests in Progress"). A request names a client by the key this proxy
 * gave it; PostgreSQL gets a request with the key of the server joined with that client. Until it is complete, no other
 * client gets that server, so it cannot hit another client's query.
 *
 * The process id of a key tells which proxy of the fleet gave it:
 *
 *   bit  31        0: a process id is a positive Int32
 *   bits 30 … 22   the proxy: its number in the fleet, from control (1 … 510); 511 while it has none
 *   bits 21 … 17   the worker: one thread of the proxy
 *   bits 16 … 0    the client, among those of the worker
 *
 * The bits of the proxy are never all 0, so no client has a process id below 2^22, the highest that Linux allows
 * (pid_max): a client that calls `pg_terminate_backend` with its own process id ends no other session.
 *
 * The secret is random: 4 bytes up to protocol 3.1, 32 in 3.2. In a request forwarded to another proxy it is followed
 * by one byte, a mark: such a request is not forwarded again. With another mark it goes back to the former owners of
 * the listener, and no further.
 */
import { timingSafeEqual } from 'node:crypto'
import type { PoolSettings } from '../../../shared/config/settings.ts'
import type { Io, TcpOptions } from '../../io/io.ts'
import { secretBytesMax } from '../../protocol/startup.ts'
import { deliver, Gates } from './cancel-request.ts'
import type { CancelKey } from './cancel-request.ts'
import type { TlsHold } from '../wire/tls.ts'
import type { Peers } from './peers.ts'

/** Concurrent cancel connections to one PostgreSQL address; further requests wait. */
const toOne = { openMax: 100, waitingMax: 10_000 }
/** To all of them: ten may be silent before others have to wait. */
const toAll = { openMax: 1000, waitingMax: 10_000 }

const workerShift = 17
const proxyShift = 22
const clientNumbers = 1 << workerShift
/** Proxy bits of a proxy without a number. */
const noProxyBits = 511
const workerMask = (1 << (proxyShift - workerShift)) - 1

/** As in PostgreSQL. */
const shortSecretBytes = 4
const longSecretBytes = 32
const passedOnMark = 1
const passedBackMark = 2

/** Length of the secret for a client with protocol 3.`minor`. */
export function secretBytesOf(minor: number): number {
  return minor >= 2 ? longSecretBytes : shortSecretBytes
}

/** The process id of a key. `proxy` is 0 for one without a number. */
export function pidOf(proxy: number, worker: number, client: number): number {
  return ((proxy === 0 ? noProxyBits : proxy) << proxyShift) | (worker << workerShift) | client
}

/** Number of the proxy that issued the process id; 0 for one without a number. */
export function proxyOf(pid: number): number {
  const bits = pid >>> proxyShift
  return bits === noProxyBits ? 0 : bits
}

/** Number of the worker that issued it. */
export function workerOf(pid: number): number {
  return (pid >>> workerShift) & workerMask
}

/** The key as forwarded to another proxy, marked so that it is not forwarded again. */
export function passedOn(key: CancelKey): CancelKey {
  return marked(key, passedOnMark)
}

function marked({ pid, secret }: CancelKey, mark: number): CancelKey {
  const bytes = new Uint8Array(secret.length + 1).fill(mark)
  bytes.set(secret)
  return { pid, secret: bytes }
}

/** The mark of a request, 0 without one; and the key without it. */
function unmarked(key: CancelKey): { mark: number; plain: CancelKey } {
  const { pid, secret } = key
  const { length } = secret
  const mark = length === shortSecretBytes + 1 || length === longSecretBytes + 1 ? (secret[length - 1] ?? 0) : 0
  const isOurs = mark === passedOnMark || mark === passedBackMark
  return isOurs ? { mark, plain: { pid, secret: secret.subarray(0, -1) } } : { mark: 0, plain: key }
}

/** A possible target of cancel requests. */
export interface Cancelable {
  readonly cancelKey: CancelKey | null
  cancel(done: () => void): void
}

/** A server connection, as the target of cancel requests. */
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
  /** A request is complete; `late`: it may still arrive. */
  cancelEnded(late: boolean): void
}

/** Keys of clients, and cancel requests on their way to servers. */
export class Cancels {
  #proxy = 0
  readonly #io: Io
  readonly #worker: number
  readonly #waitTimeoutMs: () => number
  readonly #peers: Peers
  readonly #clients = new Map<number, Cancelable>()
  /** The last client number: numbers are reused as late as possible. */
  #last = 0
  readonly #gates: Gates

  /** `waitTimeoutMs` is the maximum time for a server to take a request. */
  constructor(io: Io, waitTimeoutMs: () => number, peers: Peers, worker: number) {
    this.#io = io
    this.#worker = worker
    this.#waitTimeoutMs = waitTimeoutMs
    this.#peers = peers
    this.#gates = new Gates(io, toOne, toAll)
  }

  /** Number of this proxy in its fleet. Clients keep the number they were given. */
  useNumber(proxy: number): void {
    this.#proxy = proxy
  }

  get keys(): number {
    return this.#clients.size
  }

  /**
   * A key with a process id that no other client has; null if all are in use, in which case the client cannot cancel.
   */
  add(client: Cancelable, secretBytes: number): CancelKey | null {
    if (this.#clients.size >= clientNumbers) return null
    const secret = new Uint8Array(secretBytes)
    this.#io.random(secret)
    let pid: number
    do {
      this.#last = (this.#last + 1) % clientNumbers
      pid = pidOf(this.#proxy, this.#worker, this.#last)
    } while (this.#clients.has(pid))
    this.#clients.set(pid, client)
    return { pid, secret }
  }

  remove(pid: number): void {
    this.#clients.delete(pid)
  }

  /** Takes equally long for unknown process ids, and for secrets of any length. */
  find(pid: number, secret: Uint8Array): Cancelable | null {
    const client = this.#clients.get(pid) ?? null
    const wanted = client?.cancelKey?.secret ?? noSecret
    const equal = timingSafeEqual(padded(wanted), padded(secret))
    return equal && wanted.length === secret.length ? client : null
  }

  /**
   * A request from outside. `done` is called once, when it was forwarded, or had no target. `secured` means that it
   * came over TLS.
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

  /** Whether keys with this number are from this proxy: its own number, or none while it had none. */
  isOwn(proxy: number): boolean {
    return proxy === 0 || proxy === this.#proxy
  }

  /**
   * Requests PostgreSQL to cancel the query of `server`. `done` is called once, when the request was taken, failed or
   * timed out; until then no other client gets the server.
   */
  send(server: CancelTarget, done: () => void): void {
    const { backendKey, target, serverSet } = server
    if (backendKey === null) {
      done()
      return
    }
    server.cancelBegan()
    // A server reached over TLS gets cancel requests over TLS too: the key is a secret.
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
