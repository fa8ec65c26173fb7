/**
 * The clients of a pool that wait for a server, oldest first. One timer per line, and none while it is empty: it tells
 * clients that they wait (query_wait_notify), and disconnects those that have waited in vain (query_wait_timeout).
 */
import type { PoolSettings } from '../../../shared/config/settings.ts'
import { sqlstates } from '../../../shared/errors.ts'
import type { Io, Timer } from '../../io/io.ts'
import type { Listed } from './list.ts'
import { List } from './list.ts'

/** Minimum interval between checks for clients to be told that they wait. */
const notifyEveryMs = 100

interface WaitingClient<Self extends WaitingClient<Self>> extends Listed<Self> {
  readonly waitingSinceMs: number
  /** It was sent the NOTICE that it waits. */
  readonly notified: boolean
  notify(message: string): void
  fatal(sqlstate: string, message: string): void
}

/** The pool of a line. */
interface LinePool {
  readonly context: { readonly io: Io }
  readonly settings: PoolSettings | null
  /** Error of the last login to a server, until one succeeds. */
  readonly failure: { readonly sqlstate: string; readonly message: string } | null
}

export class WaitingLine<Client extends WaitingClient<Client>> {
  readonly clients = new List<Client>('waiting')
  readonly #pool: LinePool
  #timer: Timer | null = null
  #dueMs = 0
  /** Start of the longest wait not yet announced by a NOTICE. */
  #untoldSinceMs = Infinity

  constructor(pool: LinePool) {
    this.#pool = pool
  }

  /** `client` has joined the line. */
  joined(client: Client): void {
    this.#untoldSinceMs = Math.min(this.#untoldSinceMs, client.waitingSinceMs)
    this.#watch()
  }

  /** New settings may make clients due earlier. */
  retuned(): void {
    this.close()
    const { settings, context } = this.#pool
    // Clients that are due now are handled in another turn of the loop.
    if (settings !== null) this.#tell(settings, context.io.nowMs())
    this.#watch()
  }

  close(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  /** No client is due before those ahead of it. */
  #watch(): void {
    const { settings, context } = this.#pool
    if (settings === null || this.clients.head === null) return
    const { io } = context
    const dueMs = this.#nextMs(settings, this.clients.head, io.nowMs())
    if (this.#timer !== null && this.#dueMs <= dueMs) return
    this.close()
    if (dueMs === Infinity) return
    this.#dueMs = dueMs
    this.#timer = io.after(Math.max(0, dueMs - io.nowMs()), () => {
      this.#timer = null
      this.#look()
    })
  }

  /** Time at which the next client may be due; clients that join later are due later. */
  #nextMs({ queryWaitTimeoutMs, queryWaitNotifyMs }: PoolSettings, head: Client, nowMs: number): number {
    const timeoutMs = queryWaitTimeoutMs > 0 ? head.waitingSinceMs + queryWaitTimeoutMs : Infinity
    if (queryWaitNotifyMs === 0) return timeoutMs
    return Math.min(timeoutMs, Math.max(this.#untoldSinceMs + queryWaitNotifyMs, nowMs + notifyEveryMs))
  }

  #look(): void {
    const { settings, context } = this.#pool
    if (settings === null) return
    const nowMs = context.io.nowMs()
    this.#expire(settings, nowMs)
    this.#tell(settings, nowMs)
    this.#watch()
  }

  #tell({ queryWaitNotifyMs }: PoolSettings, nowMs: number): void {
    this.#untoldSinceMs = Infinity
    for (const client of this.clients) {
      if (client.notified) continue
      if (queryWaitNotifyMs === 0 || client.waitingSinceMs + queryWaitNotifyMs > nowMs) {
        this.#untoldSinceMs = client.waitingSinceMs
        return
      }
      client.notify(queuedText)
    }
  }

  #expire({ queryWaitTimeoutMs }: PoolSettings, nowMs: number): void {
    for (const client of this.clients) {
      if (queryWaitTimeoutMs === 0 || client.waitingSinceMs + queryWaitTimeoutMs > nowMs) break
      const { failure } = this.#pool
      if (failure === null) client.fatal(sqlstates.too_many_connections, 'query_wait_timeout')
      else client.fatal(failure.sqlstate, failingText(failure.message))
    }
  }
}

/** PgBouncer's text, with the server's own SQLSTATE. */
function failingText(message: string): string {
  return `server login has been failing, cached error: ${message} (server_login_retry)`
}

const queuedText = 'No server connection available in postgres backend, client being queued'
