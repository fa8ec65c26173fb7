import type { PoolHash } from '../../shared/config/effective.ts'
import { comparePositions } from '../../shared/position.ts'
import type { Position } from '../../shared/wire.ts'
import type { ApplyOutcome, Desired, FleetSpec } from '../spec.ts'
import type { Backoff } from './backoff.ts'
import type { Workers } from './workers.ts'
import { EngineDied } from './engine-thread.ts'
import { ApplyError } from './failure.ts'
import { reasonOf, type Log } from './log.ts'
import type { Offer } from './offer.ts'
import { hostsOf, prepare, type PrepareTools } from './prepare.ts'
import type { Resolver } from './resolver.ts'

/** A version that somebody wants to run. */
export interface Candidate {
  readonly position: Position
  /** What it promises, before its content is known. */
  readonly pools: readonly PoolHash[]
  /** Gets and verifies the content. Called again at every attempt. Throws an ApplyError. */
  readonly load: () => Promise<Offer>
  /** Runs even if its position is not above the running one. */
  readonly force: boolean
}

export interface ApplierOptions {
  readonly engine: Workers
  readonly tools: PrepareTools & { readonly resolver: Resolver }
  readonly backoff: Backoff
  readonly log: Log
  /** Starts the engine for the version that is run first, which says where to listen. */
  readonly startEngine: (spec: FleetSpec) => Promise<void>
  /** The engine runs this offer now; keeps it on disk. Must not throw. */
  readonly onApplied: (offer: Offer) => Promise<void>
  /** Something that control should hear of at once: applied, failed. */
  readonly onEdge: () => void
}

/**
 * The one path by which a configuration comes to run, wherever it came from. What is compared is always what is
 * desired with what the engine runs. A candidate that fails stays the desired one, and is tried again: by itself where
 * the cause may pass, at once when somebody asks.
 */
export class Applier {
  readonly #options: ApplierOptions
  #candidate: Candidate | undefined
  /** How often the engine has ended while it took the candidate. */
  #deaths = 0
  #error: ApplyError | null = null
  #runningPools: readonly PoolHash[] = []
  #appliedAtMs: number | undefined
  #retryTimer: NodeJS.Timeout | undefined
  /** Attempts run one after the other. */
  #queue: Promise<unknown> = Promise.resolve()
  #stopped = false

  constructor(options: ApplierOptions) {
    this.#options = options
  }

  /** The last candidate's position; null before the first. */
  get offered(): Position | null {
    return this.#candidate?.position ?? null
  }

  /** What the engine runs; null before the first. */
  get applied(): Position | null {
    return this.#options.engine.running?.position ?? null
  }

  /** Why the candidate does not run; null when it does. */
  get error(): ApplyError | null {
    return this.#error
  }

  get desiredPools(): readonly PoolHash[] {
    return this.#candidate?.pools ?? []
  }

  get runningPools(): readonly PoolHash[] {
    return this.#runningPools
  }

  /** Since the running version was applied; undefined while nothing runs. */
  get appliedAgeMs(): number | undefined {
    return this.#appliedAtMs === undefined ? undefined : performance.now() - this.#appliedAtMs
  }

