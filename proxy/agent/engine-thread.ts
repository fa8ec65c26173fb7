import { Worker } from 'node:worker_threads'
import type { EngineDisconnect } from '../../shared/disconnect.ts'
import type { PoolOperation } from '../../shared/operations.ts'
import type { Handed } from '../io/io.ts'
import type { OperationOutcome } from '../../shared/wire.ts'
import type { OperatedState, OrderedChange, QueryAnswer as WorkerAnswer, WorkerQuery } from '../operation.ts'
import type {
  WorkersStart,
  EngineStart,
  FromEngine,
  PreflightRule,
  ProcessStart,
  StopMode,
  ToEngine,
  UnixListen,
} from '../port.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { ApplyOutcome, FleetSpec, PreflightOutcome } from '../spec.ts'
import { closeMarked, mark, wake } from './libc.ts'
import { reasonOf, type Log } from './log.ts'

export interface ListenAddress {
  readonly host: string
  readonly port: number
  readonly unix?: UnixListen | undefined
}

/** Where to listen, and open descriptors by key, which outlive the threads that accept from them. */
export type Listening = EngineStart['listen']

/** Connects a worker with the others. */
export interface WorkerTies {
  readonly start: WorkersStart
  readonly onHandOver: (to: number, handed: Handed, bytes: Uint8Array, placedLife: number | null) => void
  readonly onQuery: (id: number, query: WorkerQuery) => void
}

export interface EngineThreadOptions {
  /** The module that the thread runs. */
  readonly entry: URL
  readonly listen: Listening
  /** The agent's eventfd; it outlives the thread. */
  readonly wakeFd: number
  /** A thread that does not answer for this long is terminated. */
  readonly answerMs: number
  readonly log: Log
  readonly onDisconnect: (disconnect: EngineDisconnect) => void
  readonly onReload: (id: number) => void
  /** The engine needs the list of peers. */
  readonly onPeers: () => void
  /** Operators' state has changed. */
  readonly onOperated?: (state: OperatedState) => void
  /** An operator requested a shutdown at the console. */
  readonly onShutdown: (mode: StopMode) => void
  /** It no longer accepts connections. */
  readonly onUnlistened?: () => void
  readonly process: ProcessStart
  /** The thread has exited, and its descriptors are closed. */
  readonly onOver?: () => void
  /** Absent with a single worker. */
  readonly workers?: WorkerTies
}

/** The thread exited before it answered. */
export class EngineDied extends Error {
  override readonly name = 'EngineDied'
}

type Answer = ApplyOutcome | PreflightOutcome | EngineSnapshot | OperationOutcome | { readonly of: WorkerAnswer }

interface Pending {
  readonly resolve: (value: Answer) => void
  readonly reject: (error: EngineDied) => void
}

/** No process can have more descriptors (default of fs.nr_open). */
const fdsMax = 1_048_576

/**
 * The engine allocates little once clients have logged in, so V8's default young generation (48 MiB) would fill with
 * garbage of logins alone: with 2,000 idle clients, 7 KB of resident memory for each instead of 1.3.
 */
const maxYoungGenerationSizeMb = 6

/** A deadline that fires this late shows that the whole process was stopped, not the engine alone. */
const stoodStillMs = 1000

/**
 * One run of the engine's thread, from start to exit. The thread blocks in its own loop, so each message to it is
 * followed by a wakeup. File descriptors that it leaves open are closed.
 */
export class EngineThread {
  readonly #options: EngineThreadOptions
  readonly #worker: Worker
  readonly #openFds = new SharedArrayBuffer(fdsMax / 8)
  readonly #pending = new Map<number, Pending>()
  readonly #listening = Promise.withResolvers<Listening>()
  readonly #ended = Promise.withResolvers<{ readonly reason: string }>()
  #lastId = 0
  /** Why it ends; the first reason is kept. */
  #reason: string | undefined
  #isOver = false

