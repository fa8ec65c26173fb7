import assert from 'node:assert/strict'
import { generalSettings } from '../../shared/config/settings.ts'
import { IoError } from '../io/io.ts'
import type { Io, Listener, Socket, SocketEvents, TcpOptions, Timer, TlsOptions } from '../io/io.ts'
import { KeyCounts } from '../memory/key-counts.ts'
import { SchemaChanges } from '../memory/schema-changes.ts'
import { authQuerySnapshots } from './auth/auth-query.ts'
import { FailedLogins } from './auth/failed-logins.ts'
import { Cancels } from './cancel/cancel.ts'
import type { EngineConsole } from './console.ts'
import type { Context } from './pool/context.ts'
import { Limits } from './pool/limits.ts'
import { Login } from './login.ts'
import { snapshotsOf } from './snapshot.ts'
import { Shutdown } from './shutdown.ts'
import type { FromEngine, ListenOn, ProcessStart, ToEngine } from '../port.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { AccessRules, FleetSpec, UnpreparedPool } from '../spec.ts'
import type { Workers } from './workers/workers.ts'
import { Peers } from './cancel/peers.ts'
import type { Pool } from './pool/pool.ts'
import { Pools } from './pool/pools.ts'
import type { ServerSource } from './pool/server-source.ts'
import { Preflight } from './preflight/preflight.ts'
import { Refusals } from './refusals.ts'
import { ProcessCounts } from './workers/process-counts.ts'
import { StatementMemory } from './session/statement-memory.ts'
import { TlsContexts } from './wire/tls.ts'
import type { TlsHold } from './wire/tls.ts'

export interface EngineOptions {
  readonly listen: ListenOn
  /** The other workers of the process, if any. */
  readonly workers?: Workers
  /** Creates the console; without it, operators are not served. */
  readonly console?: (engine: Engine) => EngineConsole
  /** What outlives this engine; absent if nothing does. */
  readonly process?: ProcessStart & {
    /** Converts this thread's clock to that of the process. */
    readonly clockOffsetMs: number
  }
}

const maintainEveryMs = 1000
const mib = 1024 * 1024

/**
 * One loop's clients, servers and pools: connections come from the listener, messages from the agent by `receive`,
 * answers and events go to it by `post`. It knows nothing of threads or epoll.
 */
export class Engine {
  readonly context: Context
  readonly pools: Pools
  readonly logins = new Set<Login>()
  readonly console: EngineConsole | null
  access: AccessRules = noRules
  /** Pools of the running version that could not be prepared. */
  unprepared: readonly UnpreparedPool[] = []
  readonly failedLogins: FailedLogins
  readonly refused: Record<string, number> = {}
  /** TLS context for clients; null without TLS. */
  clientTls: TlsHold | null = null
  readonly #listener: Listener
  readonly #unixListener: Listener | null = null
  /** Opened beside the listeners, and closed later. */
  readonly #cancelSocket: Listener | null = null
  readonly #cancelSocketHost: string | null = null
  readonly #timers = new Set<Timer>()
  #nextId: number
  readonly #awaited = new Set<{ readonly condition: () => boolean; readonly done: () => void }>()
  #looking: Timer | null = null
  /** The version that is tried before it is applied. */
  #preflight: Preflight | null = null
  readonly #shutdown = new Shutdown(this)

  constructor(io: Io, options: EngineOptions, post: (message: FromEngine) => void) {
    this.#nextId = options.workers === undefined ? 1 : options.workers.self + options.workers.count
    const {
      mockKey = randomKey(io),
      failedLogins = KeyCounts.memory(),
      schemaChanges = SchemaChanges.memory(),
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
      schemaChanges: new SchemaChanges(schemaChanges),
      statementMemory: new StatementMemory(() => this.context.general.preparedStatementMemoryMib * mib),
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
    this.#every(maintainEveryMs, () => this.#maintain())
  }

  #maintain(): void {
    const nowMs = this.context.io.nowMs()
    this.console?.observe(nowMs)
    this.context.refusals.maintain(nowMs)
    if (!this.context.suspended) this.pools.maintain()
  }

  /** The actual listening port. */
  get port(): number {
    return this.#listener.port
  }

  /** Whether this connection came to the cancel socket. */
  cameByCancelSocket(socket: Socket): boolean {
    return socket.remote.host === this.#cancelSocketHost
  }

