import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { pastOf } from '../../../shared/change.ts'
import { wildcard } from '../../../shared/config/wildcard.ts'
import { comparePositions } from '../../../shared/position.ts'
import type { Position } from '../../../shared/wire.ts'
import { AuthQueries, looksUp } from '../auth/auth-query.ts'
import { ClosedServers } from './closed-servers.ts'
import type { Context } from './context.ts'
import { Statements } from '../session/prepared.ts'
import type { Exchange } from '../wire/conversation.ts'
import type { OperatedState } from '../../operation.ts'
import type { ApplyOutcome, ClientSecret, FleetSpec, PoolSpec, TlsUpdate } from '../../spec.ts'
import { Pool } from './pool.ts'
import { ServerSource } from './server-source.ts'
import { sharedKey, specFor, supplies, supplyKey, templatesOf } from './supply.ts'
import type { Supplied } from './supply.ts'
import { withAddresses } from './target.ts'

/** All pools, and their configuration. */
export class Pools {
  readonly authQueries: AuthQueries
  readonly #context: Context
  readonly #pools = new Map<string, Map<string, Pool>>()
  /** By database and key. */
  readonly #sources = new Map<string, Map<string, ServerSource>>()
  /** What the pools of a database have in common, whatever they take their servers from. */
  readonly #common = new Map<string, { readonly statements: Statements; readonly closedServers: ClosedServers }>()
  running: Position | null = null
  /** PAUSE without a database: all present and future pools. */
  #pausedAll = false
  readonly #paused = new Set<string>()
  readonly #disabled = new Set<string>()
  /** Models of the running version, see `modelOf`. */
  readonly #models = new Map<string, PoolSpec | null>()
  /** Wakes logins that wait for the end of a pause before auth_query. */
  readonly heldUp = new Set<() => void>()

  constructor(context: Context) {
    this.#context = context
    this.authQueries = new AuthQueries(context)
  }

  *all(): Generator<Pool> {
    for (const users of this.#pools.values()) yield* users.values()
  }

  /** Everything that servers come from. */
  *sources(): Generator<ServerSource> {
    for (const sources of this.#sources.values()) yield* sources.values()
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
    this.#pauseSources()
    // Connections of auth_query close with the others; queries waiting for a pause are checked again.
    if (paused) this.authQueries.clear()
    this.wakeHeldUp()
    this.#context.operated()
    return true
  }

  #pauseSources(): void {
    for (const source of this.sources()) source.setPaused(this.pauseApplies(source.database))
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
      if (pool.spec !== null && pool.template === null) return true
    }
    return false
  }

  /**
   * A pool of this user in any database, for a client of one that does not exist: it authenticates like there before it
   * is told. One that trusts the user only if there is no other; null if there is none.
   */
  elsewhere(user: string): PoolSpec | null {
    const specs = [...this.ofUser(user)].flatMap(({ template, spec }) => (template === null ? (spec ?? []) : []))
    return specs.find(({ settings }) => settings.authType !== 'trust') ?? specs[0] ?? null
  }

