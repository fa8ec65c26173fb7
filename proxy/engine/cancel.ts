/**
 * Cancel requests (PostgreSQL manual, "Canceling Requests in Progress"). A cancel names a client by the key we gave
 * it; what reaches PostgreSQL is a cancel with the key of the server that client is joined with. While it is on its
 * way, that server is not given to anybody else, so it cannot hit another client's query.
 */
import assert from 'node:assert/strict'
import { timingSafeEqual } from 'node:crypto'
import type { Io, Socket, SocketEvents } from '../io/io.ts'
import * as write from '../protocol/write.ts'
import type { Client } from './client.ts'
import { Inbox } from './conversation.ts'
import type { Exchange } from './conversation.ts'
import type { Server } from './server.ts'
import { secureServer, TlsRefused } from './tls.ts'
import type { ServerTls, TlsHold } from './tls.ts'

/** Cancel connections to PostgreSQL open at a time; further ones wait for a place. */
const openMax = 100
const waitingMax = 10_000

interface Request {
  readonly server: Server
  readonly done: () => void
  /** Where the server is reached by TLS, so is it to cancel: the key is a secret too. */
  readonly tls: TlsHold | null
}

/** The keys handed out to clients, and the cancel requests under way to servers. */
export class Cancels {
  readonly #io: Io
  readonly #waitTimeoutMs: () => number
  readonly #clients = new Map<number, Client>()
  readonly #waiting: Request[] = []
  #open = 0

  /** `waitTimeoutMs` is the time a server has to take a request. */
  constructor(io: Io, waitTimeoutMs: () => number) {
    this.#io = io
    this.#waitTimeoutMs = waitTimeoutMs
  }

  get keys(): number {
    return this.#clients.size
  }

  /** A key that no other client has; its process id is ours, random and positive. */
  add(client: Client): { pid: number; secret: Uint8Array } {
    const random = new Uint8Array(8)
    const view = new DataView(random.buffer)
    let pid: number
    do {
      this.#io.random(random)
      pid = view.getInt32(0) & 0x7fffffff
    } while (pid === 0 || this.#clients.has(pid))
    this.#clients.set(pid, client)
    return { pid, secret: random.slice(4) }
  }

  remove(pid: number): void {
    this.#clients.delete(pid)
  }

  find(pid: number, secret: Uint8Array): Client | null {
    const client = this.#clients.get(pid)
    const key = client?.cancelKey?.secret
    if (client === undefined || key === undefined || key.length !== secret.length) return null
    return timingSafeEqual(key, secret) ? client : null
  }

  /**
   * Asks PostgreSQL to cancel what `server` does. `done` is called once, when the request was taken, failed or timed
   * out; until then the server is kept from other clients.
   */
  send(server: Server, done: () => void): void {
    if (server.backendKey === null || this.#waiting.length >= waitingMax) {
      done()
      return
    }
    server.cancels++
    const tls = server.socket.tls === null ? null : (server.pool.tls?.again() ?? null)
    const request = { server, done, tls }
    if (this.#open >= openMax) this.#waiting.push(request)
    else this.#connect(request)
  }

  #connect({ server, done, tls }: Request): void {
    const { backendKey, target, pool } = server
    assert(backendKey !== null, 'only a server that logged in is canceled')
    this.#open++
    let over = false
    const finish = (): void => {
      if (over) return
      over = true
      timer.cancel()
      socket.close()
      tls?.release()
      this.#open--
      server.cancels--
      if (server.cancels === 0 && server.list !== null && server.list === pool.canceled) pool.checkin(server)
      done()
      const next = this.#waiting.shift()
      if (next !== undefined) this.#connect(next)
    }
    const inbox = new Inbox()
    const resume = (): void => {
      try {
        exchange.next()
      } catch (error) {
        if (!(error instanceof TlsRefused)) throw error
        finish()
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
      onClose: finish,
    }
    const timer = this.#io.after(this.#waitTimeoutMs(), () => {
      server.cancelLost = true
      finish()
    })
    const socket = this.#io.connect({ host: target.address, port: target.host.port }, pool.tcpOptions, events)
    const request = write.cancelRequest(backendKey.pid, backendKey.secret)
    const secured =
      tls === null ? null : { context: tls.context, settings: pool.settings, host: target.host.host, required: true }
    const exchange = cancelExchange(inbox, socket, secured, request)
  }
}

function* cancelExchange(inbox: Inbox, socket: Socket, tls: ServerTls | null, request: Uint8Array): Exchange<void> {
  if (tls !== null) yield* secureServer(inbox, socket, tls)
  socket.send(request, 0, request.length)
}
