/** The end of an engine: transactions may finish until a deadline, clients between two are disconnected at once. */
import { sqlstates } from '../../shared/errors.ts'
import type { StopMode } from '../port.ts'
import { Client } from './pool/client.ts'
import type { Context } from './pool/context.ts'
import type { Pools } from './pool/pools.ts'
import { unsuspend } from './suspension.ts'

/** What a shutdown needs of an engine. */
interface Stoppable {
  readonly context: Context
  readonly pools: Pools
  readonly logins: ReadonlySet<{ fatal(sqlstate: string, message: string): void }>
  /** Accepts no further connections. */
  closeListeners(): void
  /** All clients have been disconnected: stops everything else. */
  close(): void
}

/** Interval at which a stopping engine checks whether all clients have left. */
const checkMs = 20

/** Interval at which servers are closed after a handover that disconnects no idle clients. */
const keepOnlyMs = 1000

export class Shutdown {
  readonly #engine: Stoppable
  #closed = false
  #ended = false

  constructor(engine: Stoppable) {
    this.#engine = engine
  }

  /** The listener is closed: other workers may have exited, so connections here stay here. */
  get closed(): boolean {
    return this.#closed
  }

  get ended(): boolean {
    return this.#ended
  }

  start(mode: StopMode, timeoutMs: number): void {
    const { context } = this.#engine
    const ends = mode !== 'clients' && mode !== 'handover'
    const isFirst = ends && !context.stopping
    if (ends) context.stopping = true
    // A connection that is not read would never end.
    unsuspend(this.#engine)
    if (!this.#closed) this.#close(mode)
    if (mode === 'handover') this.#moveOff()
    if (isFirst) this.#dismiss()
    const deadlineMs = context.io.nowMs() + (mode === 'now' ? 0 : timeoutMs)
    const check = (): void => {
      if (this.#clientsLeft(mode) && context.io.nowMs() < deadlineMs) context.io.after(checkMs, check)
      else if (mode === 'handover' && this.#clientsLeft(mode)) this.start('drain', context.general.shutdownTimeoutMs)
      else this.#end()
    }
    check()
  }

  #close(mode: StopMode): void {
    this.#closed = true
    this.#engine.closeListeners()
    this.#engine.context.post({ type: 'unlistened' })
    // With a handover, accepted connections are served here.
    if (mode === 'handover') return
    for (const login of this.#engine.logins) login.fatal(sqlstates.cannot_connect_now, shutdownText)
  }

  /** Clients that wait are served; others leave at the end of their transaction. */
  #dismiss(): void {
    for (const client of this.#engine.context.clients) {
      if (client instanceof Client) {
        if (client.list !== client.pool.waiting) client.dismissWhenFree()
      } else client.fatal(sqlstates.admin_shutdown, shutdownText)
    }
  }

  /** Disconnects idle clients after another process has taken over, those idle for longest first. */
  #moveOff(): void {
    const { context } = this.#engine
    const { drainRate } = context.general
    if (context.stopping || this.#ended) return
    const pools = [...this.#engine.pools.all()]
    if (drainRate > 0) {
      // Each list is in the order in which its clients became idle.
      const heads = pools.flatMap((pool) => (pool.settings?.poolMode === 'session' ? [] : (pool.idle.head ?? [])))
      const [client] = heads.sort((a, b) => a.idleSinceMs - b.idleSinceMs)
      client?.fatal(sqlstates.admin_shutdown, shutdownText)
    }
    // The other process opens its own servers: no more than there are clients stay here.
    for (const { current, pools } of this.#engine.pools.sources()) {
      let clients = 0
      for (const pool of pools) clients += pool.clientCount
      current?.keepOnly(clients)
    }
    const workers = context.workers?.count ?? 1
    const delayMs = drainRate === 0 ? keepOnlyMs : (1000 / drainRate) * workers
    context.io.after(delayMs, () => this.#moveOff())
  }

  /** Console sessions do not delay a wait for clients to leave. */
  #clientsLeft(mode: StopMode): boolean {
    const { clients } = this.#engine.context
    if (mode !== 'clients' && mode !== 'handover') return clients.size > 0
    return this.#engine.logins.size > 0 || [...clients].some((client) => client instanceof Client)
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    const { context, pools } = this.#engine
    // Waiting clients are disconnected first: a closed server would be replaced for them.
    for (const pool of pools.all()) {
      for (const client of pool.waiting) client.fatal(sqlstates.admin_shutdown, shutdownText)
    }
    for (const client of context.clients) client.fatal(sqlstates.admin_shutdown, shutdownText)
    this.#engine.close()
    context.post({ type: 'stopped' })
  }
}

const shutdownText = 'the proxy is shutting down'
