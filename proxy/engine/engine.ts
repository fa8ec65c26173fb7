import { generalSettings } from '../../shared/config/settings.ts'
import { sqlstates } from '../../shared/errors.ts'
import { IoError } from '../io/io.ts'
import type { Io, Listener, Socket, SocketEvents, TcpOptions, Timer, TlsOptions } from '../io/io.ts'
import { KeyCounts } from '../memory/key-counts.ts'
import { authQuerySnapshots } from './auth/auth-query.ts'
import { FailedLogins } from './auth/failed-logins.ts'
import { Cancels } from './cancel/cancel.ts'
import type { EngineConsole } from './console.ts'
import { Client } from './pool/client.ts'
import type { Context } from './pool/context.ts'
import { Limits } from './pool/limits.ts'
import { Login } from './login.ts'
import { snapshotOf } from './snapshot.ts'
import { unsuspend } from './suspension.ts'
import type { FromEngine, ListenOn, ProcessStart, StopMode, ToEngine } from '../port.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { AccessRules, FleetSpec } from '../spec.ts'
import type { Workers } from './workers/workers.ts'
import { Peers } from './cancel/peers.ts'
import type { Pool } from './pool/pool.ts'
import { Pools } from './pool/pools.ts'
import { Refusals } from './refusals.ts'
import { ProcessCounts } from './workers/process-counts.ts'
import { TlsContexts } from './wire/tls.ts'
import type { TlsHold } from './wire/tls.ts'

export interface EngineOptions {
  readonly listen: ListenOn
  /** The other workers of the process, if there are any. */
  readonly workers?: Workers
  /** Makes what serves operators; without it, nothing does. */
  readonly console?: (engine: Engine) => EngineConsole
  /** What outlives this engine; without it, there is nothing that does. */
  readonly process?: ProcessStart & {
    /** What to add to this thread's clock to have the one of the process. */
    readonly clockOffsetMs: number
  }
}

const maintainEveryMs = 1000

/** How often a stopping engine looks whether everybody has left. */
const stopCheckMs = 20

/**
 * One loop's clients, servers and pools, wired together: connections come from the listener, messages from the agent by
 * `receive`, answers and events go to it by `post`. It knows nothing of threads or epoll.
 */
export class Engine {
  readonly context: Context
  readonly pools: Pools
  readonly logins = new Set<Login>()
  readonly console: EngineConsole | null
  access: AccessRules = noRules
  readonly failedLogins: FailedLogins
  readonly refused: Record<string, number> = {}
  /** With what clients are offered TLS; null when they are not. */
  clientTls: TlsHold | null = null
  readonly #listener: Listener
  readonly #unixListener: Listener | null = null
  /** Beside the listeners, and open for longer. */
  readonly #cancelSocket: Listener | null = null
  readonly #cancelSocketHost: string | null = null
  readonly #timers = new Set<Timer>()
  #nextId: number
  readonly #awaited = new Set<{ readonly condition: () => boolean; readonly done: () => void }>()
  #looking: Timer | null = null