  constructor(options: EngineThreadOptions) {
    this.#options = options
    // A caller that uses `ended` only must not fail on this rejection.
    this.#listening.promise.catch(() => undefined)
    const workerData: EngineStart = {
      listen: options.listen,
      wakeFd: options.wakeFd,
      openFds: this.#openFds,
      process: options.process,
      ...(options.workers === undefined ? {} : { workers: options.workers.start }),
    }
    this.#worker = new Worker(options.entry, {
      workerData,
      name: 'engine',
      resourceLimits: { maxYoungGenerationSizeMb },
    })
    this.#worker.on('message', (message: FromEngine) => this.#receive(message))
    this.#worker.on('messageerror', (error) => this.#end(`it sent an invalid message: ${reasonOf(error)}`))
    this.#worker.on('error', (error) => {
      this.#reason ??= reasonOf(error)
      options.log('error', 'the engine failed', { reason: reasonOf(error), stack: stackOf(error) })
    })
    this.#worker.on('exit', (code) => this.#over(code))
    this.#endUnlessListening()
  }

  /** Where it listens; rejects with an EngineDied if it exits before. */
  get listening(): Promise<Listening> {
    return this.#listening.promise
  }

  /** Resolves when the thread has exited and its file descriptors are closed. Never rejects. */
  get ended(): Promise<{ readonly reason: string }> {
    return this.#ended.promise
  }

  post(message: ToEngine): void {
    if (this.#isOver) return
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker.postMessage(message)
    wake(this.#options.wakeFd)
  }

  /** Rejects with an EngineDied. */
  async apply(spec: FleetSpec, force: boolean): Promise<ApplyOutcome> {
    // The engine answers `apply` with `applied` and the same id: see #receive.
    return (await this.#ask((id) => ({ type: 'apply', id, force, spec }))) as ApplyOutcome
  }

  /** Rejects with an EngineDied. The answer may take as long as logins to servers. */
  async preflight(spec: FleetSpec, rule: PreflightRule, atOnce: number): Promise<PreflightOutcome> {
    return (await this.#ask((id) => ({ type: 'preflight', id, spec, rule, atOnce }), false)) as PreflightOutcome
  }

  /** Rejects with an EngineDied. */
  async snapshot(tables?: true): Promise<EngineSnapshot> {
    const asked = tables === true ? { tables } : {}
    return (await this.#ask((id) => ({ type: 'snapshot', id, ...asked }))) as EngineSnapshot
  }

  /** Rejects with an EngineDied. */
  async operate(operation: PoolOperation, pool: string, acts: boolean): Promise<OperationOutcome> {
    return (await this.#ask((id) => ({ type: 'operate', id, operation, pool, acts }))) as OperationOutcome
  }

  /** Rejects with an EngineDied. */
  async carryOut(changes: readonly OrderedChange[]): Promise<void> {
    await this.#ask((id) => ({ type: 'carry_out', id, changes }))
  }

  /** Rejects with an EngineDied. The answer may take any time. */
  async query(query: WorkerQuery): Promise<WorkerAnswer> {
    const answer = await this.#ask((id) => ({ type: 'query', id, query }), query.kind !== 'wait')
    return (answer as { readonly of: WorkerAnswer }).of
  }

  /** Hands over a connection. Its descriptor is closed with the thread's if it exits before it receives it. */
  handOver(handed: Handed, bytes: Uint8Array, placedLife: number | null): void {
    mark(this.#openFds, handed.fd)
    this.post({ type: 'handed', handed, bytes, placedLife })
  }

  /** Terminates the thread, even in an endless loop. */
  terminate(reason: string): void {
    this.#end(reason)
  }

  async #ask(message: (id: number) => ToEngine, isWatched = true): Promise<Answer> {
    if (this.#isOver) throw new EngineDied('the engine is not running')
    this.#lastId += 1
    const id = this.#lastId
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    this.#pending.set(id, { resolve, reject })
    if (isWatched) this.#watch(id)
    this.post(message(id))
    return await promise
  }

  #endUnlessListening(): void {
    const ms = this.#options.answerMs
    const timer = setTimeout(() => this.#end(`it did not listen within ${ms} ms`), ms)
    const clear = (): void => clearTimeout(timer)
    this.#listening.promise.then(clear, clear)
  }

  #watch(id: number): void {
    const ms = this.#options.answerMs
    const dueAt = performance.now() + ms
    const check = (): void => {
      if (!this.#pending.has(id)) return
      if (performance.now() - dueAt < stoodStillMs) this.#end(`it did not answer for ${ms} ms`)
      else this.#watch(id)
    }
    setTimeout(check, ms).unref()
  }

  #receive(message: FromEngine): void {
    switch (message.type) {
      case 'listening':
        this.#listening.resolve({
          ...this.#options.listen,
          host: message.host,
          port: message.port,
          ...(message.fds === undefined ? {} : { fds: message.fds }),
        })
        return
      case 'applied':
      case 'preflighted':
        this.#answer(message.id, message.outcome)
        return
      case 'snapshot':
        this.#answer(message.id, message.snapshot)
        return
      case 'operated':
        this.#answer(message.id, message.outcome)
        return
      case 'answer':
        this.#answer(message.id, { of: message.answer })
        return
      case 'unlistened':
        this.#options.onUnlistened?.()
        return
      case 'hand':
        this.#options.workers?.onHandOver(message.to, message.handed, message.bytes, message.placedLife)
        return
      case 'query':
        this.#options.workers?.onQuery(message.id, message.query)
        return
      case 'shutdown':
        this.#options.onShutdown(message.mode)
        return
      case 'disconnect':
        this.#options.onDisconnect(message.disconnect)
        return
      case 'reload':
        this.#options.onReload(message.id)
        return
      case 'peers':
        this.#options.onPeers()
        return
      case 'state':
        this.#options.onOperated?.(message.state)
        return
      case 'log':
        this.#options.log(message.level, message.message, message.fields)
        return
      case 'stopped':
        this.#reason ??= 'it was stopped'
        return
      default:
        message satisfies never
    }
  }

  #answer(id: number, value: Answer): void {
    const pending = this.#pending.get(id)
    if (pending === undefined) return
    this.#pending.delete(id)
    pending.resolve(value)
  }

  #end(reason: string): void {
    if (this.#isOver) return
    this.#reason ??= reason
    void this.#worker.terminate()
    // The thread notices the termination only when its system call returns.
    wake(this.#options.wakeFd)
  }

  #over(exitCode: number): void {
    this.#isOver = true
    const reason = this.#reason ?? `it exited with code ${exitCode}`
    const left = closeMarked(this.#openFds)
    this.#options.onOver?.()
    if (left > 0) this.#options.log('info', 'closed connections left open by the engine', { file_descriptors: left })
    const died = new EngineDied(`the engine died: ${reason}`)
    this.#listening.reject(died)
    for (const { reject } of this.#pending.values()) reject(died)
    this.#pending.clear()
    this.#ended.resolve({ reason })
  }
}

function stackOf(thrown: unknown): string | null {
  return thrown instanceof Error ? (thrown.stack ?? null) : null
}
