/**
 * Timeouts of a pool's clients. One timer per pool, and none while all timeouts are off: it checks the clients, whose
 * times are kept anyway, and runs again when the next may be due.
 */
import type { PoolSettings } from '../../../shared/config/settings.ts'
import { sqlstates } from '../../../shared/errors.ts'
import type { Cause } from '../../../shared/causes.ts'
import type { Io, Timer } from '../../io/io.ts'
import type { Outstanding } from '../session/outstanding.ts'
import type { Replication } from '../session/replication.ts'
import { TransactionStatus } from '../../protocol/tags.ts'

/** Minimum interval between checks. */
const lookEveryMs = 10

/** A server, as the timeouts see it. */
interface TimedServer {
  readonly replication: Replication | null
  readonly outstanding: Outstanding
  readonly status: number
  readonly lastReceivedMs: number
  readonly requestedAtMs: number
}

interface TimedClient {
  readonly server: TimedServer | null
  readonly queryBeganMs: number
  readonly transactionBeganMs: number
  readonly idleSinceMs: number
  readonly midMessage: boolean
  fatal(sqlstate: string, message: string, cause?: Cause): void
}

/** A pool, as the timeouts see it. */
interface TimedPool {
  readonly context: { readonly io: Io }
  readonly settings: PoolSettings | null
  readonly active: Iterable<TimedClient>
  readonly idle: Iterable<TimedClient>
}

export class ClientTimeouts {
  readonly #pool: TimedPool
  #timer: Timer | null = null

  constructor(pool: TimedPool) {
    this.#pool = pool
  }

  /** The pool has other settings, or none. */
  retuned(): void {
    this.close()
    const { settings } = this.#pool
    if (settings !== null && shortestMs(settings) > 0) this.#look(settings)
  }

  close(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  #look(settings: PoolSettings): void {
    const { io } = this.#pool.context
    const nowMs = io.nowMs()
    // A client that begins something after this check cannot be due earlier.
    let dueMs = nowMs + shortestMs(settings)
    for (const client of this.#pool.active) dueMs = Math.min(dueMs, active(client, settings, nowMs))
    if (settings.clientIdleTimeoutMs > 0) {
      for (const client of this.#pool.idle) {
        const clientDueMs = client.idleSinceMs + settings.clientIdleTimeoutMs
        dueMs = Math.min(dueMs, clientDueMs)
        // Clients behind it have been idle for less time.
        if (clientDueMs > nowMs) break
        client.fatal(sqlstates.idle_session_timeout, 'client_idle_timeout')
      }
    }
    this.#timer = io.after(Math.max(lookEveryMs, dueMs - nowMs), () => {
      this.#timer = null
      const now = this.#pool.settings
      if (now !== null) this.#look(now)
    })
  }
}

/** Time at which this client is next due; one that is due is disconnected. */
function active(client: TimedClient, settings: PoolSettings, nowMs: number): number {
  const { server, queryBeganMs, transactionBeganMs } = client
  // Streaming replication is no long query.
  if (server === null || server.replication !== null) return Infinity
  let dueMs = Infinity
  const isDue = (sinceMs: number, timeoutMs: number): boolean => {
    if (timeoutMs === 0 || sinceMs === 0) return false
    dueMs = Math.min(dueMs, sinceMs + timeoutMs)
    return sinceMs + timeoutMs <= nowMs
  }
  const rests = server.outstanding.empty && !client.midMessage
  if (isDue(queryBeganMs, settings.queryTimeoutMs)) {
    client.fatal(sqlstates.query_canceled, 'query timeout', 'query_timeout')
  } else if (
    rests &&
    server.status !== TransactionStatus.Idle &&
    isDue(server.lastReceivedMs, settings.idleTransactionTimeoutMs)
  ) {
    const sqlstate = sqlstates.idle_in_transaction_session_timeout
    client.fatal(sqlstate, 'idle transaction timeout', 'transaction_timeout')
  } else if (isDue(transactionBeganMs, settings.transactionTimeoutMs)) {
    client.fatal(sqlstates.transaction_timeout, 'transaction timeout', 'transaction_timeout')
  } else if (
    rests &&
    server.status === TransactionStatus.Idle &&
    isDue(Math.max(server.lastReceivedMs, server.requestedAtMs), settings.clientIdleTimeoutMs)
  ) {
    // It has a server to itself: in session mode, or with a partial request.
    client.fatal(sqlstates.idle_session_timeout, 'client_idle_timeout')
  }
  return dueMs
}

/** 0 if all of them are off. */
function shortestMs(settings: PoolSettings): number {
  const { queryTimeoutMs, transactionTimeoutMs, idleTransactionTimeoutMs, clientIdleTimeoutMs } = settings
  const on = [queryTimeoutMs, transactionTimeoutMs, idleTransactionTimeoutMs, clientIdleTimeoutMs].filter(
    (ms) => ms > 0,
  )
  return on.length === 0 ? 0 : Math.min(...on)
}
