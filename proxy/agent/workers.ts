import { Board } from '../memory/shared-counters.ts'
import { Tallies } from '../memory/key-counts.ts'
import type {
  Answer,
  ApplyOutcome,
  Desired,
  EngineSnapshot,
  FleetSpec,
  OperatedState,
  Operation,
  OperationOutcome,
  PeersUpdate,
  ProcessStart,
  Question,
  StopMode,
  TlsUpdate,
} from '../port.ts'
import { EngineKeeper, type EngineKeeperOptions, type EngineRestart } from './supervisor.ts'
import { EngineDied, type CrewTies, type ListenAddress, type Listening } from './engine-thread.ts'
import { Listeners } from './restart/listeners.ts'
import { placed } from './placement.ts'
import { mergedOutcome, mergedSnapshot } from './merged.ts'

/** A worker whose console asks is not kept waiting for longer by one that does not answer. */
const askMs = 2000

export interface CrewOptions extends Omit<
  EngineKeeperOptions,
  'crew' | 'operated' | 'onOperated' | 'onOver' | 'onUnlistened' | 'process'
> {
  /** Secret bytes, asked for at the start: see ProcessStart. */
  readonly mockKey: () => Uint8Array
  readonly ioUring: boolean
}

/**
 * The workers of a process: engines on one listener, which is opened once and outlives each of them. What the agent
 * wants it wants of all; what one of them wants of the others goes through here.
 */
export class Crew {
  readonly #options: CrewOptions
  #keepers: readonly EngineKeeper[] = []
  readonly #homes = new Map<string, number>()
  #board: Board | undefined
  #running: FleetSpec | undefined
  #desired: Desired | undefined
  #peers: PeersUpdate | null = null
  /** As any worker has told it last: what one of them does for an operator, all do. */
  #operated: OperatedState | undefined
  /** Orders that somebody has yet to answer, and workers that were not there for one. */
  #ordersOpen = 0
  readonly #missed = new Set<EngineKeeper>()
  #stopping = false
  /** Workers that accept nothing any more. */
  readonly #unlistened = new Set<number>()
  #listeners: Listeners | undefined

  constructor(options: CrewOptions) {
    this.#options = options
  }

  /** Where clients are served; undefined before the first start. */
  get address(): ListenAddress | undefined {
    return this.#keepers[0]?.address
  }

  /** False while no worker serves clients. */
  get isServing(): boolean {
    return this.#keepers.some((keeper) => keeper.isServing)
  }

  /** What is open for clients; undefined before the first start. */
  get listeners(): Listeners | undefined {
    return this.#listeners
  }

  get running(): FleetSpec | undefined {
    return this.#running
  }

  /** Newest last, at most 20. */
  get restarts(): readonly EngineRestart[] {
    return this.#keepers
      .flatMap((keeper) => keeper.restarts)
      .sort((a, b) => Date.parse(a.at) - Date.parse(b.at))
      .slice(-restartsMax)
  }

  get restartCount(): number {
    return this.#keepers.reduce((sum, keeper) => sum + keeper.restartCount, 0)
  }

  get workers(): number {
    return this.#keepers.length
  }