  /**
   * Unknown users are challenged like the users of this pool, and so cannot be told from them: its way of logging in is
   * that of most users of the database, or of all databases if this one does not exist. Null if all users are trusted.
   */
  modelOf(database: string): PoolSpec | null {
    const section = this.#isConfigured(database) ? database : wildcard
    const known = this.#models.get(section)
    if (known !== undefined) return known
    const names = this.#isConfigured(section) ? (this.#pools.get(section)?.values() ?? []) : this.all()
    const ways = Map.groupBy(
      [...names].flatMap(({ template, spec }) => (template === null ? (spec ?? []) : [])),
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
    for (const name of templatesOf({ database, user }, this.#isConfigured(database))) {
      const pool = this.find(name.database, name.user)
      if (pool !== null && pool.spec !== null) return pool
    }
    return null
  }

  /**
   * The pool whose auth_query applies to a user; null for none. If some users of a database are looked up, unknown
   * users are too, because that must take equally long.
   */
  askedAbout(database: string, user: string): PoolSpec | null {
    const own = this.find(database, user)?.spec ?? this.templateFor(database, user)?.spec ?? null
    if (own !== null) return looksUp(own) ? own : null
    const section = this.#isConfigured(database) ? database : wildcard
    for (const { spec } of this.#pools.get(section)?.values() ?? []) {
      if (spec !== null && looksUp(spec)) return spec
    }
    return null
  }

  /** The pool of a client that has authenticated and is served by "*"; null if there are too many of them. */
  make(database: string, user: string): Pool | null {
    const template = this.templateFor(database, user)
    const spec = template?.spec ?? null
    if (template === null || spec === null) return null
    let pool = this.find(database, user)
    if (pool === null || pool.template === null) {
      if (!this.#makeRoom()) return null
      pool = this.#poolFor(database, user)
    }
    pool.template = template
    pool.worker = this.#context.workers?.self ?? null
    pool.usedAtMs = this.#context.io.nowMs()
    if (pool.configure(specFor(spec, pool)) !== 'keep') pool.retuned()
    this.#supply(pool)
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
      this.#remove(pool)
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
    const changed = new Set<Pool>()
    for (const poolSpec of spec.pools) {
      const pool = this.#poolFor(poolSpec.database, poolSpec.user)
      pool.template = null
      desired.add(pool)
      pool.worker = poolSpec.worker ?? null
      const change = pool.configure(poolSpec)
      count[pastOf[change]]++
      if (change !== 'keep') changed.add(pool)
    }
    for (const pool of this.all()) {
      if (desired.has(pool) || pool.spec === null || pool.template !== null) continue
      pool.remove()
      count.removed++
    }
    this.#followTemplates(changed)
    this.#supplyAll()
    for (const pool of changed) pool.retuned()
    // Whether a pause of "*" applies to a database depends on whether that has a section of its own.
    this.#pauseSources()
    this.authQueries.clear()
    this.running = spec.position
    return { applied: true, running: this.running, ...count }
  }

  /** The same pools take other values, as by SET at the console. */
  change(valuesOf: (spec: PoolSpec) => PoolSpec): void {
    const changed: Pool[] = []
    for (const pool of this.all()) {
      if (pool.spec !== null && pool.configure(valuesOf(pool.spec)) !== 'keep') changed.push(pool)
    }
    this.#supplyAll()
    for (const pool of changed) pool.retuned()
  }

  /** Pools created for "*" get its present configuration, by the same comparison, or are removed with it. */
  #followTemplates(changed: Set<Pool>): void {
    for (const pool of this.all()) {
      if (pool.template === null || pool.spec === null) continue
      const template = this.templateFor(pool.database, pool.user)
      const spec = template?.spec ?? null
      if (template === null || spec === null) {
        pool.remove()
        continue
      }
      pool.template = template
      if (pool.configure(specFor(spec, pool)) !== 'keep') changed.add(pool)
    }
  }

  // Sources of servers

  /** All pools take their servers where they should, and each source runs what its first pool says. */
  #supplyAll(): void {
    const supplied = supplies(this.#supplied()).map(({ pools, ...names }) => ({ pools, source: this.sourceOf(names) }))
    for (const { source, pools } of supplied) for (const { pool } of pools) pool.draw(source)
    // First, so that what takes their place opens servers within the limits.
    for (const source of this.sources()) if (source.pools.size === 0) source.drainCurrent()
    for (const { source, pools } of supplied) {
      const [{ pool, spec }] = pools
      source.configure(spec, placeOf(source, pool))
    }
  }

  *#supplied(): Generator<Supplied & { readonly pool: Pool }> {
    for (const pool of this.all()) {
      const { database, user, spec, template, isWildcard } = pool
      if (spec !== null && !isWildcard) yield { database, user, spec, isMade: template !== null, pool }
    }
  }

  /** One pool that was created meanwhile. */
  #supply(pool: Pool): void {
    const { database, user, spec } = pool
    assert(spec !== null, 'a removed pool has no servers')
    const { serverUser } = spec
    const key = supplyKey({ user, spec }, (shared) => {
      return this.#sources.get(database)?.get(shared)?.current?.spec ?? null
    })
    const source = this.sourceOf({ database, serverUser, key })
    pool.draw(source)
    const [first = pool] = source.pools
    const runs = source.pools.size > 1 ? (source.current?.spec ?? spec) : spec
    source.configure(runs, placeOf(source, first))
  }

  findSource({ database, key }: Pick<ServerSource, 'database' | 'key'>): ServerSource | null {
    return this.#sources.get(database)?.get(key) ?? null
  }

  /** What servers of this name come from; created if missing. */
  sourceOf({ database, serverUser, key }: Pick<ServerSource, 'database' | 'serverUser' | 'key'>): ServerSource {
    let sources = this.#sources.get(database)
    if (sources === undefined) {
      sources = new Map()
      this.#sources.set(database, sources)
    }
    let source = sources.get(key)
    if (source === undefined) {
      const closed = this.#commonOf(database).closedServers
      source = new ServerSource(this.#context, { database, serverUser, key, closed })
      source.setPaused(this.pauseApplies(database))
      sources.set(key, source)
    }
    return source
  }

  /** Its clients leave, and so do the servers that no other pool takes. */
  #remove(pool: Pool): void {
    const { source } = pool
    pool.remove()
    if (source !== null && source.pools.size === 0) source.drainCurrent()
  }

