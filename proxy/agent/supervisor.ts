import type { PoolOperation } from '../../shared/operations.ts'
import type { Handed } from '../io/io.ts'
import type { OperationOutcome } from '../../shared/wire.ts'
import type { OperatedState, OrderedChange, QueryAnswer, WorkerQuery } from '../operation.ts'
import type { PreflightRule, StopMode } from '../port.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { ApplyOutcome, Desired, FleetSpec, HostSpec, PeersUpdate, PreflightOutcome, TlsUpdate } from '../spec.ts'
import type { Report } from '../../shared/wire.ts'
import { Backoff } from './backoff.ts'
import type { Chance } from './clock.ts'
import {
  EngineDied,
  EngineThread,
  type WorkerTies,
  type EngineThreadOptions,
  type ListenAddress,
  type Listening,
} from './engine-thread.ts'
import { closeFd, openWakeFd } from './libc.ts'
import { reasonOf } from './log.ts'
import { withTls } from './tls-files.ts'

export type EngineRestart = Report['engine_restarts'][number]

export interface SupervisorOptions extends Omit<EngineThreadOptions, 'listen' | 'wakeFd' | 'workers'> {
  /** Absent with a single worker. */
  readonly workers?: () => WorkerTies
  /** Operators' state, for a restarted thread. Undefined if there is none. */
  readonly operated?: () => OperatedState | undefined
  readonly chance: Chance
  readonly onListening: (address: ListenAddress) => void
  /** The engine has died, or serves again. */
  readonly onRestart: () => void
}

/** After this lifetime a death counts as the first again. */
const settledMs = 10_000
const restartFirstMs = 250
const restartMaxMs = 30_000
/** Limit of a report. */
const restartsMax = 20
const reasonLengthMax = 500
/** Tolerance for the engine's own drain timeout before the agent terminates the thread. */
const drainGraceMs = 2000
/** Maximum of a timer, 24 days: practically none. */
const timerMsMax = 2 ** 31 - 1

