import { randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'
import { causes } from '../../shared/causes.ts'
import { bodyFormats } from '../../shared/config/formats.ts'
import { ourKeys } from '../../shared/config/known-keys.ts'
import { generalKeys, type GeneralKey } from '../../shared/config/keys.ts'
import type { EngineDisconnect } from '../../shared/disconnect.ts'
import type {
  Hint,
  HelloRequest,
  HelloResponse,
  Manifest,
  OperationOutcome,
  OperationRequest,
} from '../../shared/wire.ts'
import type { StopMode } from '../port.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { FleetSpec } from '../spec.ts'
import { Applier, type Candidate } from './applier.ts'
import { Backoff } from './backoff.ts'
import type { Chance, Waits } from './clock.ts'
import { ConfigFile } from './config-file.ts'
import { ControlClient } from './control-client.ts'
import type { Contact } from './control-client.ts'
import { ControlSource } from './control-source.ts'
import { EngineDied } from './engine-thread.ts'
import { Workers } from './workers.ts'
import { cancelSocketsOf, type CancelSockets } from './restart/cancel-sockets.ts'
import { DrainOutbox, DrainReader } from './restart/drain-outbox.ts'
import { Handover, takeOver, type Taken } from './restart/handover.ts'
import { inherit, type OpenListeners } from './restart/listeners.ts'
import { eventOf } from './event.ts'
import { ApplyError } from './failure.ts'
import { HttpServer } from './http.ts'
import { reasonOf, type Log } from './log.ts'
import { signatureToleranceS } from './hint.ts'
import { Metrics } from './metrics.ts'
import type { Offer } from './offer.ts'
import { ControlClock } from './orders/control-clock.ts'
import { OrderFile } from './orders/order-file.ts'
import { Orders } from './orders/orders.ts'
import { Outbox, outboxEventsMax } from './outbox.ts'
import { Passwords } from './password.ts'
import { peerAddress, Peers } from './peers.ts'
import { processSettings, tryProcessSettings, writtenProcessSettings } from './process-settings.ts'
import type { ProcessSettings } from './process-settings.ts'
import { Problems } from './problems.ts'
import { ReportedState } from './reported-state.ts'
import { Reports } from './reports.ts'
import { Resolver, type Lookup } from './resolver.ts'
import { Secrets } from './secrets.ts'
import { mockKeyBytes, StateFolder } from './state.ts'
import { Sync } from './sync.ts'
import { TlsWatch } from './tls-files.ts'

/** Where versions come from. */
export type SourceSettings =
  | {
      readonly kind: 'control'
      readonly url: string
      readonly fleet: string
      readonly token: string
      /** Directory of last-known-good, proxy id and outbox. */
      readonly stateFolder: string
      /** Null: generated at the first start and kept in the state directory. */
      readonly proxyId: string | null
    }
  | {
      readonly kind: 'file'
      readonly path: string
      /** Directory of the mock secret; without it, each process has a secret of its own. */
      readonly stateFolder?: string
    }

export interface AgentSettings {
  readonly source: SourceSettings
  /** Null where the configuration decides. Port 0 chooses a free one. */
  readonly listen: { readonly host: string | null; readonly port: number | null }
  /** Unix socket over which the next process takes over the listener; null disables this. */
  readonly takeover: string | null
  /** Null where the configuration decides. */
  readonly workers: number | null
  /** Whether the engine may use io_uring. */
  readonly ioUring: boolean
  /** Address for hints, health and metrics. */
  readonly http: { readonly host: string; readonly port: number }
  /** Token for operators who call this proxy over `http`; null disables these calls. */
  readonly httpToken: string | null
  /** Where control reaches `http`; null if it cannot. */
  readonly hintUrl: string | null
  /** Where other proxies reach this one; null to derive it from the other addresses. */
  readonly peerHost: string | null
  readonly region: string | null
  /** Version of Flotilla. */
  readonly version: string
  /** For passwords that refer to environment variables. */
  readonly environment: Readonly<Record<string, string | undefined>>
}

export interface AgentTools {
  readonly log: Log
  readonly chance: Chance
  readonly waits: Waits
  readonly lookup: Lookup
  /** Module of the engine's thread. */
  readonly engineEntry: URL
}

const emptySnapshot: EngineSnapshot = {
  running: null,
  clients: 0,
  clientsLogin: 0,
  loginsDelayed: 0,
  pools: [],
  authQueries: [],
  refused: {},
  overrides: [],
}

const bootBytes = 8
/** 24 days: the maximum of a timer. */
const noDeadlineMs = 2 ** 31 - 1
const idBytes = 4
/** Interval of attempts to take back what was handed over. */
const takeBackMs = 500
/** The last report must not delay the exit for long. */
const lastReportMs = 2000

/** Parts of a proxy that has a control plane. */
interface Fleet {
  readonly source: SourceSettings & { readonly kind: 'control' }
  readonly proxyId: string
  readonly folder: StateFolder
  readonly control: ControlClient
  readonly candidates: ControlSource
  readonly outbox: Outbox
  readonly drainReader: DrainReader
  readonly sync: Sync
  readonly reports: Reports
  readonly peers: Peers
}

/**
 * The main thread of a proxy. Connects the parts: a source of versions (control or a file) → applier → engine; events
 * of the engine → outbox, reports, metrics, log.
 */
export class Agent {
  readonly #settings: AgentSettings
  readonly #tools: AgentTools
  /** Random at every start, so that control can tell a restarted proxy from a repeated report. */
  #boot = randomBytes(bootBytes).toString('hex')
  /** The process that had the state directory before; null if unknown. It has ended, or handed over. */
  #formerBoot: string | null = null
  /**
   * Mock secret: the fleet's, sent by control and kept in the state directory; otherwise the state directory's or this
   * process's own.
   */
  #mockKey: Uint8Array = randomBytes(mockKeyBytes)
  /** Once used, it stays for this process: with another one, salts of unknown users would change. */
  #mockKeyInUse: Uint8Array | undefined
  readonly #engine: Workers
  readonly #resolver: Resolver
  readonly #secrets: Secrets
  readonly #tlsWatch: TlsWatch
  readonly #applier: Applier
  readonly #controlClock: ControlClock
  readonly #orders: Orders
  #orderFile: OrderFile | null = null
  /** Serves what ran last, once; until then control may answer with orders that it must obey from the first moment. */
  #startWithLast: (() => void) | null = null
  readonly #metrics = new Metrics()
  readonly #problems: Problems
  readonly #reported: ReportedState
  /** Saves the running version, if that has failed. */
  #unsaved: (() => Promise<void>) | undefined
  readonly #http: HttpServer
  readonly #ended = Promise.withResolvers<string | null>()
  #fleet: Fleet | undefined
  /** For events while the outbox belongs to another process. */
  #drainOutbox: DrainOutbox | undefined
  #file: ConfigFile | undefined
  #hintSecret: string | null = null
  #httpPort = 0
  #eventCount = 0
  /** Process settings of the version that the engine was started with. */
  #startedWith: FleetSpec['generalValues'] | undefined
  /** Process settings with which the engine listens. */
  #worked: ProcessSettings | undefined
  #stopping: Promise<void> | undefined
  /** What the former process handed over, until this process serves clients. */
  #taken: Taken | null = null
  /** Aborts the request to that process. */
  readonly #asking = new AbortController()
  #cancelSockets: CancelSockets | null = null
  #handover: Handover | undefined
  /** Another process has what only one process can have. */
  #isHandedOver = false
  /** Why the proxy stops, unless it was told to. */
  #failure: string | null = null

  constructor(settings: AgentSettings, tools: AgentTools) {
    const { log, chance, waits } = tools
    this.#settings = settings
    this.#tools = tools
    this.#problems = new Problems(chance.now, () => this.#fleet?.reports.edge())
    this.#engine = this.#createWorkers()
    this.#resolver = new Resolver({
      lookup: tools.lookup,
      timeoutMs: waits.lookupTimeoutMs,
      log,
      onChange: (hosts) => {
        log('info', 'server names resolve to different addresses', { hosts: JSON.stringify(hosts) })
        this.#engine.addresses(hosts)
      },
    })
    this.#tlsWatch = new TlsWatch({
      everyMs: waits.tlsFilesMs,
      log,
      running: () => this.#engine.running,
      onChange: (update) => this.#engine.tls(update),
      onChecked: (fault) => this.#problems.set('unreadable_file', 'tls', fault),
    })
    this.#secrets = new Secrets(
      settings.environment,
      settings.source.kind === 'file' ? null : async (ref) => await this.#requireFleet().control.secret(ref),
    )
    this.#applier = new Applier({
      engine: this.#engine,
      tools: { resolver: this.#resolver, secrets: this.#secrets, passwords: new Passwords(() => this.#useMockKey()) },
      backoff: new Backoff({ firstMs: waits.backoffFirstMs, maxMs: waits.backoffMaxMs, random: chance.random }),
      log,
      startEngine: async (spec) => await this.#startEngine(spec),
      tryProcess: async (spec) => await this.#tryProcess(spec),
      onApplied: async (offer, isWhole) => await this.#applied(offer, isWhole),
      onTrying: () => this.#fleet?.sync.goOn(),
      onEdge: () => this.#fleet?.reports.edge(),
    })
    this.#controlClock = new ControlClock(() => chance.now().getTime())
    this.#orders = this.#createOrders()
    this.#reported = new ReportedState({
      applier: this.#applier,
      engine: this.#engine,
      snapshot: async () => await this.#snapshot(),
      needsRestart: () => this.#needsRestart(),
      problems: this.#problems,
      orders: () => this.#orders.inForce,
      now: chance.now,
    })
    this.#http = this.#createHttp()
  }

  #createOrders(): Orders {
    return new Orders({
      carryOut: async (changes) => await this.#engine.carryOut(changes),
      running: () => this.#applier.applied,
      nowMs: () => this.#controlClock.nowMs,
      file: () => (this.#isHandedOver ? null : this.#orderFile),
      followMs: this.#tools.waits.drainsMs,
      log: this.#tools.log,
      onEdge: () => this.#fleet?.reports.edge(),
    })
  }

  #createWorkers(): Workers {
    const { log, chance, waits, engineEntry } = this.#tools
    return new Workers({
      entry: engineEntry,
      answerMs: waits.engineAnswerMs,
      ioUring: this.#settings.ioUring,
      log,
      chance,
      onDisconnect: (disconnect) => this.#disconnected(disconnect),
      onReload: (id) => void this.reload().then((error) => this.#engine.reloaded(id, error)),
      // Without control there is no fleet.
      onPeers: () => (this.#fleet === undefined ? this.#engine.peers(null) : this.#fleet.peers.wanted()),
      onShutdown: (mode) => void this.#shutDown(mode),
      onListening: ({ host, port, unix }) =>
        log('info', 'listening for clients', { host, port, unix_socket_dir: unix?.dir ?? null }),
      onRestart: () => this.#fleet?.reports.edge(),
      onOperated: () => this.#fleet?.reports.edge(),
      mockKey: () => this.#useMockKey(),
    })
  }

  #createHttp(): HttpServer {
    const { log, chance } = this.#tools
    const { source, httpToken } = this.#settings
    return new HttpServer({
      log,
      now: chance.now,
      fleet: source.kind === 'control' ? source.fleet : null,
      hintSecret: () => this.#hintSecret,
      onHint: (hint) => void this.#hinted(hint),
      onControlOperation: async (request) => await this.#ordered(request),
      token: httpToken,
      onOperation: async (operation, pool) => {
        log('info', 'operation received over HTTP', { operation, pool })
        return await this.#engine.operate(operation, pool)
      },
      onReload: async () => {
        log('info', 'reload requested over HTTP')
        return await this.reload()
      },
      notReady: () => this.#notReady(),
      notes: async () => await this.#reported.notes(),
      metrics: async () => ({ contentType: this.#metrics.contentType, page: await this.#metricsPage() }),
    })
  }

  /** Resolves when the proxy has stopped: with null if it was told to, otherwise with the reason. */
  get ended(): Promise<string | null> {
    return this.#ended.promise
  }

  /** Port of hints, health and metrics. */
  get httpPort(): number {
    return this.#httpPort
  }

  /** Address for clients; undefined until the first version is applied. */
  get clientAddress(): { readonly host: string; readonly port: number } | undefined {
    return this.#engine.address
  }

  /** Why the proxy is not ready for clients; null if it is. */
  get notReady(): string | null {
    return this.#notReady()
  }

  /**
   * Resolves when HTTP is available and control is being polled, or the file was applied. Rejects with an error for the
   * operator if the proxy cannot start.
   */
  async start(): Promise<void> {
    const { source, http, takeover } = this.#settings
    try {
      if (takeover !== null) {
        this.#findDoors(takeover)
        await this.#takeOver(takeover)
        if (this.#stopping !== undefined) return
      }
      if (source.kind === 'control') this.#fleet = await this.#openFleet(source)
      this.#httpPort = await this.#http.listen(http)
      this.#tools.log('info', 'starting', {
        version: this.#settings.version,
        boot: this.#boot,
        proxy: this.#fleet?.proxyId ?? null,
        fleet: source.kind === 'control' ? source.fleet : null,
        http_host: http.host,
        http_port: this.#httpPort,
      })
      this.#tlsWatch.start()
      if (source.kind === 'file') await this.#startFromFile(source)
      else await this.#startFleet(this.#requireFleet())
    } catch (error) {
      await this.stop('now')
      throw error
    }
  }

  /**
   * Polls control, or reads the file, now. Resolves with null if the desired version runs, otherwise with the reason.
   */
  async reload(): Promise<string | null> {
    const unusable = await this.#tlsWatch.check()
    if (this.#file !== undefined) return (await this.#file.reload()) ?? unusable
    const fleet = this.#fleet
    if (fleet === undefined) return 'the proxy is starting'
    const error = await fleet.sync.pollNow()
    fleet.reports.edge()
    return error ?? unusable
  }

  async #ordered({ operation, pool, order }: OperationRequest): Promise<OperationOutcome> {
    this.#tools.log('info', 'operation received from control', { operation, pool, number: order?.number ?? null })
    if (order === undefined) return await this.#engine.operate(operation, pool)
    const { epoch, ...rest } = order
    const taken = await this.#orders.takeOne(epoch, { operation, pool, ...rest })
    return { ...(await this.#outcomeOf(operation, pool, taken === 'taken')), order: taken }
  }

  /** Where no thread runs there is no server to wait for, and the next one starts with the fleet's orders. */
  async #outcomeOf(operation: OperationRequest['operation'], pool: string, acts: boolean): Promise<OperationOutcome> {
    try {
      return await this.#engine.operate(operation, pool, acts)
    } catch (error) {
      if (!(error instanceof EngineDied)) throw error
      const isPaused = this.#orders.inForce.some((order) => order.pool === pool && order.effect === 'paused')
      return { known: true, paused: isPaused, servers: 0 }
    }
  }

  /** PAUSE or RESUME of all databases. False if it had no effect; rejects if no engine runs. */
  async operateAll(operation: 'pause' | 'resume'): Promise<boolean> {
    return await this.#engine.operateAll(operation)
  }

  /**
   * `drain` lets transactions finish within `shutdown_timeout`; `now` ends everything, including a drain in progress.
   */
  async stop(mode: 'drain' | 'now'): Promise<void> {
    const timeoutMs = mode === 'drain' ? (this.#engine.running?.general.shutdownTimeoutMs ?? 0) : 0
    if (this.#stopping === undefined) this.#stopping = this.#stop(mode, timeoutMs)
    else await this.#engine.stop(mode, timeoutMs)
    await this.#stopping
  }

  /** SHUTDOWN at the console has no deadline; a signal sets one. */
  async #shutDown(mode: StopMode): Promise<void> {
    if (mode === 'now') await this.stop('now')
    else await (this.#stopping ??= this.#stop(mode, noDeadlineMs))
  }

  // Online restart

  #findDoors(takeover: string): void {
    try {
      this.#cancelSockets = cancelSocketsOf(takeover)
    } catch (error) {
      const fields = { path: takeover, reason: reasonOf(error) }
      this.#tools.log(
        'error',
        'cancel requests will not reach the clients of this process after an online restart',
        fields,
      )
    }
  }

  async #takeOver(path: string): Promise<void> {
    this.#taken = await takeOver(path, this.#asking.signal)
    if (this.#taken === null) return
    const { host, port, unix } = this.#taken.listeners
    const fields = { host, port, unix_socket_dir: unix?.dir ?? null }
    this.#tools.log('info', 'took over the listener of the running process', fields)
    this.#taken.onLost(() => this.#fatal('the running process timed out and continues'))
  }

  /** The first version runs: this process serves clients, and another one can take over from it. */
  async #serving(): Promise<void> {
    const { takeover } = this.#settings
    const taken = this.#taken
    this.#taken = null
    taken?.ready()
    if (taken !== null) this.#engine.listeners?.succeed(taken.listeners)
    if (takeover === null || this.#handover !== undefined || this.#stopping !== undefined) return
    const handover = new Handover({
      path: takeover,
      log: this.#tools.log,
      handOver: async () => await this.#handOver(),
      done: () => void this.#retire(),
      takeBack: async () => await this.#takeBack(),
    })
    this.#handover = handover
    try {
      await handover.listen()
    } catch (error) {
      this.#tools.log('error', 'online restart is not available', { path: takeover, reason: reasonOf(error) })
    }
  }

  /** Gives up state directory, HTTP and control to the next process; clients are still served. */
  async #handOver(): Promise<OpenListeners | null> {
    const { listeners } = this.#engine
    const open = listeners?.open
    if (listeners === undefined || open === undefined || this.#stopping !== undefined) return null
    this.#isHandedOver = true
    listeners.disownFile()
    await this.#openDrainOutbox()
    await this.#closeFleet()
    await this.#http.close()
    if (this.#orderFile !== null) this.#orders.follow(this.#orderFile)
    return open
  }

  async #openDrainOutbox(): Promise<void> {
    const { source } = this.#settings
    const { log } = this.#tools
    if (source.kind !== 'control') return
    try {
      this.#drainOutbox = await DrainOutbox.open(source.stateFolder, this.#boot, log)
    } catch (error) {
      log('error', 'disconnect events will not reach control from now on', { reason: reasonOf(error) })
    }
  }

  async #closeDrainOutbox(): Promise<void> {
    const outbox = this.#drainOutbox
    this.#drainOutbox = undefined
    await outbox?.close()
  }

  async #takeBack(): Promise<void> {
    const { source, http } = this.#settings
    // Control knows the reports of the former boot; this is a new one.
    this.#boot = randomBytes(bootBytes).toString('hex')
    while (this.#stopping === undefined) {
      try {
        if (source.kind === 'control') this.#fleet = await this.#openFleet(source)
        this.#httpPort = await this.#http.listen({ ...http, port: this.#httpPort })
        break
      } catch (error) {
        await this.#closeFleet()
        this.#tools.log('warn', 'could not take back what was handed over, retrying', { reason: reasonOf(error) })
        await sleep(takeBackMs)
      }
    }
    this.#isHandedOver = false
    this.#orders.unfollow()
    this.#engine.listeners?.ownFile()
    await this.#fleet?.peers.start()
    this.#fleet?.reports.start()
    this.#fleet?.drainReader.start()
    void this.#fleet?.sync.run()
    await this.#closeDrainOutbox()
  }

  /** Another process serves clients: disconnect the clients of this one gradually. */
  async #retire(): Promise<void> {
    const timeoutMs = this.#engine.running?.general.drainTimeoutMs ?? 0
    await (this.#stopping ??= this.#stop('handover', timeoutMs))
  }

  async #stop(mode: StopMode, timeoutMs: number): Promise<void> {
    this.#tools.log('info', 'stopping', { mode, timeout_ms: timeoutMs })
    this.#asking.abort()
    void this.#handover?.close()
    this.#fleet?.sync.stop()
    this.#fleet?.peers.stop()
    this.#resolver.stop()
    this.#tlsWatch.stop()
    this.#startWithLast = null
    await this.#engine.stop(mode, timeoutMs)
    await this.#close()
    this.#tools.log('info', 'stopped')
    this.#ended.resolve(this.#failure)
  }

  async #close(): Promise<void> {
    await this.#closeFleet()
    await this.#closeDrainOutbox()
    await this.#applier.stop()
    await this.#orders.stop()
    this.#engine.close()
    await this.#http.close()
    this.#taken?.giveUp()
  }

  /** Ends communication with control and frees the state directory. */
  async #closeFleet(): Promise<void> {
    const fleet = this.#fleet
    if (fleet === undefined) return
    this.#unsaved = undefined
    fleet.sync.stop()
    fleet.peers.stop()
    await fleet.drainReader.stop()
    const limit = setTimeout(() => void fleet.control.close(), lastReportMs)
    await fleet.reports.stop()
    clearTimeout(limit)
    this.#fleet = undefined
    await fleet.control.close()
    await fleet.outbox.close()
    await fleet.folder.close()
  }

  async #startFromFile({ path, stateFolder }: SourceSettings & { readonly kind: 'file' }): Promise<void> {
    if (stateFolder !== undefined) await this.#readMockKey(stateFolder)
    this.#file = new ConfigFile(path, this.#applier, this.#tools.log)
    const refused = await this.#file.reload()
    // A name may become resolvable; anything else is an error in the file, reported at once if no pool can be served.
    const isServing = this.#engine.running !== undefined
    if (refused !== null && !isServing && this.#applier.error?.code !== 'unresolvable_host') throw new Error(refused)
  }

  async #readMockKey(stateFolder: string): Promise<void> {
    const { log } = this.#tools
    try {
      const folder = await StateFolder.open(stateFolder, log)
      this.#mockKey = await folder.mockKey(() => this.#mockKey)
      await folder.close()
    } catch (error) {
      log('warn', 'salts of unknown users will change at the next start', { reason: reasonOf(error) })
    }
  }

  async #startFleet(fleet: Fleet): Promise<void> {
    const { source, folder, candidates, sync, reports, peers, drainReader } = fleet
    const good = await folder.readLastKnownGood(source.fleet, source.token)
    const orders = await this.#orderFile?.read()
    if (orders !== undefined) await this.#orders.takeKept(orders)
    if (good !== undefined) {
      this.#secrets.remember(good.secrets)
      this.#resolver.remember(good.addresses)
      sync.startFrom(good.etag)
      const { epoch, operations } = good.manifest
      if (operations !== undefined) await this.#orders.takeAll(epoch, operations)
      // Not awaited: control is polled at the same time, and may have a newer version, or this one undamaged. Its first
      // answer comes first, for it may tell that a pool is paused.
      this.#startWithLast = () => void this.#applyLastKnownGood(candidates.lastKnownGood(good), sync)
      setTimeout(() => this.#startedWithLast(), this.#tools.waits.firstAnswerMs).unref()
    }
    await peers.start()
    reports.start()
    void sync.run()
    drainReader.start()
  }

  async #applyLastKnownGood(candidate: Candidate, sync: Sync): Promise<void> {
    const refused = await this.#applier.apply(candidate)
    if (refused !== null) sync.startOver()
  }

  #startedWithLast(): void {
    this.#startWithLast?.()
    this.#startWithLast = null
  }

  /** The fleet's orders come before the version that is offered with them. */
  async #heard(manifest: Manifest | null): Promise<void> {
    if (manifest?.operations !== undefined) await this.#orders.takeAll(manifest.epoch, manifest.operations)
    this.#startedWithLast()
  }

  async #openFleet(source: Fleet['source']): Promise<Fleet> {
    const { log, chance, waits } = this.#tools
    const folder = await StateFolder.open(source.stateFolder, log)
    this.#mockKey = await folder.mockKey(() => this.#mockKey)
    const proxyId = source.proxyId ?? (await folder.proxyId(() => `proxy-${randomBytes(idBytes).toString('hex')}`))
    const former = await folder.exchangeBoot(this.#boot, (fault) => this.#noteWritten('boot', fault))
    this.#formerBoot = former ?? this.#formerBoot
    const outbox = await Outbox.open({
      path: folder.outboxPath,
      eventsMax: outboxEventsMax,
      log,
      onWritten: (fault) => this.#noteWritten('outbox.log', fault),
    })
    const control = this.#controlClient(source, proxyId)
    this.#orderFile = new OrderFile(source.stateFolder, source.fleet, log)
    const candidates = new ControlSource(control, () => this.#secrets.forget())
    const sync = new Sync({
      control,
      applier: this.#applier,
      hello: () => this.#hello(),
      onHello: (answer) => this.#greeted(answer),
      onAsked: () => this.#fleet?.reports.edge(),
      onHeard: async (manifest) => await this.#heard(manifest),
      // A proxy whose token was revoked takes no hints and operations, until control greets it again.
      onForbidden: () => (this.#hintSecret = null),
      candidate: (manifest, etag) => candidates.candidate(manifest, etag),
      parksPolls: this.#settings.hintUrl === null,
      waits,
      random: chance.random,
      log,
    })
    const reports = new Reports({
      boot: this.#boot,
      send: async (report) => await control.report(report),
      state: async () => {
        await this.#unsaved?.()
        return await this.#reported.report()
      },
      outbox,
      waits,
      random: chance.random,
      log,
      onAnswer: ({ poll_interval_ms: ms }) => {
        this.#reported.acknowledged()
        sync.setPollInterval(ms)
      },
      onUnknown: () => sync.greetAgain(),
    })
    const peers = new Peers({
      control,
      fleet: source.fleet,
      proxyId,
      boot: this.#boot,
      folder,
      lookup: this.#tools.lookup,
      waits,
      log,
      onPeers: (update) => this.#engine.peers(update),
    })
    const drainReader = new DrainReader({
      stateFolder: source.stateFolder,
      outbox,
      everyMs: waits.drainsMs,
      log,
      onEvents: () => this.#fleet?.reports.edge(),
    })
    return { source, proxyId, folder, control, candidates, outbox, drainReader, sync, reports, peers }
  }

  #controlClient(source: Fleet['source'], proxyId: string): ControlClient {
    const { chance, waits } = this.#tools
    return new ControlClient({
      url: source.url,
      fleet: source.fleet,
      proxy: proxyId,
      boot: this.#boot,
      token: source.token,
      agentVersion: this.#settings.version,
      requestTimeoutMs: waits.requestTimeoutMs,
      now: chance.now,
      onContact: (contact) => this.#noteContact(contact),
    })
  }

  #hello(): HelloRequest {
    const { hintUrl, peerHost, region, version } = this.#settings
    const address = this.#engine.address
    const peer = address === undefined ? null : peerAddress(address, peerHost, hintUrl)
    return {
      boot: this.#boot,
      ...(this.#formerBoot === null ? {} : { takes_over_from: this.#formerBoot }),
      agent_version: version,
      listen: address === undefined ? '' : `${address.host}:${address.port}`,
      applied: this.#applier.applied,
      ...(peer === null ? {} : { peer }),
      ...(hintUrl === null ? {} : { hint_url: hintUrl }),
      ...(region === null ? {} : { region }),
      body_formats: [...bodyFormats],
      known_keys: ourKeys,
    }
  }

  #greeted(answer: HelloResponse): void {
    this.#hintSecret = answer.hint_secret
    // Said once: if that process turns up again, it is a copy of this proxy.
    this.#formerBoot = null
    if (answer.mock_key !== undefined) void this.#learnMockKey(Buffer.from(answer.mock_key, 'base64'))
    this.#fleet?.reports.greeted(answer.report_interval_ms)
    this.#fleet?.peers.greeted()
  }

  #noteContact({ status, dateMs }: Contact): void {
    const isRefused = status === 401 || status === 403
    this.#problems.set('token_refused', 'control', isRefused ? `control answers with ${status}` : null)
    if (dateMs === null) return
    this.#controlClock.saw(dateMs)
    const clockOffsetMs = this.#tools.chance.now().getTime() - dateMs
    const offsetS = Math.round(Math.abs(clockOffsetMs) / 1000)
    const where = clockOffsetMs > 0 ? 'ahead of' : 'behind'
    const differs = offsetS > signatureToleranceS
    this.#problems.set(
      'clock_differs',
      'control',
      differs ? `the clock is more than ${signatureToleranceS} s ${where} control's, so hints are refused` : null,
    )
  }

  #noteWritten(file: string, fault: string | null): void {
    this.#problems.set('state_not_saved', file, fault === null ? null : `${file}: ${fault}`)
  }

  #useMockKey(): Uint8Array {
    return (this.#mockKeyInUse ??= this.#mockKey)
  }

  async #learnMockKey(key: Uint8Array): Promise<void> {
    if (Buffer.compare(key, this.#mockKey) === 0) return
    this.#mockKey = key
    try {
      await this.#fleet?.folder.saveMockKey(key)
      this.#noteWritten('mock-key', null)
    } catch (error) {
      this.#noteWritten('mock-key', reasonOf(error))
      this.#tools.log('error', "could not save the fleet's mock secret", { reason: reasonOf(error) })
    }
  }

  async #hinted(hint: Hint): Promise<void> {
    const fleet = this.#requireFleet()
    if (hint.reason === 'reload') await this.#tlsWatch.check()
    await fleet.sync.hint(hint)
    if (hint.reason === 'reload') fleet.reports.edge()
  }

  /** The listen address comes from the settings, otherwise from the first version that can run. */
  async #startEngine({ general, generalValues }: FleetSpec): Promise<void> {
    const wanted = processSettings(general)
    try {
      this.#startedWith = generalValues
      await this.#listen(wanted)
    } catch (error) {
      const former = this.#stopping === undefined ? await this.#formerSettings(wanted, error) : null
      if (former !== null) {
        this.#startedWith = { ...generalValues, ...writtenProcessSettings(former) }
        return
      }
      const { host, port } = this.#addressIn(wanted)
      const reason = `could not listen on ${host}:${port}: ${reasonOf(error)}`
      if (this.#stopping === undefined) this.#fatal(reason)
      throw new ApplyError('engine_died', reason, { cause: error })
    }
  }

  /**
   * The version that ran last has process settings that this machine cannot satisfy. The proxy starts with those that last
   * worked, and so hears of the version that mends it. Null if that does not work either.
   */
  async #formerSettings(wanted: ProcessSettings, fault: unknown): Promise<ProcessSettings | null> {
    const former = await this.#fleet?.folder.readProcessSettings()
    if (former === undefined || isDeepStrictEqual(former, wanted)) return null
    const fields = { reason: reasonOf(fault), ...writtenProcessSettings(former) }
    this.#tools.log(
      'error',
      'could not start with the process settings of the version; trying those that last worked',
      fields,
    )
    try {
      await this.#listen(former)
      return former
    } catch {
      return null
    }
  }

  #addressIn({ listenHost, listenPort }: ProcessSettings): { readonly host: string; readonly port: number } {
    const { listen } = this.#settings
    return { host: listen.host ?? listenHost, port: listen.port ?? listenPort }
  }

  async #listen(settings: ProcessSettings): Promise<void> {
    const { host, port } = this.#addressIn(settings)
    const workers = this.#settings.workers ?? settings.workers
    const tcp = { host: isIP(host) === 0 ? await this.#firstAddress(host) : host, port }
    const { unixSocketDir: dir, unixSocketMode: mode } = settings
    const listen = {
      ...tcp,
      ...(dir === '' ? {} : { unix: { dir, mode: parseInt(mode, 8) } }),
      ...(this.#cancelSockets === null
        ? {}
        : { cancelSocket: this.#cancelSockets.own, predecessors: this.#cancelSockets.predecessors }),
    }
    const inherited = this.#taken === null ? listen : inherit(this.#taken.listeners, listen, this.#tools.log)
    await this.#engine.start(inherited, workers)
    this.#worked = settings
    if (this.#taken !== null) this.#engine.listeners?.disownFile()
    this.#fleet?.sync.greetNow()
  }

  async #tryProcess({ general }: FleetSpec): Promise<void> {
    const { running } = this.#engine
    if (running === undefined) return
    await tryProcessSettings({
      next: processSettings(general),
      running: processSettings(running.general),
      listen: this.#settings.listen,
      lookup: this.#tools.lookup,
    })
  }

  async #firstAddress(host: string): Promise<string> {
    const [address] = await this.#tools.lookup(host)
    if (address === undefined) throw new Error('the name does not resolve')
    return address
  }

  #fatal(reason: string): void {
    this.#tools.log('error', 'fatal error', { reason })
    this.#failure ??= reason
    void this.stop('now')
  }

  async #applied(offer: Offer, isWhole: boolean): Promise<void> {
    this.#file?.applied(offer.position)
    await this.#orders.look()
    void this.#serving()
    const fleet = this.#fleet
    const keep = fleet?.candidates.applied(offer)
    // With pools missing it is not known to be good; what was saved before stays.
    if (fleet === undefined || keep === undefined || !isWhole) return
    const { secretKeys, ...rest } = keep
    const good = { ...rest, secrets: this.#secrets.keepOnly(secretKeys), addresses: this.#resolver.addresses }
    const { folder, source } = fleet
    this.#unsaved = async () => {
      const areSettingsSaved = await this.#saveProcessSettings(fleet)
      try {
        await folder.saveLastKnownGood(source.fleet, source.token, good)
        if (areSettingsSaved) this.#unsaved = undefined
        this.#noteWritten('last-known-good.json', null)
      } catch (error) {
        const reason = reasonOf(error)
        this.#tools.log('error', 'could not save last-known-good; a restart will need control', { reason })
        this.#noteWritten('last-known-good.json', reason)
      }
    }
    await this.#unsaved()
  }

  /** For a start at which those of the version do not work. */
  async #saveProcessSettings({ folder }: Fleet): Promise<boolean> {
    if (this.#worked === undefined) return true
    try {
      await folder.saveProcessSettings(this.#worked)
      this.#noteWritten('process-settings.json', null)
      return true
    } catch (error) {
      const reason = reasonOf(error)
      this.#tools.log('error', 'could not save the process settings that work', { reason })
      this.#noteWritten('process-settings.json', reason)
      return false
    }
  }

  #disconnected(disconnect: EngineDisconnect): void {
    if (causes[disconnect.cause].planned) return
    const event = eventOf(disconnect, `${this.#boot}-${(this.#eventCount += 1)}`, this.#tools.chance.now())
    if (event.client_hurt) this.#reported.clientHurt()
    if (this.#hasOwnSeries(disconnect)) this.#metrics.disconnected(event)
    const { message, ...fields } = event
    this.#tools.log('warn', 'server connection lost', { ...fields, reason: message })
    const outbox = this.#fleet?.outbox ?? this.#drainOutbox
    outbox?.append(event)
    this.#fleet?.reports.edge()
  }

  /** `metrics_per_pool`, for disconnects, which are counted here. */
  #hasOwnSeries({ pool, user }: EngineDisconnect): boolean {
    const { running } = this.#engine
    const mode = running?.general.metricsPerPool ?? 'all'
    if (mode !== 'configured') return mode === 'all'
    return running?.pools.some((one) => one.database === pool && one.user === user) === true
  }

  /** Process settings that differ from the running version. */
  #needsRestart(): string[] {
    const started = this.#startedWith
    const wanted = this.#engine.running?.generalValues
    if (started === undefined || wanted === undefined) return []
    const { host, port } = this.#settings.listen
    const overridden: Partial<Record<GeneralKey, boolean>> = {
      listen_host: host !== null,
      listen_port: port !== null,
      workers: this.#settings.workers !== null,
    }
    return Object.entries(generalKeys)
      .filter(([key, spec]) => (spec.class as string) === 'process' && overridden[key as GeneralKey] !== true)
      .map(([key]) => key)
      .filter((key) => started[key] !== wanted[key])
  }

  /** The engine's snapshot, or an empty one without an engine. */
  async #snapshot(tables?: true): Promise<EngineSnapshot> {
    if (!this.#engine.isServing) return emptySnapshot
    try {
      return await this.#engine.snapshot(tables)
    } catch {
      return emptySnapshot
    }
  }

  #notReady(): string | null {
    if (this.#stopping !== undefined) return 'the proxy is shutting down'
    if (this.#isHandedOver) return 'another process is taking over'
    if (this.#engine.running === undefined) return 'no configuration has been applied yet'
    return this.#engine.isServing ? null : 'the engine is restarting'
  }

  async #metricsPage(): Promise<string> {
    const ageMs = this.#applier.appliedAgeMs
    return await this.#metrics.page(await this.#snapshot(true), {
      configVersion: this.#applier.applied?.version ?? 0,
      configEpoch: this.#applier.applied?.epoch ?? 0,
      configAgeSeconds: ageMs === undefined ? undefined : ageMs / 1000,
      configFailed: this.#applier.error !== null,
      orders: this.#orders.inForce,
      outboxEvents: this.#fleet?.outbox.size ?? 0,
      outboxDropped: this.#fleet?.outbox.droppedEvents ?? 0,
      engineRestarts: this.#engine.restartCount,
      problems: this.#problems.list.map(({ code }) => code),
      needsRestart: this.#needsRestart(),
      operated: this.#engine.operated,
      proxyVersion: this.#settings.version,
    })
  }

  #requireFleet(): Fleet {
    if (this.#fleet === undefined) throw new Error('the proxy runs without control')
    return this.#fleet
  }
}
