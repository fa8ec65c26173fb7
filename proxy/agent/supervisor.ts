import type { PoolOperation } from '../../shared/operations.ts'
import type { Handed } from '../io/io.ts'
import type { QueryAnswer, OperatedState, OperationOutcome, WorkerQuery } from '../operation.ts'
import type { StopMode } from '../port.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { ApplyOutcome, Desired, FleetSpec, HostSpec, PeersUpdate, TlsUpdate } from '../spec.ts'
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
  /** Absent where the process has one worker. */
  readonly workers?: () => WorkerTies
  /** What operators have done: for a thread that begins anew. Undefined while they have done nothing. */
  readonly operated?: () => OperatedState | undefined
  readonly chance: Chance
  readonly onListening: (address: ListenAddress) => void
  /** The engine has died, or serves again. */
  readonly onRestart: () => void
}

/** A thread that lived this long died of something new. */
const settledMs = 10_000
const restartFirstMs = 250
const restartMaxMs = 30_000
/** As many as a report may tell. */
const restartsMax = 20
const reasonLengthMax = 500
/** What the engine's own clock may add to a drain before the agent ends the thread. */
const drainGraceMs = 2000
/** Longest delay of a timer, 24 days: as good as none. */
const timerMsMax = 2 ** 31 - 1

/**
 * Keeps an engine running: starts its thread, remembers what it runs, and when the thread dies starts it anew with
 * that. The first death is answered at once; a thread that keeps dying is started with growing pauses.
 */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #wakeFd = openWakeFd()
  readonly #backoff: Backoff
  readonly #restarts: EngineRestart[] = []
  #restartCount = 0
  /** The thread, once it listens and has what ran before; undefined before the first start and between two threads. */
  #thread: EngineThread | undefined
  /** Settled when there is a thread again, or none will come. */
  #back: PromiseWithResolvers<void> | undefined
  #endPause: (() => void) | undefined
  #running: FleetSpec | undefined
  #desired: Desired | undefined
  #peers: PeersUpdate | null = null
  #listening: Listening | undefined
  #starting: Promise<Listening> | undefined
  /** Its last death was not long ago. */
  #isDyingAgain = false
  #stopping = false

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#backoff = new Backoff({ firstMs: restartFirstMs, maxMs: restartMaxMs, random: options.chance.random })
  }

  /** Where the engine listens; undefined before the first start. */
  get address(): ListenAddress | undefined {
    return this.#listening === undefined ? undefined : { host: this.#listening.host, port: this.#listening.port }
  }

  /** What is open of it is not closed with the engine. */
  get listening(): Listening | undefined {
    return this.#listening
  }

  /** False while no thread serves clients. */
  get isServing(): boolean {
    return this.#thread !== undefined && !this.#stopping
  }

  /** What the engine runs, or will run again once its thread is back. */
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

  /** The first start. Rejects with an EngineDied when the thread ends before it listens: a port in use, for instance. */
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

  /** Gives the engine a whole version. Rejects with an EngineDied; what ran before then runs again. */
  async apply(spec: FleetSpec, force: boolean): Promise<ApplyOutcome> {
    await this.#back?.promise
    await this.#starting?.catch(() => undefined)
    const thread = this.#thread
    if (thread === undefined) throw new EngineDied('the engine is not running')
    const outcome = await thread.apply(spec, force)
    if (outcome.applied) this.#running = spec
    return outcome
  }

  /** Rejects with an EngineDied. */
  async snapshot(tables?: true): Promise<EngineSnapshot> {
    if (this.#thread === undefined) throw new EngineDied('the engine is not running')
    return await this.#thread.snapshot(tables)
  }

  /** Rejects with an EngineDied. */
  async operate(operation: PoolOperation, pool: string): Promise<OperationOutcome> {
    if (this.#thread === undefined) throw new EngineDied('the engine is not running')
    return await this.#thread.operate(operation, pool)
  }

  /** Of its eventfd, which outlives the threads. */
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

  /** A connection that another worker has accepted; it waits for a thread that is being started again. */
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

  /** Null when nobody could say. */
  peers(update: PeersUpdate | null): void {
    this.#peers = update ?? this.#peers
    this.#thread?.post({ type: 'peers', update })
  }

  reloaded(id: number, error: string | null): void {
    this.#thread?.post({ type: 'reloaded', id, error })
  }

  /** A second call, with "now", hurries the first. Resolves when the thread is gone. */
  async stop(mode: StopMode, timeoutMs: number): Promise<void> {
    this.#stopping = true
    this.#endPause?.()
    await this.#back?.promise
    await this.#starting?.catch(() => undefined)
    const thread = this.#thread
    if (thread === undefined) return
    thread.post({ type: 'stop', mode, timeoutMs })
    // A handover ends as a drain does.
    const drainMs = mode === 'handover' ? (this.#running?.general.shutdownTimeoutMs ?? 0) : 0
    const limitMs = Math.min((mode === 'now' ? 0 : timeoutMs) + drainMs + drainGraceMs, timerMsMax)
    const timer = setTimeout(() => thread.terminate('it did not stop in time'), limitMs)
    await thread.ended
    clearTimeout(timer)
  }

  /** After `stop`. */
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

  /** What operators have done holds, and nothing else. */
  restore(): void {
    if (this.#thread !== undefined) this.#restore(this.#thread)
  }

  #restore(thread: EngineThread): void {
    const state = this.#options.operated?.()
    if (state !== undefined) thread.post({ type: 'restore', state })
  }

  #adopt(thread: EngineThread, startedAtMs: number): void {
    this.#thread = thread
    // What was done while it was being started did not reach it.
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
    this.#options.log('error', 'the engine ended and is started again', { reason })
    this.#options.onRestart()
  }

  async #pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#endPause = resolve
    const timer = setTimeout(resolve, this.#backoff.next())
    await promise
    clearTimeout(timer)
  }

  /** Starts a thread with what ran before. False when that fails too. */
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
      this.#options.log('error', 'the engine could not be started again', { reason: reasonOf(error) })
      await thread.ended
      return false
    }
    this.#adopt(thread, startedAtMs)
    this.#options.log('info', 'the engine runs again', { took_ms: Math.round(performance.now() - startedAtMs) })
    this.#options.onRestart()
    return true
  }
}

function withAddresses(spec: FleetSpec, hosts: Readonly<Record<string, readonly string[]>>): FleetSpec {
  const fresh = (host: HostSpec): HostSpec => ({ ...host, addresses: hosts[host.host] ?? host.addresses })
  return { ...spec, pools: spec.pools.map((pool) => ({ ...pool, hosts: pool.hosts.map(fresh) })) }
}
