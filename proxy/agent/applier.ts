import type { PoolHash } from '../../shared/config/effective.ts'
import { newestFormat } from '../../shared/config/formats.ts'
import { comparePositions } from '../../shared/position.ts'
import type { Position } from '../../shared/wire.ts'
import type { ApplyOutcome, Desired, FleetSpec, PoolSpec, PoolVerdict, PreflightOutcome } from '../spec.ts'
import type { Backoff } from './backoff.ts'
import type { Workers } from './workers.ts'
import { EngineDied } from './engine-thread.ts'
import { ApplyError, failures } from './failure.ts'
import { reasonOf, type Log } from './log.ts'
import type { Offer } from './offer.ts'
import { hostsOf, prepare, type PrepareTools } from './prepare.ts'
import type { Resolver } from './resolver.ts'

/** A desired version. */
export interface Candidate {
  readonly position: Position
  /** Body format of its hashes. */
  readonly format: number
  /** Its pools by hash, before their configuration is loaded. */
  readonly pools: readonly PoolHash[]
  /** Fetches and verifies the content, again at every attempt. Throws an ApplyError. */
  readonly load: () => Promise<Offer>
  /** Apply even if its position is not above the running one. */
  readonly force: boolean
  /** Apply without trying whether its pools serve. */
  readonly unproven?: true
}

export interface ApplierOptions {
  readonly engine: Workers
  readonly tools: PrepareTools & { readonly resolver: Resolver }
  readonly backoff: Backoff
  readonly log: Log
  /** Starts the engine for the first version, which determines the listen address. */
  readonly startEngine: (spec: FleetSpec) => Promise<void>
  /** Throws an ApplyError if the process could not start with these settings, which take effect with its next start. */
  readonly tryProcess: (spec: FleetSpec) => Promise<void>
  /** The engine runs this offer; saves it on disk. Must not throw. */
  readonly onApplied: (offer: Offer, isWhole: boolean) => Promise<void>
  /** Called when a version begins to be tried, which takes as long as logins to servers. */
  readonly onTrying: () => void
  /** Called when control should be told at once: applied, failed. */
  readonly onEdge: () => void
}

/**
 * The only path by which a configuration is applied, whatever its source. The desired version is always compared with
 * what the engine runs. A candidate that fails remains desired and is retried: with backoff where the cause may pass,
 * at once on request.
 */
export class Applier {
  readonly #options: ApplierOptions
  #candidate: Candidate | undefined
  /** Number of times the engine has died while applying the candidate. */
  #deaths = 0
  #error: ApplyError | null = null
  #runningPools: readonly PoolHash[] = []
  /** Why pools of the running version are missing, which only a starting proxy allows; null if none is. */
  #lack: ApplyError | null = null
  #runningFormat: number | undefined
  #appliedAtMs: number | undefined
  #retryTimer: NodeJS.Timeout | undefined
  /** Ends the preflight in progress, because its version is no longer wanted. */
  #supersede: (() => void) | undefined
  /** Attempts run one at a time. */
  #queue: Promise<unknown> = Promise.resolve()
  #stopped = false

  constructor(options: ApplierOptions) {
    this.#options = options
  }

  /** Position of the last candidate; null before the first. */
  get offered(): Position | null {
    return this.#candidate?.position ?? null
  }

  /** Position that the engine runs; null before the first. */
  get applied(): Position | null {
    return this.#options.engine.running?.position ?? null
  }

  /** Why the candidate does not run; null if it does. */
  get error(): ApplyError | null {
    return this.#error
  }

  /** Body format of the hashes that the engine runs; undefined before the first. */
  get runningFormat(): number | undefined {
    return this.#runningFormat
  }

  get desiredPools(): readonly PoolHash[] {
    return this.#candidate?.pools ?? []
  }

  /** Time since the running version was applied; undefined without one. */
  get appliedAgeMs(): number | undefined {
    return this.#appliedAtMs === undefined ? undefined : performance.now() - this.#appliedAtMs
  }