/**
 * Keeps an engine running: starts its thread, remembers what it runs, and restarts a dead thread with it. The first
 * restart is immediate; repeated ones are delayed more and more.
 */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #wakeFd = openWakeFd()
  readonly #backoff: Backoff
  readonly #restarts: EngineRestart[] = []
  #restartCount = 0
  /**
   * The thread, once it listens and runs the former configuration; undefined before the first start and between
   * threads.
   */
  #thread: EngineThread | undefined
  /** Settles when a thread runs again, or none will. */
  #back: PromiseWithResolvers<void> | undefined
  #endPause: (() => void) | undefined
  #running: FleetSpec | undefined
  #desired: Desired | undefined
  #peers: PeersUpdate | null = null
  #listening: Listening | undefined
  #starting: Promise<Listening> | undefined
  /** It has died recently. */
  #isDyingAgain = false
  #stopping = false

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#backoff = new Backoff({ firstMs: restartFirstMs, maxMs: restartMaxMs, random: options.chance.random })
  }

  /** Address of the engine; undefined before the first start. */
  get address(): ListenAddress | undefined {
    return this.#listening === undefined ? undefined : { host: this.#listening.host, port: this.#listening.port }
  }

  /** Its open descriptors are not closed with the engine. */
  get listening(): Listening | undefined {
    return this.#listening
  }

  /** False if no thread serves clients. */
  get isServing(): boolean {
    return this.#thread !== undefined && !this.#stopping
  }

  /** What the engine runs, or will run when its thread has restarted. */
  get running(): FleetSpec | undefined {
    return this.#running
  }

  /** Newest last, at most 20. */
  get restarts(): readonly EngineRestart[] {
    return this.#restarts
  }

  get restartCount(): number {
    return this.#restartCount
  }

  /**
   * The first start. Rejects with an EngineDied if the thread exits before it listens, for instance if the port is in
   * use.
   */
  async start(listen: Listening): Promise<ListenAddress> {
    if (this.#stopping) throw new EngineDied('the proxy is shutting down')
    const startedAtMs = performance.now()
    const thread = this.#newThread(listen)
    this.#starting = thread.listening
    this.#listening = await this.#starting
    this.#adopt(thread, startedAtMs)
    const { host, port, unix } = this.#listening
    this.#options.onListening({ host, port, unix })
    return { host, port, unix }
  }

  /** Applies a version. Rejects with an EngineDied, in which case the former version runs again. */
  async apply(spec: FleetSpec, force: boolean): Promise<ApplyOutcome> {
    await this.#back?.promise
    await this.#starting?.catch(() => undefined)
    const thread = this.#thread
    if (thread === undefined) throw new EngineDied('the engine is not running')
    const outcome = await thread.apply(spec, force)
    if (outcome.applied) this.#running = spec
    return outcome
  }

  /** Tries a version before it is applied. Rejects with an EngineDied. */
  async preflight(spec: FleetSpec, rule: PreflightRule, atOnce: number): Promise<PreflightOutcome> {
    await this.#back?.promise
    if (this.#thread === undefined) throw new EngineDied('the engine is not running')
    return await this.#thread.preflight(spec, rule, atOnce)
  }

  /** Closes what the preflight of a version has opened that is not applied. */
  endPreflight(): void {
    this.#thread?.post({ type: 'preflight_over' })
  }

  /** Rejects with an EngineDied. */
  async snapshot(tables?: true): Promise<EngineSnapshot> {
    if (this.#thread === undefined) throw new EngineDied('the engine is not running')
    return await this.#thread.snapshot(tables)
  }

  /** Rejects with an EngineDied. */
  async operate(operation: PoolOperation, pool: string, acts: boolean): Promise<OperationOutcome> {
    if (this.#thread === undefined) throw new EngineDied('the engine is not running')
    return await this.#thread.operate(operation, pool, acts)
  }

  /** Rejects with an EngineDied. */
  async carryOut(changes: readonly OrderedChange[]): Promise<void> {
    if (this.#thread === undefined) throw new EngineDied('the engine is not running')
    await this.#thread.carryOut(changes)
  }

  /** The eventfd, which outlives the threads. */
  get wakeFd(): number {
    return this.#wakeFd
  }

  /** Rejects with an EngineDied. */
  async query(query: WorkerQuery): Promise<QueryAnswer> {
    if (this.#thread === undefined) throw new EngineDied('the engine is not running')
    return await this.#thread.query(query)
  }

  answers(id: number, answers: readonly QueryAnswer[]): void {
    this.#thread?.post({ type: 'answers', id, answers })
  }

  /** Hands over a connection accepted by another worker; it waits while the thread restarts. */
  async handOver(handed: Handed, bytes: Uint8Array, placedLife: number | null): Promise<void> {
    await this.#back?.promise
    if (this.#thread === undefined) closeFd(handed.fd)
    else this.#thread.handOver(handed, bytes, placedLife)
  }

  desired(desired: Desired): void {
    this.#desired = desired
    this.#thread?.post({ type: 'desired', desired })
  }

  addresses(hosts: Readonly<Record<string, readonly string[]>>): void {
    if (this.#running !== undefined) this.#running = withAddresses(this.#running, hosts)
    this.#thread?.post({ type: 'addresses', hosts })
  }

  tls(update: TlsUpdate): void {
    if (this.#running !== undefined) this.#running = withTls(this.#running, update)
    this.#thread?.post({ type: 'tls', update })
  }

  /** Null if the peers are unknown. */
  peers(update: PeersUpdate | null): void {
    this.#peers = update ?? this.#peers
    this.#thread?.post({ type: 'peers', update })
  }

  reloaded(id: number, error: string | null): void {
    this.#thread?.post({ type: 'reloaded', id, error })
  }

  /** A second call, with "now", speeds up the first. Resolves when the thread has exited. */
  async stop(mode: StopMode, timeoutMs: number): Promise<void> {
    this.#stopping = true
    this.#endPause?.()
    await this.#back?.promise
    await this.#starting?.catch(() => undefined)
    const thread = this.#thread
    if (thread === undefined) return
    thread.post({ type: 'stop', mode, timeoutMs })
    // A handover ends like a drain.
    const drainMs = mode === 'handover' ? (this.#running?.general.shutdownTimeoutMs ?? 0) : 0
    const limitMs = Math.min((mode === 'now' ? 0 : timeoutMs) + drainMs + drainGraceMs, timerMsMax)
    const timer = setTimeout(() => thread.terminate('not stopped in time'), limitMs)
    await thread.ended
    clearTimeout(timer)
  }

  /** Call after `stop`. */
  close(): void {
    closeFd(this.#wakeFd)
  }

  #newThread(listen: Listening): EngineThread {
    const { workers, ...options } = this.#options
    return new EngineThread({
      ...options,
      listen,
      wakeFd: this.#wakeFd,
      ...(workers === undefined ? {} : { workers: workers() }),
    })
  }

  /** Sends operators' state to the engine. */
  restore(): void {
    if (this.#thread !== undefined) this.#restore(this.#thread)
  }

  #restore(thread: EngineThread): void {
    const state = this.#options.operated?.()
    if (state !== undefined) thread.post({ type: 'restore', state })
  }

  #adopt(thread: EngineThread, startedAtMs: number): void {
    this.#thread = thread
    // Changes made during its start did not reach it.
    this.#restore(thread)
    if (this.#desired !== undefined) thread.post({ type: 'desired', desired: this.#desired })
    if (this.#peers !== null) thread.post({ type: 'peers', update: this.#peers })
    void thread.ended.then(async ({ reason }) => await this.#ended(reason, startedAtMs))
  }

  async #ended(reason: string, startedAtMs: number): Promise<void> {
    this.#thread = undefined
    if (this.#stopping) return
    this.#back = Promise.withResolvers()
    this.#recordDeath(reason)
    if (performance.now() - startedAtMs >= settledMs) {
      this.#backoff.reset()
      this.#isDyingAgain = false
    }
    if (this.#isDyingAgain) await this.#pause()
    this.#isDyingAgain = true
    while (!this.#stopping && !(await this.#restart())) await this.#pause()
    this.#back.resolve()
    this.#back = undefined
  }

  #recordDeath(reason: string): void {
    const restart = { at: this.#options.chance.now().toISOString(), reason: reason.slice(0, reasonLengthMax) }
    this.#restartCount += 1
    this.#restarts.push(restart)
    if (this.#restarts.length > restartsMax) this.#restarts.shift()
    this.#options.log('error', 'the engine died, restarting it', { reason })
    this.#options.onRestart()
  }

  async #pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#endPause = resolve
    const timer = setTimeout(resolve, this.#backoff.next())
    await promise
    clearTimeout(timer)
  }

  /** Starts a thread with the former configuration. False if that fails. */
  async #restart(): Promise<boolean> {
    const listen = this.#listening
    if (listen === undefined) return false
    const startedAtMs = performance.now()
    const thread = this.#newThread(listen)
    try {
      await thread.listening
      this.#restore(thread)
      if (this.#running !== undefined) await thread.apply(this.#running, true)
    } catch (error) {
      this.#options.log('error', 'could not restart the engine', { reason: reasonOf(error) })
      await thread.ended
      return false
    }
    this.#adopt(thread, startedAtMs)
    this.#options.log('info', 'the engine restarted', { took_ms: Math.round(performance.now() - startedAtMs) })
    this.#options.onRestart()
    return true
  }
}

function withAddresses(spec: FleetSpec, hosts: Readonly<Record<string, readonly string[]>>): FleetSpec {
  const fresh = (host: HostSpec): HostSpec => ({ ...host, addresses: hosts[host.host] ?? host.addresses })
  return { ...spec, pools: spec.pools.map((pool) => ({ ...pool, hosts: pool.hosts.map(fresh) })) }
}