  /** The first start. Rejects with an EngineDied when a worker ends before it listens. */
  async start(listen: Listening, workers: number): Promise<ListenAddress> {
    if (this.#stopping) throw new EngineDied('the proxy is shutting down')
    const memory = Board.memory(workers)
    this.#board = new Board(memory, workers)
    const lasting = { mockKey: this.#options.mockKey(), failedLogins: Tallies.memory(), ioUring: this.#options.ioUring }
    this.#keepers = Array.from({ length: workers }, (_, worker) => this.#newKeeper(worker, workers, memory, lasting))
    const [first, ...others] = this.#keepers
    if (first === undefined) throw new Error('there is at least one worker')
    if (this.#desired !== undefined) for (const keeper of this.#keepers) keeper.desired(this.#desired)
    if (this.#peers !== null) for (const keeper of this.#keepers) keeper.peers(this.#peers)
    const address = await first.start(listen)
    const listening = first.listening ?? listen
    this.#listeners = new Listeners(listening)
    await Promise.all(others.map(async (keeper) => await keeper.start(listening)))
    return address
  }

  #newKeeper(worker: number, workers: number, board: SharedArrayBuffer, lasting: ProcessStart): EngineKeeper {
    const { onListening } = this.#options
    const several = {
      crew: (): CrewTies => ({
        start: { worker, board, wakeFds: this.#keepers.map((keeper) => keeper.wakeFd) },
        onHand: (to, handed, bytes, seat) => void this.#keepers[to]?.hand(handed, bytes, seat),
        onAsk: (id, question) => void this.#askWorkers(worker, id, question),
      }),
    }
    return new EngineKeeper({
      ...this.#options,
      onListening: (address) => {
        if (worker === 0) onListening(address)
      },
      onUnlistened: () => this.#stoppedListening(worker),
      process: lasting,
      onOver: () => {
        this.#board?.forget(worker)
        Tallies.left(lasting.failedLogins, worker)
      },
      operated: () => this.#operated,
      onOperated: (state) => (this.#operated = state),
      ...(workers === 1 ? {} : several),
    })
  }

  /** Workers accept from the same descriptors: they are closed when none of them looks at them any more. */
  #stoppedListening(worker: number): void {
    this.#unlistened.add(worker)
    if (this.#unlistened.size === this.#keepers.length) this.#listeners?.closeToClients()
  }

  /**
   * Gives every worker a whole version: all of them run it when this resolves, and none when it rejects with an
   * EngineDied.
   */
  async apply(spec: FleetSpec, force: boolean): Promise<ApplyOutcome> {
    const before = this.#running
    const operated = this.#operated
    const wanted = placed(spec, this.#keepers.length, this.#homes)
    const results = await Promise.allSettled(this.#keepers.map(async (keeper) => await keeper.apply(wanted, force)))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) {
      if (before !== undefined) await this.#goBack(before, operated)
      throw failed.reason
    }
    const [outcome] = results.map((result) => (result as PromiseFulfilledResult<ApplyOutcome>).value)
    if (outcome === undefined) throw new EngineDied('the engine is not running')
    if (outcome.applied) this.#running = wanted
    return outcome
  }

  /** With what SET had changed over it. */
  async #goBack(spec: FleetSpec, operated: OperatedState | undefined): Promise<void> {
    await Promise.allSettled(this.#keepers.map(async (keeper) => await keeper.apply(spec, true)))
    this.#operated = operated
    for (const keeper of this.#keepers) keeper.restore()
  }

  /** Of all workers that serve. Rejects with an EngineDied when there is none. */
  async snapshot(figures?: true): Promise<EngineSnapshot> {
    const ask = orNull(async (keeper) => await keeper.snapshot(figures))
    return mergedSnapshot(given(await Promise.all(this.#keepers.map(ask))))
  }

  /** Rejects with an EngineDied when no worker serves. */
  async operate(operation: Operation, pool: string): Promise<OperationOutcome> {
    const ask = orNull(async (keeper) => await keeper.operate(operation, pool))
    return mergedOutcome(given(await this.#order(ask)))
  }

  /**
   * PAUSE or RESUME of every database, as at the console. False when that changed nothing. Rejects with an EngineDied
   * when no worker serves.
   */
  async operateAll(deed: 'pause' | 'resume'): Promise<boolean> {
    const question: Question = { ask: 'do', deed, database: null }
    const ask = orNull(async (keeper) => await answerOf(keeper, question))
    return given(await this.#order(ask)).includes(true)
  }

  desired(desired: Desired): void {
    this.#desired = desired
    for (const keeper of this.#keepers) keeper.desired(desired)
  }

  addresses(hosts: Readonly<Record<string, readonly string[]>>): void {
    for (const keeper of this.#keepers) keeper.addresses(hosts)
    this.#running = this.#keepers[0]?.running
  }

  tls(update: TlsUpdate): void {
    for (const keeper of this.#keepers) keeper.tls(update)
    this.#running = this.#keepers[0]?.running
  }

  peers(update: PeersUpdate | null): void {
    this.#peers = update ?? this.#peers
    for (const keeper of this.#keepers) keeper.peers(update)
  }

  /** Answers the worker whose console asked: its ids leave its number as the rest. */
  reloaded(id: number, error: string | null): void {
    this.#keepers[id % this.#keepers.length]?.reloaded(id, error)
  }

  /** A second call, with "now", hurries the first. Resolves when all threads are gone. */
  async stop(mode: StopMode, timeoutMs: number): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#keepers.map(async (keeper) => await keeper.stop(mode, timeoutMs)))
  }

  /** After `stop`. */
  close(): void {
    this.#listeners?.close()
    for (const keeper of this.#keepers) keeper.close()
  }

  // Between workers

  /** What changes something is for the one that asks as well: so all of them have it in the same order. */
  async #askWorkers(from: number, id: number, question: Question): Promise<void> {
    const ask = async (keeper: EngineKeeper): Promise<Answer> => await answerOf(keeper, question)
    const others = this.#keepers.filter((_, worker) => worker !== from)
    const answers =
      question.ask === 'do' || question.ask === 'set' ? await this.#order(ask) : await Promise.all(others.map(ask))
    this.#keepers[from]?.answers(id, answers)
  }

  /**
   * Gives all workers something to do that lasts; null from one that was not there for it. That one may have come back
   * before the others had said what they did: so it hears of that when all have answered all there is.
   */
  async #order<Given>(ask: (keeper: EngineKeeper) => Promise<Given | null>): Promise<(Given | null)[]> {
    this.#ordersOpen += 1
    const answers = await Promise.all(this.#keepers.map(ask))
    this.#ordersOpen -= 1
    for (const [index, keeper] of this.#keepers.entries()) if (answers[index] === null) this.#missed.add(keeper)
    if (this.#ordersOpen === 0) {
      for (const keeper of this.#missed) keeper.restore()
      this.#missed.clear()
    }
    return answers
  }
}

/** Null of a worker that is not there. */
function orNull<Given>(ask: (keeper: EngineKeeper) => Promise<Given>): (keeper: EngineKeeper) => Promise<Given | null> {
  return async (keeper) => (keeper.isServing ? await ask(keeper).catch(() => null) : null)
}

/** @throws EngineDied when no worker was there */
function given<Given>(answers: readonly (Given | null)[]): Given[] {
  const there = answers.filter((answer) => answer !== null)
  if (there.length === 0) throw new EngineDied('the engine is not running')
  return there
}

/** Null when it does not answer in time: a worker that has died holds nothing that one could wait for. */
async function answerOf(keeper: EngineKeeper, question: Question): Promise<Answer> {
  const late = Promise.withResolvers<null>()
  const timer = question.ask === 'wait' ? undefined : setTimeout(() => late.resolve(null), askMs)
  try {
    return await Promise.race([keeper.question(question), late.promise])
  } catch {
    return null
  } finally {
    clearTimeout(timer)
  }
}

/** As many as a report may tell. */
const restartsMax = 20
