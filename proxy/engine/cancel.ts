/**
 * Cancel requests (PostgreSQL manual, "Canceling Requests in Progress"). A cancel names a client by the key we gave
 * it; what reaches PostgreSQL is a cancel with the key of the server that client is joined with. While it is on its
 * way, that server is not given to anybody else, so it cannot hit another client's query.
 */
import assert from 'node:assert/strict'
import { timingSafeEqual } from 'node:crypto'
import type { Io, SocketEvents } from '../io/io.ts'
import * as write from '../protocol/write.ts'
import type { Client } from './client.ts'
import type { Server } from './server.ts'

/** Time a cancel request has to be taken by the server. */
const cancelWaitTimeoutMs = 10_000

/** Cancel connections to PostgreSQL open at a time; further ones wait for a place. */
const openMax = 100
const waitingMax = 10_000

interface Request {
  readonly server: Server
  readonly done: () => void
}

/** The keys handed out to clients, and the cancel requests under way to servers. */
export class Cancels {
  readonly #io: Io
  readonly #clients = new Map<number, Client>()
  readonly #waiting: Request[] = []
  #open = 0

  constructor(io: Io) {
    this.#io = io
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
    if (this.#open >= openMax) this.#waiting.push({ server, done })
    else this.#connect({ server, done })
  }

  #connect({ server, done }: Request): void {
    const { backendKey, target, pool } = server
    assert(backendKey !== null, 'only a server that logged in is canceled')
    this.#open++
    let over = false
    const finish = (): void => {
      if (over) return
      over = true
      timer.cancel()
      socket.close()
      this.#open--
      server.cancels--
      if (server.cancels === 0 && server.list !== null && server.list === pool.canceled) pool.checkin(server)
      done()
      const next = this.#waiting.shift()
      if (next !== undefined) this.#connect(next)
    }
    const events: SocketEvents = {
      onConnect() {
        const request = write.cancelRequest(backendKey.pid, backendKey.secret)
        socket.send(request, 0, request.length)
      },
      onData: (_bytes, _start, end) => end,
      onDrain() {},
      onClose: finish,
    }
    const timer = this.#io.after(cancelWaitTimeoutMs, () => {
      server.cancelLost = true
      finish()
    })
    const socket = this.#io.connect({ host: target.address, port: target.host.port }, pool.tcpOptions, events)
  }
}