  /**
   * Applies the candidate. Resolves with the error, or null. Never rejects. A former one that is still being tried is given
   * up: servers that do not answer must not delay the version that mends them.
   */
  async apply(candidate: Candidate): Promise<ApplyError | null> {
    this.#supersede?.()
    return await this.#enqueue(async () => {
      this.#candidate = candidate
      this.#deaths = 0
      this.#options.backoff.reset()
      return await this.#attempt(candidate)
    })
  }

  /** Retries a failed candidate now. Resolves like `apply`. */
  async retry(): Promise<ApplyError | null> {
    return await this.#enqueue(async () => {
      if (this.#candidate === undefined || this.#error === null) return this.#error
      return await this.#attempt(this.#candidate)
    })
  }

  /** Records a desired version that cannot be loaded, such as an invalid configuration file. */
  async refuse(position: Position, error: ApplyError): Promise<ApplyError> {
    return await this.#enqueue(async () => {
      const load = async (): Promise<Offer> => await Promise.reject(error)
      this.#candidate = { position, format: newestFormat, pools: this.#runningPools, load, force: false }
      this.#fail(error)
      return await Promise.resolve(error)
    })
  }

  /** Resolves when no attempt is in progress; no further attempt begins. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#supersede?.()
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
      // The next attempt, which waits already, is about another version.
      if (failure.code === 'superseded') return failure
      if (failure.code === 'internal_error') {
        this.#options.log('error', 'internal error while applying a version', { stack: stackOf(error) })
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
    // The running version under other hashes, which control offers once another format is agreed, or with pools that it
    // still lacks.
    const isReformatted = this.#isReformatted(candidate)
    const completes = this.#lack !== null && comparePositions(candidate.position, this.applied) === 0
    if (!isReformatted && !completes) refuseOlder(candidate, this.applied)
    const startedAtMs = performance.now()
    const offer = await candidate.load()
    const { spec, lack } = await prepare(offer, tools, this.#mayLack())
    if (completes && lack !== null && lack.others.length === this.#lack?.others.length) throw lack
    if (engine.address === undefined) await this.#options.startEngine(spec)
    else await this.#options.tryProcess(spec)
    await this.#prove(candidate, spec)
    const outcome = await engine.apply(spec, candidate.force || isReformatted || completes)
    if (!outcome.applied) throw olderThan(candidate.position, outcome.running)

    this.#lack = lack
    this.#runningPools = candidate.pools.filter(({ pool, user }) => (lack?.about(pool, user) ?? null) === null)
    this.#runningFormat = candidate.format
    this.#appliedAtMs = performance.now()
    tools.resolver.watch(hostsOf(offer), spec.general.dnsMaxTtlMs)
    log('info', 'version applied', {
      ...candidate.position,
      ...countsOf(outcome),
      took_ms: Math.round(this.#appliedAtMs - startedAtMs),
    })
    await this.#options.onApplied(offer, lack === null)
    if (lack !== null) throw lack
    this.#succeed(candidate)
  }

  /**
   * A proxy that starts serves what it can: pools that could not be prepared are missing, and are tried again. Later a
   * version is applied whole or not at all, but what is missing may still be.
   */
  #mayLack(): (pool: { readonly pool: string; readonly user: string }) => boolean {
    const { running } = this.#options.engine
    if (running === undefined) return () => true
    if (this.#lack === null) return () => false
    const served = new Set(running.pools.map(({ database, user }) => JSON.stringify([database, user])))
    return ({ pool, user }) => !served.has(JSON.stringify([pool, user]))
  }

  /**
   * Tries the servers that the version adds or replaces. The rule is that of the running version, so that no version
   * exempts itself. Throws an ApplyError.
   */
  async #prove({ unproven }: Candidate, spec: FleetSpec): Promise<void> {
    const { engine, log } = this.#options
    const { running } = engine
    // With nothing running there is nothing to protect.
    if (running === undefined || running.general.preflight === 'off' || !changes(running, spec)) return
    if (unproven === true) {
      log('warn', 'version not tried before it is applied, as an operator has demanded', spec.position)
      return
    }
    let isWanted = true
    this.#supersede = () => {
      isWanted = false
      engine.endPreflight()
    }
    this.#options.onTrying()
    const outcome = await engine.preflight(spec, running.general.preflight).finally(() => (this.#supersede = undefined))
    if (!isWanted) throw new ApplyError('superseded', failures.superseded.help)
    logVerdicts(outcome, log)
    const [refused] = outcome.refused
    if (refused === undefined) return
    engine.endPreflight()
    throw cannotServe(refused, outcome.refused.length - 1)
  }

  /** Whether the engine runs exactly the candidate's pools at its position. */
  #runs({ position, pools }: Candidate): boolean {
    return comparePositions(position, this.applied) === 0 && sameHashes(pools, this.#runningPools)
  }

  #isReformatted({ position, format }: Candidate): boolean {
    return comparePositions(position, this.applied) === 0 && format !== (this.#runningFormat ?? format)
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
      const isPartial = this.#lack !== null && comparePositions(candidate?.position ?? null, this.applied) === 0
      this.#options.log('error', isPartial ? lackText : rejectedText, {
        ...candidate?.position,
        code: error.code,
        reason: error.message,
        pool: error.pool,
        user: error.user,
        ...(error.others.length === 0 ? {} : { other_pools: error.others.length }),
      })
    }
    this.#options.onEdge()
    if (error.code === 'engine_died') this.#deaths += 1
    // One death may have another cause. After a second one the version is not retried, because each costs all clients
    // their connections.
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

const rejectedText = 'version rejected; the running version stays'
const lackText = 'pools could not be prepared, and will be tried again; the others are served'

/** Whether any pool would run with another configuration. */
function changes(running: FleetSpec, { pools }: FleetSpec): boolean {
  const key = ({ database, user, hash }: PoolSpec): string => JSON.stringify([database, user, hash])
  const keys = new Set(running.pools.map(key))
  return pools.some((pool) => !keys.has(key(pool)))
}

function cannotServe({ database, user, message }: PoolVerdict, others: number): ApplyError {
  const more = others === 0 ? '' : `; and ${others} more pools`
  return new ApplyError('cannot_serve', `${message}${more}`, { pool: database, user })
}

const verdictTexts = {
  failing: 'pools of the version do not serve, as they do not now',
  unknown: 'pools of the version could not be tried',
} as const

function logVerdicts(outcome: PreflightOutcome, log: Log): void {
  for (const kind of ['failing', 'unknown'] as const) {
    const [first] = outcome[kind]
    if (first === undefined) continue
    const { database: pool, user, message: reason } = first
    log('warn', verdictTexts[kind], { pools: outcome[kind].length, pool, user, reason })
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
    `version ${offered.version} of epoch ${offered.epoch} is not above the running one, ${running}; ` +
      'if control was restored from a backup, raise its epoch',
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
