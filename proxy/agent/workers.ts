import type { PoolOperation } from '../../shared/operations.ts'
import { SchemaChanges } from '../memory/schema-changes.ts'
import { SharedCounters } from '../memory/shared-counters.ts'
import { KeyCounts } from '../memory/key-counts.ts'
import type { OperationOutcome } from '../../shared/wire.ts'
import type { OperatedState, OrderedChange, QueryAnswer, WorkerQuery } from '../operation.ts'
import type { PreflightRule, ProcessStart, StopMode } from '../port.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { ApplyOutcome, Desired, FleetSpec, PeersUpdate, PreflightOutcome, TlsUpdate } from '../spec.ts'
import { Supervisor, type SupervisorOptions, type EngineRestart } from './supervisor.ts'
import { EngineDied, type WorkerTies, type ListenAddress, type Listening } from './engine-thread.ts'
import { Listeners } from './restart/listeners.ts'
import { placed } from './placement.ts'
import { mergedOutcome, mergedPreflight, mergedSnapshot } from './merged.ts'

/** Maximum time that a console waits for other workers. */
const queryMs = 2000

export interface WorkersOptions extends Omit<
  SupervisorOptions,
  'workers' | 'operated' | 'onOperated' | 'onOver' | 'onUnlistened' | 'process'
> {
  /** The mock secret, read at the start: see ProcessStart. */
  readonly mockKey: () => Uint8Array
  readonly ioUring: boolean
  /** Operators' state has changed. */
  readonly onOperated?: () => void
}

/**
 * The workers of a process: engines on one listener, which is opened once and outlives each of them. Requests of the
 * agent go to all workers; requests between workers pass through here.
 */
export class Workers {
  readonly #options: WorkersOptions
  #supervisors: readonly Supervisor[] = []
  readonly #placements = new Map<string, number>()
  #counters: SharedCounters | undefined
  #running: FleetSpec | undefined
  #desired: Desired | undefined
  #peers: PeersUpdate | null = null
  /** As last reported by a worker: an operator's state is the same in all workers. */
  #operated: OperatedState | undefined
  /** Changes that control has ordered and no worker has reported yet. */
  readonly #ordered = new Set<OrderedChange>()
  /** Operations in progress, and the workers that missed one. */
  #operationsOpen = 0
  readonly #missed = new Set<Supervisor>()
  #stopping = false
  /** Workers that no longer accept connections. */
  readonly #unlistened = new Set<number>()
  #listeners: Listeners | undefined

  constructor(options: WorkersOptions) {
    this.#options = options
  }

  /** Address for clients; undefined before the first start. */
  get address(): ListenAddress | undefined {
    return this.#supervisors[0]?.address
  }

  /** False if no worker serves clients. */
  get isServing(): boolean {
    return this.#supervisors.some((supervisor) => supervisor.isServing)
  }

  /** Open listeners; undefined before the first start. */
  get listeners(): Listeners | undefined {
    return this.#listeners
  }

  get running(): FleetSpec | undefined {
    return this.#running
  }

  /** Newest last, at most 20. */
  get restarts(): readonly EngineRestart[] {
    return this.#supervisors
      .flatMap((supervisor) => supervisor.restarts)
      .sort((a, b) => Date.parse(a.at) - Date.parse(b.at))
      .slice(-restartsMax)
  }

  get restartCount(): number {
    return this.#supervisors.reduce((sum, supervisor) => sum + supervisor.restartCount, 0)
  }

  get count(): number {
    return this.#supervisors.length
  }

  /** What operators have done that lasts; undefined if nothing. */
  get operated(): OperatedState | undefined {
    return this.#operated
  }