  /** Makes the candidate run. Resolves with why it does not; null when it does. Never rejects. */
  async apply(candidate: Candidate): Promise<ApplyError | null> {
    return await this.#enqueue(async () => {
      this.#candidate = candidate
      this.#deaths = 0
      this.#options.backoff.reset()
      return await this.#attempt(candidate)
    })
  }

  /** Tries a failed candidate again now. Resolves like `apply`. */
  async retry(): Promise<ApplyError | null> {
    return await this.#enqueue(async () => {
      if (this.#candidate === undefined || this.#error === null) return this.#error
      return await this.#attempt(this.#candidate)
    })
  }

  /** Something is wanted that cannot even be offered: a configuration file that is not valid. */
  async refuse(position: Position, error: ApplyError): Promise<ApplyError> {
    return await this.#enqueue(async () => {
      const load = async (): Promise<Offer> => await Promise.reject(error)
      this.#candidate = { position, pools: this.#runningPools, load, force: false }
      this.#fail(error)
      return await Promise.resolve(error)
    })
  }

  /** Resolves once no attempt is under way; none is begun afterwards. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#retryTimer)
    await this.#queue
  }

  async #enqueue<Result>(task: () => Promise<Result>): Promise<Result> {
    const result = this.#queue.then(task)
    this.#queue = result.catch(() => undefined)
    return await result
  }

  async #attempt(candidate: Candidate): Promise<ApplyError | null> {
    clearTimeout(this.#retryTimer)
    if (this.#stopped) return this.#error
    const before = this.#error
    try {
      await this.#run(candidate)
      return null
    } catch (error) {
      const failure = asApplyError(error)
      if (failure.code === 'internal_error') {
        this.#options.log('error', 'applying a version failed by a fault of the proxy', { stack: stackOf(error) })
      }
      this.#fail(failure, before)
      return failure
    }
  }

  async #run(candidate: Candidate): Promise<void> {
    const { engine, tools, log } = this.#options
    this.#tellDesired(candidate, this.#error)
    if (this.#runs(candidate)) {
      this.#succeed(candidate)
      return
    }
    refuseOlder(candidate, this.applied)
    const startedAtMs = performance.now()
    const offer = await candidate.load()
    const spec = await prepare(offer, tools)
    if (engine.address === undefined) await this.#options.startEngine(spec)
    const outcome = await engine.apply(spec, candidate.force)
    if (!outcome.applied) throw olderThan(candidate.position, outcome.running)

    this.#runningPools = candidate.pools
    this.#appliedAtMs = performance.now()
    tools.resolver.watch(hostsOf(offer), spec.general.dnsMaxTtlMs)
    log('info', 'applied a version', {
      ...candidate.position,
      ...countsOf(outcome),
      took_ms: Math.round(this.#appliedAtMs - startedAtMs),
    })
    await this.#options.onApplied(offer)
    this.#succeed(candidate)
  }

  /** The running pools are the very ones the candidate wants, under its position. */
  #runs({ position, pools }: Candidate): boolean {
    return comparePositions(position, this.applied) === 0 && sameHashes(pools, this.#runningPools)
  }

  #succeed(candidate: Candidate): void {
    this.#error = null
    this.#options.backoff.reset()
    this.#tellDesired(candidate, null)
    this.#options.onEdge()
  }

  #fail(error: ApplyError, before: ApplyError | null = null): void {
    this.#error = error
    const candidate = this.#candidate
    if (candidate !== undefined) this.#tellDesired(candidate, error)
    if (before?.sentence !== error.sentence) {
      this.#options.log('error', 'a version was refused; what ran goes on', {
        ...candidate?.position,
        code: error.code,
        reason: error.message,
        pool: error.pool,
        user: error.user,
      })
    }
    this.#options.onEdge()
    if (error.code === 'engine_died') this.#deaths += 1
    // The first death may have had nothing to do with the version; a second one has, and costs clients again.
    const mayPass = error.code === 'engine_died' ? this.#deaths === 1 : error.retriesAlone
    if (mayPass && !this.#stopped) {
      this.#retryTimer = setTimeout(() => void this.retry(), this.#options.backoff.next())
    }
  }

  #tellDesired(candidate: Candidate, error: ApplyError | null): void {
    const desired: Desired = {
      position: candidate.position,
      pools: candidate.pools.map(({ pool, user, hash }) => ({ pool, user, hash })),
      error: error?.outline ?? null,
    }
    this.#options.engine.desired(desired)
  }
}

function refuseOlder(candidate: Candidate, applied: Position | null): void {
  if (!candidate.force && comparePositions(candidate.position, applied) <= 0) {
    throw olderThan(candidate.position, applied)
  }
}

function olderThan(offered: Position, applied: Position | null): ApplyError {
  const running = applied === null ? 'nothing' : `version ${applied.version} of epoch ${applied.epoch}`
  return new ApplyError(
    'older_position',
    `version ${offered.version} of epoch ${offered.epoch} is not above what runs, ${running}; ` +
      'when control was restored from a backup, its epoch must be raised',
  )
}

function sameHashes(one: readonly PoolHash[], other: readonly PoolHash[]): boolean {
  if (one.length !== other.length) return false
  const key = ({ pool, user, hash }: PoolHash): string => JSON.stringify([pool, user, hash])
  const keys = new Set(one.map(key))
  return other.every((pool) => keys.has(key(pool)))
}

function countsOf({ added, rebuilt, retuned, removed, kept }: ApplyOutcome): Record<string, number> {
  return { added, rebuilt, retuned, removed, kept }
}

function asApplyError(error: unknown): ApplyError {
  if (error instanceof ApplyError) return error
  if (error instanceof EngineDied) return new ApplyError('engine_died', error.message, { cause: error })
  return new ApplyError('internal_error', reasonOf(error), { cause: error })
}

function stackOf(error: unknown): string | null {
  return error instanceof Error ? (error.stack ?? null) : null
}