  constructor(io: Io, options: EngineOptions, post: (message: FromEngine) => void) {
    this.#nextId = options.workers === undefined ? 1 : options.workers.self + options.workers.count
    const {
      mockKey = randomKey(io),
      failedLogins = KeyCounts.memory(),
      clockOffsetMs = 0,
    }: Partial<NonNullable<EngineOptions['process']>> = options.process ?? {}
    const counts = new KeyCounts(failedLogins, options.workers?.self ?? 0)
    this.failedLogins = new FailedLogins(counts, mockKey, clockOffsetMs)
    const waitTimeoutMs = (): number => this.context.general.cancelWaitTimeoutMs
    const tls = new TlsContexts(io)
    const predecessors = options.listen.predecessors ?? []
    const peers = new Peers({ io, post, tls, waitTimeoutMs, tcpOptions: () => this.#clientTcpOptions(), predecessors })
    this.context = {
      io,
      post: (message) => {
        if (message.type === 'disconnect') this.console?.disconnected(message.disconnect)
        post(message)
      },
      cancels: new Cancels(io, waitTimeoutMs, peers, options.workers?.self ?? 0),
      peers,
      workers: options.workers ?? null,
      counts: options.workers === undefined ? null : new ProcessCounts(options.workers),
      tls,
      refusals: new Refusals(post),
      limits: new Limits(
        () => this.pools,
        () => this.context,
      ),
      operated: () => this.console?.operated(),
      serverEnded: () => this.#serverEnded(),
      general: generalSettings({}),
      clients: new Set(),
      mockKey,
      stopping: false,
      suspended: false,
      suspensions: 0,
    }
    this.pools = new Pools(this.context)
    this.console = options.console?.(this) ?? null
    const { unix, cancelSocket } = options.listen
    this.#listener = io.listen(options.listen, (socket) => this.#accept(socket))
    if (unix !== undefined) {
      const address = { host: unix.dir, port: this.#listener.port }
      this.#unixListener = io.listen(address, (socket) => this.#accept(socket), unix.mode)
    }
    let cancelSocketFault: IoError | null = null
    if (cancelSocket !== undefined) {
      this.#cancelSocketHost = cancelSocket.host
      try {
        this.#cancelSocket = io.listen(cancelSocket, (socket) => this.#accept(socket))
      } catch (error) {
        if (!(error instanceof IoError)) throw error
        cancelSocketFault = error
      }
    }
    post({ type: 'listening', host: options.listen.host, port: this.#listener.port })
    // Clients are served without it.
    if (cancelSocketFault !== null) {
      const message = 'cancel requests will not reach the clients of this process after an online restart'
      post({ type: 'log', level: 'error', message, fields: { reason: cancelSocketFault.message } })
    }
    this.#every(maintainEveryMs, () => {
      this.console?.observe(io.nowMs())
      this.context.refusals.maintain(io.nowMs())
      if (!this.context.suspended) this.pools.maintain()
    })
  }

  /** Where it really listens. */
  get port(): number {
    return this.#listener.port
  }

  /** Whether this came in where nothing is taken but cancel requests. */
  cameByCancelSocket(socket: Socket): boolean {
    return socket.remote.host === this.#cancelSocketHost
  }

  receive(message: ToEngine): void {
    switch (message.type) {
      case 'apply':
        this.#apply(message.id, message.spec, message.force)
        return
      case 'addresses':
        this.pools.readdress(message.hosts)
        return
      case 'tls':
        this.#offerTls(message.update.clientTls)
        this.pools.secure(message.update.pools)
        return
      case 'peers':
        if (message.update !== null) this.context.cancels.proxy = message.update.number
        this.context.peers.update(message.update)
        return
      case 'handed':
        throw new Error('a handed connection is taken over before this switch')
      case 'stop':
        this.#stop(message.mode, message.timeoutMs)
        return
      default:
        this.console?.receive(message)
    }
  }

  #apply(id: number, spec: FleetSpec, force: boolean): void {
    const isFirst = this.pools.running === null
    const outcome = this.pools.apply(spec, force)
    if (outcome.applied) {
      this.context.general = spec.general
      this.#offerTls(spec.clientTls)
      this.access = spec.access ?? noRules
      this.console?.applied(spec, isFirst)
      if (isFirst) {
        this.context.counts?.begin()
        for (const login of this.logins) login.configured()
      }
    }
    this.context.post({ type: 'applied', id, outcome })
  }

  /** For those who connect from now on. */
  #offerTls(options: TlsOptions | undefined): void {
    const former = this.clientTls
    this.clientTls = options === undefined ? null : this.context.tls.acquire(options)
    former?.release()
    this.context.peers.secure(options)
  }

  /** An id that no client, console session or request of the process has. */
  newId(): number {
    const id = this.#nextId
    this.#nextId += this.context.workers?.count ?? 1
    return id
  }

  /** Somebody else has accepted it; its startup packet comes again. */
  adopt(socket: Socket, placedLife: number | null): SocketEvents {
    socket.setTcpOptions(this.#clientTcpOptions())
    return new Login(this, socket, this.newId(), { placedLife })
  }

  /**
   * Calls `done`, from another turn of the loop, when `condition` holds; it is looked at whenever a server has ended
   * or the state of a database was changed.
   */
  when(condition: () => boolean, done: () => void): void {
    this.#awaited.add({ condition, done })
    this.#serverEnded()
  }

  /** Another worker has changed what workers hold together. */
  lookAround(): void {
    this.context.limits.lookAround()
  }

  /** Somebody may wait for that. */
  stateChanged(): void {
    this.#serverEnded()
  }

  #serverEnded(): void {
    if (this.#awaited.size === 0 || this.#looking !== null) return
    this.#looking = this.context.io.after(0, () => {
      this.#looking = null
      for (const awaited of this.#awaited) {
        if (!awaited.condition()) continue
        this.#awaited.delete(awaited)
        awaited.done()
      }
    })
  }

  #accept(socket: Socket): SocketEvents {
    socket.setTcpOptions(this.#clientTcpOptions())
    return new Login(this, socket, this.newId())
  }

