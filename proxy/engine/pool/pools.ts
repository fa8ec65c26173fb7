import { createHash } from 'node:crypto'
import { changeOf, pastOf, type Change } from '../../../shared/change.ts'
import { wildcard } from '../../../shared/config/wildcard.ts'
import { comparePositions } from '../../../shared/position.ts'
import type { Position } from '../../../shared/wire.ts'
import { AuthQueries, looksUp } from '../auth/auth-query.ts'
import type { Context } from './context.ts'
import type { Exchange } from '../wire/conversation.ts'
import type { OperatedState } from '../../operation.ts'
import type { ApplyOutcome, ClientSecret, FleetSpec, PoolSpec, TlsUpdate } from '../../spec.ts'
import { Pool } from './pool.ts'
import type { ServerSet } from './server-set.ts'

/** All pools, and their configuration. */
export class Pools {
  readonly authQueries: AuthQueries
  readonly #context: Context
  readonly #pools = new Map<string, Map<string, Pool>>()
  running: Position | null = null
  /** PAUSE without a database: all present and future pools. */
  #pausedAll = false
  readonly #paused = new Set<string>()
  readonly #disabled = new Set<string>()
  /** Models of the running version, see `modelOf`. */
  readonly #models = new Map<string, ServerSet | null>()
  /** Wakes logins that wait for the end of a pause before auth_query. */
  readonly heldUp = new Set<() => void>()

  constructor(context: Context) {
    this.#context = context
    this.authQueries = new AuthQueries(context)
  }