  /** The first start. Rejects with an EngineDied if a worker exits before it listens. */
  async start(listen: Listening, workers: number): Promise<ListenAddress> {
    if (this.#stopping) throw new EngineDied('the proxy is shutting down')
    // Of a start that failed.
    for (const former of this.#supervisors) former.close()
    const memory = SharedCounters.memory(workers)
    this.#counters = new SharedCounters(memory, workers)
    const lasting = {
      mockKey: this.#options.mockKey(),
      failedLogins: KeyCounts.memory(),
      schemaChanges: SchemaChanges.memory(),
      ioUring: this.#options.ioUring,
    }
    this.#supervisors = Array.from({ length: workers }, (_, worker) =>
      this.#newSupervisor(worker, workers, memory, lasting),
    )
    const [first, ...others] = this.#supervisors
    if (first === undefined) throw new Error('there is at least one worker')
    if (this.#desired !== undefined) for (const supervisor of this.#supervisors) supervisor.desired(this.#desired)
    if (this.#peers !== null) for (const supervisor of this.#supervisors) supervisor.peers(this.#peers)
    const address = await first.start(listen)
    const listening = first.listening ?? listen
    this.#listeners = new Listeners(listening)
    await Promise.all(others.map(async (supervisor) => await supervisor.start(listening)))
    return address
  }

  #newSupervisor(worker: number, workers: number, counters: SharedArrayBuffer, lasting: ProcessStart): Supervisor {
    const { onListening } = this.#options
    const several = {
      workers: (): WorkerTies => ({
        start: { self: worker, counters, wakeFds: this.#supervisors.map((supervisor) => supervisor.wakeFd) },
        onHandOver: (to, handed, bytes, placedLife) => void this.#supervisors[to]?.handOver(handed, bytes, placedLife),
        onQuery: (id, query) => void this.#queryWorkers(worker, id, query),
      }),
    }
    return new Supervisor({
      ...this.#options,
      onListening: (address) => {
        if (worker === 0) onListening(address)
      },
      onUnlistened: () => this.#stoppedListening(worker),
      process: lasting,
      onOver: () => {
        this.#counters?.workerEnded(worker)
        KeyCounts.threadEnded(lasting.failedLogins, worker)
      },
      operated: () => this.#stateToRestore(),
      onOperated: (state) => {
        this.#operated = state
        this.#options.onOperated?.()
      },
      ...(workers === 1 ? {} : several),
    })
  }

  /** Workers accept from shared descriptors, which are closed when no worker uses them any more. */
  #stoppedListening(worker: number): void {
    this.#unlistened.add(worker)
    if (this.#unlistened.size === this.#supervisors.length) this.#listeners?.closeToClients()
  }

  /**
   * Applies a version on all workers: when this resolves, all run it; when it rejects with an EngineDied, none does.
   */
  async apply(spec: FleetSpec, force: boolean): Promise<ApplyOutcome> {
    const before = this.#running
    const overrides = this.#operated?.overrides
    const wanted = placed(spec, this.#supervisors.length, this.#placements)
    const results = await Promise.allSettled(
      this.#supervisors.map(async (supervisor) => await supervisor.apply(wanted, force)),
    )
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) {
      if (before !== undefined) await this.#goBack(before, overrides)
      throw failed.reason
    }
    const [outcome] = results.map((result) => (result as PromiseFulfilledResult<ApplyOutcome>).value)
    if (outcome === undefined) throw new EngineDied('the engine is not running')
    if (outcome.applied) this.#running = wanted
    return outcome
  }

  /**
   * Tries a version before it is applied, each pool in one worker. Rejects with an EngineDied. `endPreflight` is called if
   * the version is not applied.
   */
  async preflight(spec: FleetSpec, rule: PreflightRule): Promise<PreflightOutcome> {
    const wanted = placed(spec, this.#supervisors.length, new Map(this.#placements))
    const atOnce = Math.max(1, Math.floor(loginsAtOnce / this.#supervisors.length))
    const outcomes = await Promise.all(
      this.#supervisors.map(async (supervisor) => await supervisor.preflight(wanted, rule, atOnce)),
    )
    return mergedPreflight(outcomes)
  }

  endPreflight(): void {
    for (const supervisor of this.#supervisors) supervisor.endPreflight()
  }

  /** Including the overrides of SET. */
  async #goBack(spec: FleetSpec, overrides: OperatedState['overrides'] = []): Promise<void> {
    await Promise.allSettled(this.#supervisors.map(async (supervisor) => await supervisor.apply(spec, true)))
    this.#operated = { ...(this.#operated ?? nothingDone), overrides }
    for (const supervisor of this.#supervisors) supervisor.restore()
  }

  /** Merged over all serving workers. Rejects with an EngineDied if there is none. */
  async snapshot(tables?: true): Promise<EngineSnapshot> {
    const ask = orNull(async (supervisor) => await supervisor.snapshot(tables))
    return mergedSnapshot(given(await Promise.all(this.#supervisors.map(ask))))
  }

  /** Rejects with an EngineDied if no worker serves. Without `acts` it changes nothing and only tells the outcome. */
  async operate(operation: PoolOperation, pool: string, acts = true): Promise<OperationOutcome> {
    const ask = orNull(async (supervisor) => await supervisor.operate(operation, pool, acts))
    return mergedOutcome(given(await this.#operateAll(ask)))
  }

  /**
   * PAUSE or RESUME of all databases, as at the console. False if it had no effect. Rejects with an EngineDied if no
   * worker serves.
   */
  async operateAll(operation: 'pause' | 'resume'): Promise<boolean> {
    const query: WorkerQuery = { kind: 'operate', operation, database: null }
    const ask = orNull(async (supervisor) => await answerOf(supervisor, query))
    return given(await this.#operateAll(ask)).includes(true)
  }

  /**
   * Changes that control has ordered. Never rejects: before the first start, and where a thread is not running, they are part
   * of the state with which it starts.
   */
  async carryOut(changes: readonly OrderedChange[]): Promise<void> {
    for (const change of changes) this.#ordered.add(change)
    const ask = orNull(async (supervisor) => {
      await supervisor.carryOut(changes)
      return true
    })
    const answers = await this.#operateAll(ask)
    for (const change of changes) this.#ordered.delete(change)
    // A worker that answered has reported its state before. One that has died may have reported a former one last.
    if (answers.length > 0 && !answers.includes(null)) return
    this.#operated = changes.reduce<OperatedState | undefined>(changed, this.#operated)
  }

  #stateToRestore(): OperatedState | undefined {
    return [...this.#ordered].reduce<OperatedState | undefined>(changed, this.#operated)
  }

  desired(desired: Desired): void {
    this.#desired = desired
    for (const supervisor of this.#supervisors) supervisor.desired(desired)
  }

  addresses(hosts: Readonly<Record<string, readonly string[]>>): void {
    for (const supervisor of this.#supervisors) supervisor.addresses(hosts)
    this.#running = this.#supervisors[0]?.running
  }

  tls(update: TlsUpdate): void {
    for (const supervisor of this.#supervisors) supervisor.tls(update)
    this.#running = this.#supervisors[0]?.running
  }

  peers(update: PeersUpdate | null): void {
    this.#peers = update ?? this.#peers
    for (const supervisor of this.#supervisors) supervisor.peers(update)
  }

  /** Answers the worker whose console requested it: the remainder of the id is its number. */
  reloaded(id: number, error: string | null): void {
    this.#supervisors[id % this.#supervisors.length]?.reloaded(id, error)
  }

  /** A second call, with "now", speeds up the first. Resolves when all threads have exited. */
  async stop(mode: StopMode, timeoutMs: number): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#supervisors.map(async (supervisor) => await supervisor.stop(mode, timeoutMs)))
  }

  /** Call after `stop`. */
  close(): void {
    this.#listeners?.close()
    for (const supervisor of this.#supervisors) supervisor.close()
  }

  // Between workers

  /**
   * A request that changes state goes to the requesting worker too, so that all workers execute it in the same order.
   */
  async #queryWorkers(from: number, id: number, query: WorkerQuery): Promise<void> {
    const ask = async (supervisor: Supervisor): Promise<QueryAnswer> => await answerOf(supervisor, query)
    const others = this.#supervisors.filter((_, worker) => worker !== from)
    const answers =
      query.kind === 'operate' || query.kind === 'set'
        ? await this.#operateAll(ask)
        : await Promise.all(others.map(ask))
    this.#supervisors[from]?.answers(id, answers)
  }

  /**
   * Sends an operation to all workers; null for one that was not running. Such a worker may return before the others
   * have executed it, so it receives the state again when no operation is in progress.
   */
  async #operateAll<Given>(ask: (supervisor: Supervisor) => Promise<Given | null>): Promise<(Given | null)[]> {
    this.#operationsOpen += 1
    const answers = await Promise.all(this.#supervisors.map(ask))
    this.#operationsOpen -= 1
    for (const [index, supervisor] of this.#supervisors.entries())
      if (answers[index] === null) this.#missed.add(supervisor)
    if (this.#operationsOpen === 0) {
      for (const supervisor of this.#missed) supervisor.restore()
      this.#missed.clear()
    }
    return answers
  }
}

const nothingDone: OperatedState = { pausedAll: false, paused: [], disabled: [], suspended: false, overrides: [] }

function changed(state: OperatedState | undefined, { pool, effect, on }: OrderedChange): OperatedState {
  const before = state ?? nothingDone
  const others = before[effect].filter((one) => one !== pool)
  return { ...before, [effect]: on ? [...others, pool] : others }
}

/** Null for a worker that is not running. */
function orNull<Given>(
  ask: (supervisor: Supervisor) => Promise<Given>,
): (supervisor: Supervisor) => Promise<Given | null> {
  return async (supervisor) => (supervisor.isServing ? await ask(supervisor).catch(() => null) : null)
}

/** @throws EngineDied if no worker was running */
function given<Given>(answers: readonly (Given | null)[]): Given[] {
  const there = answers.filter((answer) => answer !== null)
  if (there.length === 0) throw new EngineDied('the engine is not running')
  return there
}

/** Null after a timeout or if the worker dies; a dead worker has nothing to wait for. */
async function answerOf(supervisor: Supervisor, query: WorkerQuery): Promise<QueryAnswer> {
  const late = Promise.withResolvers<null>()
  const timer = query.kind === 'wait' ? undefined : setTimeout(() => late.resolve(null), queryMs)
  try {
    return await Promise.race([supervisor.query(query), late.promise])
  } catch {
    return null
  } finally {
    clearTimeout(timer)
  }
}

/** Limit of a report. */
const restartsMax = 20

/** Connections that a preflight tries at a time, so that a version of many pools is no storm of logins. */
const loginsAtOnce = 16