  #clientTcpOptions(): TcpOptions {
    const { general } = this.context
    return {
      keepaliveIdleMs: general.clientTcpKeepalivesIdleMs,
      keepaliveIntervalMs: general.clientTcpKeepalivesIntervalMs,
      keepaliveCount: general.clientTcpKeepalivesCount,
      userTimeoutMs: general.clientTcpUserTimeoutMs,
    }
  }

  #every(delayMs: number, run: () => void): void {
    const arm = (): void => {
      const timer = this.context.io.after(delayMs, () => {
        this.#timers.delete(timer)
        run()
        arm()
      })
      this.#timers.add(timer)
    }
    arm()
  }

  /** Transactions in flight may finish until the deadline; whoever is between two is sent away now. */
  #stop(mode: StopMode, timeoutMs: number): void {
    const { context } = this
    const ends = mode !== 'clients' && mode !== 'handover'
    const isFirst = ends && !context.stopping
    if (ends) context.stopping = true
    // What is read no more would never end.
    unsuspend(this)
    if (!this.#closed) {
      this.#closed = true
      this.#listener.close()
      this.#unixListener?.close()
      this.context.post({ type: 'unlistened' })
      // With a handover, who has been accepted here is served here.
      if (mode !== 'handover') for (const login of this.logins) login.fatal(sqlstates.cannot_connect_now, shutdownText)
    }
    if (mode === 'handover') this.#moveOff()
    if (isFirst) {
      for (const client of context.clients) {
        if (client instanceof Client) {
          if (client.list !== client.pool.waiting) client.dismissWhenFree()
        } else client.fatal(sqlstates.admin_shutdown, shutdownText)
      }
    }
    const deadlineMs = context.io.nowMs() + (mode === 'now' ? 0 : timeoutMs)
    const check = (): void => {
      if (this.#clientsLeft(mode) && context.io.nowMs() < deadlineMs) context.io.after(stopCheckMs, check)
      else if (mode === 'handover' && this.#clientsLeft(mode)) this.#stop('drain', context.general.shutdownTimeoutMs)
      else this.#end()
    }
    check()
  }

  /** Sends clients that are idle to the process that has taken over, who has been idle for longest first. */
  #moveOff(): void {
    const { context } = this
    const { drainRate } = context.general
    if (context.stopping || this.#ended) return
    const pools = [...this.pools.all()]
    if (drainRate > 0) {
      // Each list is in the order in which its clients became idle.
      const heads = pools.flatMap((pool) => (pool.settings?.poolMode === 'session' ? [] : (pool.idle.head ?? [])))
      const [client] = heads.sort((a, b) => a.idleSinceMs - b.idleSinceMs)
      client?.fatal(sqlstates.admin_shutdown, shutdownText)
    }
    // The other process opens its own: here stay no more than there are clients.
    for (const pool of pools) pool.current?.keepOnly(pool.idle.size + pool.active.size + pool.waiting.size)
    const workers = context.workers?.count ?? 1
    const delayMs = drainRate === 0 ? maintainEveryMs : (1000 / drainRate) * workers
    context.io.after(delayMs, () => this.#moveOff())
  }

  /** Somebody at the console holds up nobody who waits for clients to leave. */
  #clientsLeft(mode: StopMode): boolean {
    const { clients } = this.context
    if (mode !== 'clients' && mode !== 'handover') return clients.size > 0
    return this.logins.size > 0 || [...clients].some((client) => client instanceof Client)
  }

  /** The listener is: other workers may have ended, so whoever is here stays. */
  get closed(): boolean {
    return this.#closed
  }

  #closed = false
  #ended = false

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    // Those who wait go first: a server that closes would be replaced for their sake.
    for (const pool of this.pools.all()) {
      for (const client of pool.waiting) client.fatal(sqlstates.admin_shutdown, shutdownText)
    }
    for (const client of this.context.clients) client.fatal(sqlstates.admin_shutdown, shutdownText)
    for (const timer of this.#timers) timer.cancel()
    this.#cancelSocket?.close()
    this.#awaited.clear()
    this.#looking?.cancel()
    for (const pool of this.pools.all()) pool.close()
    this.pools.authQueries.stop()
    this.#offerTls(undefined)
    this.context.post({ type: 'stopped' })
  }

  get ended(): boolean {
    return this.#ended
  }

  snapshot(pools: Iterable<Pool> = this.pools.all()): Omit<EngineSnapshot, 'overrides' | 'tables'> {
    return {
      running: this.pools.running,
      clients: this.context.clients.size,
      clientsLogin: this.logins.size,
      loginsDelayed: this.failedLogins.delayed,
      pools: [...pools].map(snapshotOf),
      authQueries: authQuerySnapshots(this.pools.authQueries.sources()),
      refused: { ...this.refused },
    }
  }

  assertInvariants(): void {
    this.pools.assertInvariants()
  }
}

const mockKeyBytes = 32

function randomKey(io: Io): Uint8Array {
  const key = new Uint8Array(mockKeyBytes)
  io.random(key)
  return key
}

const noRules: AccessRules = { rules: [], maps: [] }

const shutdownText = 'the proxy is shutting down'