  *all(): Generator<Pool> {
    for (const users of this.#pools.values()) yield* users.values()
  }

  find(database: string, user: string): Pool | null {
    return this.#pools.get(database)?.get(user) ?? null
  }

  /** With "*", including pools created for databases it stands for. */
  *ofDatabase(database: string): Generator<Pool> {
    yield* this.#pools.get(database)?.values() ?? []
    if (database !== wildcard) return
    for (const pool of this.all()) if (pool.template?.database === wildcard) yield pool
  }

  *ofUser(user: string): Generator<Pool> {
    for (const users of this.#pools.values()) {
      const pool = users.get(user)
      if (pool !== undefined) yield pool
    }
  }

  // Pause and disable belong to a database: configurations come and go.

  get pausedAll(): boolean {
    return this.#pausedAll
  }

  isPaused(database: string): boolean {
    return this.#paused.has(database)
  }

  isDisabled(database: string): boolean {
    return this.#disabled.has(database) || (this.#disabled.has(wildcard) && !this.#isConfigured(database))
  }

  /** With null, of all databases. False if nothing has changed. */
  setPaused(database: string | null, paused: boolean): boolean {
    if (database === null) {
      if (this.#pausedAll === paused) return false
      this.#pausedAll = paused
    } else {
      if (this.#paused.has(database) === paused) return false
      if (paused) this.#paused.add(database)
      else this.#paused.delete(database)
    }
    for (const pool of this.all()) pool.setPaused(this.pauseApplies(pool.database))
    // Connections of auth_query close with the others; queries waiting for a pause are checked again.
    if (paused) this.authQueries.clear()
    this.wakeHeldUp()
    this.#context.operated()
    return true
  }

  /** Whether its clients wait, by whichever pause. */
  pauseApplies(database: string): boolean {
    if (this.#pausedAll || this.#paused.has(database)) return true
    return this.#paused.has(wildcard) && this.isMade(database)
  }

  /** Only "*" applies to it. */
  isMade(database: string): boolean {
    return !this.#isConfigured(database)
  }

  /** Logins waiting for the end of a PAUSE or SUSPEND are checked again. */
  wakeHeldUp(): void {
    const wakes = [...this.heldUp]
    this.heldUp.clear()
    for (const wake of wakes) wake()
  }

  /** Completes when `database` is neither paused nor suspended, so that a connection to it may be opened. */
  *resumed(database: string, wake: () => void): Exchange<void> {
    while (this.#context.suspended || this.pauseApplies(database)) {
      this.heldUp.add(wake)
      yield
    }
  }

  /** New clients of a disabled database are rejected. False if nothing has changed. */
  setDisabled(database: string, disabled: boolean): boolean {
    if (this.#disabled.has(database) === disabled) return false
    if (disabled) this.#disabled.add(database)
    else this.#disabled.delete(database)
    this.#context.operated()
    return true
  }

  /** Replaces operators' state. */
  restore({ pausedAll, paused, disabled }: OperatedState): void {
    this.setPaused(null, pausedAll)
    for (const database of [...this.#paused, ...paused]) this.setPaused(database, paused.includes(database))
    for (const database of [...this.#disabled, ...disabled]) this.setDisabled(database, disabled.includes(database))
  }

  /** Operators' state of databases. */
  get operated(): Pick<OperatedState, 'pausedAll' | 'paused' | 'disabled'> {
    return { pausedAll: this.#pausedAll, paused: [...this.#paused], disabled: [...this.#disabled] }
  }

  hasDatabase(database: string): boolean {
    return this.#isConfigured(database) || this.#isConfigured(wildcard)
  }

  /** It has a section of its own, with users. */
  #isConfigured(database: string): boolean {
    for (const pool of this.#pools.get(database)?.values() ?? []) {
      if (pool.current !== null && pool.template === null) return true
    }
    return false
  }

  /**
   * A pool of this user in any database, for a client of one that does not exist: it authenticates like there before it
   * is told. One that trusts the user only if there is no other; null if there is none.
   */
  elsewhere(user: string): ServerSet | null {
    const serverSets = [...this.ofUser(user)].flatMap(({ template, current }) =>
      template === null ? (current ?? []) : [],
    )
    return serverSets.find(({ settings }) => settings.authType !== 'trust') ?? serverSets[0] ?? null
  }

  /**
   * Unknown users are challenged like the users of this pool, and so cannot be told from them: its way of logging in is
   * that of most users of the database, or of all databases if this one does not exist. Null if all users are trusted.
   */
  modelOf(database: string): ServerSet | null {
    const section = this.#isConfigured(database) ? database : wildcard
    const known = this.#models.get(section)
    if (known !== undefined) return known
    const names = this.#isConfigured(section) ? (this.#pools.get(section)?.values() ?? []) : this.all()
    const ways = Map.groupBy(
      [...names].flatMap(({ template, current }) => (template === null ? (current ?? []) : [])),
      wayOfLoggingIn,
    )
    ways.delete('trust')
    const [commonest] = [...ways.values()].sort((a, b) => b.length - a.length)
    const model = commonest?.[0] ?? null
    this.#models.set(section, model)
    return model
  }

  /** The pool with "*" for a user without one of its own; null if there is none. */
  templateFor(database: string, user: string): Pool | null {
    if (database === wildcard || user === wildcard) return null
    const users = this.#isConfigured(database) ? [wildcard] : [user, wildcard]
    for (const one of users) {
      const pool = this.find(this.#isConfigured(database) ? database : wildcard, one)
      if (pool !== null && pool.current !== null) return pool
    }
    return null
  }

  /**
   * The pool whose auth_query applies to a user; null for none. If some users of a database are looked up, unknown
   * users are too, because that must take equally long.
   */
  askedAbout(database: string, user: string): PoolSpec | null {
    const serverSet = this.find(database, user)?.current ?? this.templateFor(database, user)?.current ?? null
    if (serverSet !== null) return looksUp(serverSet.spec) ? serverSet.spec : null
    const section = this.#isConfigured(database) ? database : wildcard
    for (const { current } of this.#pools.get(section)?.values() ?? []) {
      if (current !== null && looksUp(current.spec)) return current.spec
    }
    return null
  }

  /** The pool of a client that has authenticated and is served by "*"; null if there are too many of them. */
  make(database: string, user: string): Pool | null {
    const template = this.templateFor(database, user)
    const spec = template?.current?.spec
    if (template === null || spec === undefined) return null
    let pool = this.find(database, user)
    if (pool === null || pool.template === null) {
      if (!this.#makeRoom()) return null
      pool = this.#poolFor(database, user)
    }
    pool.template = template
    pool.worker = this.#context.workers?.self ?? null
    pool.usedAtMs = this.#context.io.nowMs()
    applySpec(pool, specFor(spec, pool))
    return pool
  }

  /**
   * The worker that creates pools for "*": each database or user has one worker, so that the workers together do not
   * exceed the limit.
   */
  workerFor(template: Pool, database: string, user: string, workers: number): number {
    const standsForDatabase = template.database === wildcard
    if (!standsForDatabase && template.worker !== null) return template.worker
    const key = standsForDatabase ? database : JSON.stringify([database, user])
    return createHash('sha256').update(key).digest().readUInt32LE(0) % workers
  }

  /** At the limit, the least recently used ones are removed. */
  #makeRoom(): boolean {
    const made = [...this.all()].filter((pool) => pool.template !== null)
    const { general, workers } = this.#context
    let surplus = made.length + 1 - Math.ceil(general.maxDynamicPools / (workers?.count ?? 1))
    const unused = made.filter((pool) => pool.clientCount === 0).sort((a, b) => a.usedAtMs - b.usedAtMs)
    for (const pool of unused) {
      if (surplus <= 0) break
      pool.remove()
      if (!pool.abandoned) continue
      this.#drop(pool)
      surplus--
    }
    return surplus <= 0
  }

  /**
   * Applies `spec` to all pools in this one step of the loop. Each desired hash is compared with the hash of the
   * running pool, never with what was seen before.
   */
  apply(spec: FleetSpec, force: boolean): ApplyOutcome {
    const count = { added: 0, rebuilt: 0, retuned: 0, removed: 0, kept: 0 }
    if (!force && comparePositions(spec.position, this.running) <= 0) {
      return { applied: false, running: this.running, ...count }
    }
    this.#models.clear()
    const desired = new Set<Pool>()
    for (const poolSpec of spec.pools) {
      const pool = this.#poolFor(poolSpec.database, poolSpec.user)
      pool.template = null
      desired.add(pool)
      pool.worker = poolSpec.worker ?? null
      count[applySpec(pool, poolSpec)]++
    }
    for (const pool of this.all()) {
      if (desired.has(pool) || pool.current === null || pool.template !== null) continue
      pool.remove()
      count.removed++
    }
    this.#followTemplates()
    // Whether a pause of "*" applies to a database depends on whether that has a section of its own.
    for (const pool of this.all()) pool.setPaused(this.pauseApplies(pool.database))
    this.authQueries.clear()
    this.running = spec.position
    return { applied: true, running: this.running, ...count }
  }

  /** Pools created for "*" get its present configuration, by the same comparison, or are removed with it. */
  #followTemplates(): void {
    for (const pool of this.all()) {
      if (pool.template === null || pool.current === null) continue
      const template = this.templateFor(pool.database, pool.user)
      const spec = template?.current?.spec
      if (template === null || spec === undefined) {
        pool.remove()
        continue
      }
      pool.template = template
      applySpec(pool, specFor(spec, pool))
    }
  }

  readdress(hosts: Readonly<Record<string, readonly string[]>>): void {
    for (const pool of this.all()) pool.current?.readdress(hosts)
  }

  /** Certificates were reloaded, for new servers. */
  secure(pools: TlsUpdate['pools']): void {
    for (const { database: pool, user, serverTls } of pools) {
      const running = this.find(pool, user)?.current
      if (running?.spec.serverTls !== undefined) running.adopt({ ...running.spec, serverTls })
    }
    for (const { template, current } of this.all()) {
      const serverTls = template?.current?.spec.serverTls
      if (current !== null && serverTls !== undefined) current.adopt({ ...current.spec, serverTls })
    }
  }

  /** Called about once a second. */
  maintain(): void {
    const nowMs = this.#context.io.nowMs()
    this.#context.limits.freed()
    this.authQueries.maintain(nowMs)
    for (const pool of this.all()) {
      pool.current?.maintain(nowMs)
      if (pool.template !== null) this.#age(pool, nowMs)
      if (pool.abandoned) this.#drop(pool)
    }
  }

  #age(pool: Pool, nowMs: number): void {
    if (pool.clientCount > 0) pool.usedAtMs = nowMs
    const isUnused = nowMs - pool.usedAtMs >= this.#context.general.autodbIdleTimeoutMs
    if (isUnused && pool.current !== null) pool.remove()
  }

  #drop(pool: Pool): void {
    pool.close()
    const users = this.#pools.get(pool.database)
    users?.delete(pool.user)
    if (users?.size === 0) this.#pools.delete(pool.database)
  }

  #poolFor(database: string, user: string): Pool {
    let users = this.#pools.get(database)
    if (users === undefined) {
      users = new Map()
      this.#pools.set(database, users)
    }
    let pool = users.get(user)
    if (pool === undefined) {
      pool = new Pool(this.#context, database, user)
      pool.setPaused(this.pauseApplies(database))
      users.set(user, pool)
    }
    return pool
  }

  assertInvariants(): void {
    for (const pool of this.all()) pool.assertInvariants()
  }
}

/** Everything by which a stranger could tell two users apart. */
function wayOfLoggingIn({ settings, spec }: ServerSet): string {
  const { authType, authIdentMap } = settings
  if (authType === 'trust') return authType
  const { previous, ...secret } = spec.clientSecret
  const forms = [secret, previous ?? noSecret].map(({ md5, scram, digest }) => [
    md5 === null,
    scram === null ? null : [scram.iterations, scram.salt.length],
    digest === undefined,
  ])
  return JSON.stringify([authType, authIdentMap, forms])
}

const noSecret: ClientSecret = { md5: null, scram: null }

/** Applies `spec` to `pool`, at the cost that the difference requires. */
function applySpec(pool: Pool, spec: PoolSpec): (typeof pastOf)[Change] {
  const running = pool.current
  const change = changeOf(running?.spec, spec)
  if (running === null || change === 'add' || change === 'rebuild') pool.replace(spec)
  else if (change === 'retune') running.retune(spec)
  else running.adopt(spec)
  return pastOf[change]
}

/** The configuration of "*" for one database and user; it has the hash of "*". */
function specFor(spec: PoolSpec, { database, user }: Pool): PoolSpec {
  return {
    ...spec,
    database,
    user,
    serverDatabase: spec.database === wildcard && spec.serverDatabase === wildcard ? database : spec.serverDatabase,
    serverUser: spec.user === wildcard && spec.serverUser === wildcard ? user : spec.serverUser,
  }
}