  receive(message: ToEngine): void {
    switch (message.type) {
      case 'apply':
        this.#apply(message.id, message.spec, message.force)
        return
      case 'preflight':
        this.#try(message)
        return
      case 'preflight_over':
        this.#endPreflight()
        return
      case 'addresses':
        this.pools.readdress(message.hosts)
        return
      case 'tls':
        this.#offerTls(message.update.clientTls)
        this.pools.secure(message.update.pools)
        return
      case 'peers':
        if (message.update !== null) this.context.cancels.useNumber(message.update.number)
        this.context.peers.update(message.update)
        return
      case 'handed':
        throw new Error('a handed connection is taken over before this switch')
      case 'stop':
        this.#shutdown.start(message.mode, message.timeoutMs)
        return
      default:
        this.console?.receive(message)
    }
  }

  #try({ id, spec, rule, atOnce }: ToEngine & { readonly type: 'preflight' }): void {
    this.#endPreflight()
    this.#preflight = new Preflight(this.context, this.pools, {
      spec,
      rule,
      atOnce,
      done: (outcome) => this.context.post({ type: 'preflighted', id, outcome }),
    })
  }

  #endPreflight(): void {
    this.#preflight?.end()
    this.#preflight = null
  }

  #apply(id: number, spec: FleetSpec, force: boolean): void {
    const isFirst = this.pools.running === null
    const outcome = this.pools.apply(spec, force)
    this.#endPreflight()
    if (outcome.applied) {
      this.context.general = spec.general
      this.#offerTls(spec.clientTls)
      this.access = spec.access ?? noRules
      this.unprepared = spec.unprepared ?? []
      this.console?.applied(spec, isFirst)
      if (isFirst) {
        this.context.counts?.begin()
        for (const login of this.logins) login.configured()
      }
    }
    this.context.post({ type: 'applied', id, outcome })
  }

  /** For new connections. */
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

  /** A connection accepted by another worker; its startup packet comes again. */
  adopt(socket: Socket, placedLife: number | null): SocketEvents {
    socket.setTcpOptions(this.#clientTcpOptions())
    return new Login(this, socket, this.newId(), { placedLife })
  }

  /**
   * Calls `done`, in another turn of the loop, when `condition` holds; it is checked when a server has closed or the
   * state of a database has changed.
   */
  when(condition: () => boolean, done: () => void): void {
    this.#awaited.add({ condition, done })
    this.#serverEnded()
  }

  /** Another worker has changed the shared counters. */
  lookAround(): void {
    this.context.limits.lookAround()
  }

  /** Conditions of `when` may hold now. */
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

  /** The listener is closed: other workers may have exited, so connections here stay here. */
  get closed(): boolean {
    return this.#shutdown.closed
  }

  get ended(): boolean {
    return this.#shutdown.ended
  }

  closeListeners(): void {
    this.#listener.close()
    this.#unixListener?.close()
  }

  /** All clients have been disconnected. */
  close(): void {
    for (const timer of this.#timers) timer.cancel()
    this.#endPreflight()
    this.#cancelSocket?.close()
    this.#awaited.clear()
    this.#looking?.cancel()
    this.pools.close()
    this.pools.authQueries.stop()
    this.#offerTls(undefined)
  }

  snapshot(
    pools: Iterable<Pool> = this.pools.all(),
    sources: Iterable<ServerSource> = this.pools.sources(),
  ): Omit<EngineSnapshot, 'overrides' | 'tables'> {
    return {
      running: this.pools.running,
      clients: this.context.clients.size,
      clientsLogin: this.logins.size,
      loginsDelayed: this.failedLogins.delayed,
      pools: snapshotsOf(pools, sources),
      authQueries: authQuerySnapshots(this.pools.authQueries.sources()),
      refused: { ...this.refused },
    }
  }

  assertInvariants(): void {
    this.pools.assertInvariants()
    const { clients, statementMemory } = this.context
    assert(clients.size > 0 || statementMemory.bytes === 0, 'clients that left keep no prepared statements')
  }
}

const mockKeyBytes = 32

function randomKey(io: Io): Uint8Array {
  const key = new Uint8Array(mockKeyBytes)
  io.random(key)
  return key
}

const noRules: AccessRules = { rules: [], maps: [] }