  readdress(hosts: Readonly<Record<string, readonly string[]>>): void {
    for (const pool of this.all()) if (pool.spec !== null) pool.adopt(withAddresses(pool.spec, hosts))
    for (const source of this.sources()) source.current?.readdress(hosts)
  }

  /** Certificates were reloaded, for new servers. */
  secure(pools: TlsUpdate['pools']): void {
    for (const { database, user, serverTls } of pools) {
      const pool = this.find(database, user)
      if (pool?.spec?.serverTls !== undefined) pool.adopt({ ...pool.spec, serverTls })
    }
    for (const pool of this.all()) {
      const serverTls = pool.template?.spec?.serverTls
      if (pool.spec !== null && serverTls !== undefined) pool.adopt({ ...pool.spec, serverTls })
    }
    for (const { current, pools: supplied } of this.sources()) {
      const [first] = supplied
      const serverTls = first?.spec?.serverTls
      if (current !== null && serverTls !== undefined) current.adopt({ ...current.spec, serverTls })
    }
  }

  /** Called about once a second. */
  maintain(): void {
    const nowMs = this.#context.io.nowMs()
    this.#context.limits.freed()
    this.authQueries.maintain(nowMs)
    for (const pool of this.all()) {
      if (pool.template !== null) this.#age(pool, nowMs)
      if (pool.abandoned) this.#drop(pool)
    }
    for (const source of this.sources()) {
      source.current?.maintain(nowMs)
      if (source.abandoned) this.#dropSource(source)
    }
  }

  #age(pool: Pool, nowMs: number): void {
    if (pool.clientCount > 0) pool.usedAtMs = nowMs
    const isUnused = nowMs - pool.usedAtMs >= this.#context.general.autodbIdleTimeoutMs
    if (isUnused && pool.spec !== null) this.#remove(pool)
  }

  #drop(pool: Pool): void {
    pool.close()
    const users = this.#pools.get(pool.database)
    users?.delete(pool.user)
    if (users?.size === 0) this.#pools.delete(pool.database)
    this.#forget(pool)
  }

  #dropSource(source: ServerSource): void {
    source.close()
    const sources = this.#sources.get(source.database)
    sources?.delete(source.key)
    if (sources?.size === 0) this.#sources.delete(source.database)
    this.#forget(source)
  }

  /** Neither a pool nor a source of that name is left; of the last of a database, nothing. */
  #forget({ database, user }: Pick<Pool, 'database' | 'user'>): void {
    const sources = [...(this.#sources.get(database)?.values() ?? [])]
    if (this.find(database, user) === null && !sources.some((source) => source.user === user)) {
      this.#common.get(database)?.closedServers.forget(user)
    }
    if (!this.#pools.has(database) && sources.length === 0) this.#common.delete(database)
  }

  /** The engine ends: closes everything. */
  close(): void {
    for (const pool of this.all()) pool.close()
    for (const source of this.sources()) source.close()
  }

  #poolFor(database: string, user: string): Pool {
    let users = this.#pools.get(database)
    if (users === undefined) {
      users = new Map()
      this.#pools.set(database, users)
    }
    let pool = users.get(user)
    if (pool === undefined) {
      pool = new Pool(this.#context, { database, user }, this.#commonOf(database))
      users.set(user, pool)
    }
    return pool
  }

  #commonOf(database: string) {
    const known = this.#common.get(database)
    if (known !== undefined) return known
    const common = { statements: new Statements(this.#context.statementMemory), closedServers: new ClosedServers() }
    this.#common.set(database, common)
    return common
  }

  assertInvariants(): void {
    for (const pool of this.all()) pool.assertInvariants()
    for (const source of this.sources()) source.assertInvariants()
  }
}

/** Everything by which a stranger could tell two users apart. */
function wayOfLoggingIn({ settings, clientSecret }: PoolSpec): string {
  const { authType, authIdentMap } = settings
  if (authType === 'trust') return authType
  const { previous, ...secret } = clientSecret
  const forms = [secret, previous ?? noSecret].map(({ md5, scram, digest }) => [
    md5 === null,
    scram === null ? null : [scram.iterations, scram.salt.length],
    digest === undefined,
  ])
  return JSON.stringify([authType, authIdentMap, forms])
}

const noSecret: ClientSecret = { md5: null, scram: null }

/**
 * Under which user the servers of a source are shown, and the worker that has them. Users of "*" may come and go, so servers
 * of a forced role are always shown under that role.
 */
function placeOf(source: ServerSource, { user, worker, template }: Pool): { user: string; worker: number | null } {
  const isShared = source.key === sharedKey(source.serverUser)
  if (isShared && template?.user === wildcard && template.spec?.serverUser === source.serverUser) {
    return { user: source.serverUser, worker: template.database === wildcard ? worker : template.worker }
  }
  return { user: isShared && source.pools.size > 1 ? source.serverUser : user, worker }
}
