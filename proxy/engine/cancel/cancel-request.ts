/** A cancel request on its way to a PostgreSQL server, or to another proxy. */
import type { Address, Io, Socket, SocketEvents, TcpOptions, Timer } from '../../io/io.ts'
import * as write from '../../protocol/write.ts'
import { Inbox } from '../../protocol/framing.ts'
import type { Exchange } from '../wire/conversation.ts'
import { secureServer, TlsRefused } from '../wire/tls.ts'
import type { ServerTls } from '../wire/tls.ts'

/** Content of BackendKeyData and of cancel requests. */
export interface CancelKey {
  readonly pid: number
  readonly secret: Uint8Array
}

export interface Delivery {
  readonly address: Address
  readonly options: TcpOptions
  /** Null for plaintext. */
  readonly tls: ServerTls | null
  readonly key: CancelKey
  readonly timeoutMs: number
}

/**
 * Sends the request and waits until the peer closes the connection, which completes it. `over` is called once; with
 * `late` if that took too long and the request may still arrive.
 */
export function deliver(io: Io, delivery: Delivery, over: (late: boolean) => void): void {
  const { address, options, tls, key, timeoutMs } = delivery
  let ended = false
  const finish = (late: boolean): void => {
    if (ended) return
    ended = true
    timer.cancel()
    socket.close()
    over(late)
  }
  const inbox = new Inbox()
  const resume = (): void => {
    try {
      exchange.next()
    } catch (error) {
      if (!(error instanceof TlsRefused)) throw error
      finish(false)
    }
  }
  const events: SocketEvents = {
    onConnect: resume,
    onSecured: resume,
    onData(bytes, start, end) {
      inbox.open(bytes, start, end)
      resume()
      inbox.close()
      return end
    },
    onDrain() {},
    onClose: () => finish(false),
  }
  const timer = io.after(timeoutMs, () => finish(true))
  const socket = io.connect(address, options, events)
  const exchange = cancelExchange(inbox, socket, tls, write.cancelRequest(key.pid, key.secret))
}

function* cancelExchange(inbox: Inbox, socket: Socket, tls: ServerTls | null, request: Uint8Array): Exchange<void> {
  if (tls !== null) yield* secureServer(inbox, socket, tls)
  socket.send(request, 0, request.length)
}

interface Waiting {
  readonly run: (leave: () => void) => void
  readonly timer: Timer
}

/** A gate per key, so that requests to a silent peer do not delay those to others, and a wider one for all requests. */
export class Gates {
  readonly #io: Io
  readonly #each: GateBounds
  readonly #gates = new Map<string, Gate>()
  readonly #all: Gate

  constructor(io: Io, each: GateBounds, all: GateBounds) {
    this.#io = io
    this.#each = each
    this.#all = new Gate(io, all.openMax, all.waitingMax)
  }

  /** Like `Gate.enter`, through the gate of `key`. */
  enter(key: string, waitMs: number, run: (leave: () => void) => void, refused: () => void): void {
    const begunAtMs = this.#io.nowMs()
    const gate = this.#gate(key)
    const pass = (leave: () => void): void => {
      const out = (): void => {
        leave()
        if (gate.open === 0 && gate.waiting === 0) this.#gates.delete(key)
      }
      this.#all.enter(
        Math.max(0, begunAtMs + waitMs - this.#io.nowMs()),
        (leaveAll) =>
          run(() => {
            leaveAll()
            out()
          }),
        () => {
          refused()
          out()
        },
      )
    }
    gate.enter(waitMs, pass, refused)
  }

  #gate(key: string): Gate {
    let gate = this.#gates.get(key)
    if (gate === undefined) {
      gate = new Gate(this.#io, this.#each.openMax, this.#each.waitingMax)
      this.#gates.set(key, gate)
    }
    return gate
  }
}

export interface GateBounds {
  readonly openMax: number
  readonly waitingMax: number
}

/** Limits the number of concurrent requests. Further ones wait for a place, for a limited time. */
export class Gate {
  readonly #io: Io
  readonly #openMax: number
  readonly #waitingMax: number
  readonly #waiting = new Set<Waiting>()
  #open = 0

  constructor(io: Io, openMax: number, waitingMax: number) {
    this.#io = io
    this.#openMax = openMax
    this.#waitingMax = waitingMax
  }

  get open(): number {
    return this.#open
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /** Calls `run` when there is a place, to be given back once; or `refused` if there was none within `waitMs`. */
  enter(waitMs: number, run: (leave: () => void) => void, refused: () => void): void {
    if (this.#open < this.#openMax) {
      this.#run(run)
      return
    }
    if (this.#waiting.size >= this.#waitingMax) {
      refused()
      return
    }
    const timer = this.#io.after(waitMs, () => {
      this.#waiting.delete(waiting)
      refused()
    })
    const waiting = { run, timer }
    this.#waiting.add(waiting)
  }

  #run(run: (leave: () => void) => void): void {
    this.#open++
    run(() => {
      this.#open--
      for (const next of this.#waiting) {
        this.#waiting.delete(next)
        next.timer.cancel()
        this.#run(next.run)
        break
      }
    })
  }
}
