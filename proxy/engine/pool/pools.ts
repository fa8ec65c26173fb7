import { createHash } from 'node:crypto'
import { changeOf, pastOf, type Change } from '../../../shared/change.ts'
import { wildcard } from '../../../shared/config/wildcard.ts'
import { comparePositions } from '../../../shared/position.ts'
import type { Position } from '../../../shared/wire.ts'
import { AuthQueries, looksUp } from '../auth/auth-query.ts'
import type { Context } from './context.ts'
import type { Exchange } from '../wire/conversation.ts'
import type { ApplyOutcome, ClientSecret, Desired, FleetSpec, OperatedState, PoolSpec, TlsUpdate } from '../../port.ts'
import { PoolName } from './pool.ts'
import type { Pool } from './server-set.ts'

/** Every name clients may ask for, and the configuration they run. */
export class Pools {
  readonly authQueries: AuthQueries
  readonly #context: Context
  readonly #names = new Map<string, Map<string, PoolName>>()
  running: Position | null = null
  /** PAUSE without a database: every name there is or will be. */
  #pausedAll = false
  readonly #paused = new Set<string>()
  readonly #disabled = new Set<string>()
  /** Of the running version. */
  readonly #models = new Map<string, Pool | null>()
  /** Wakes those who are to be looked up in a database that is paused. */
  readonly heldUp = new Set<() => void>()
  /** What control offered last, for the console. */
  desired: Desired | null = null

  constructor(context: Context) {
    this.#context = context
    this.authQueries = new AuthQueries(context)
  }

  *names(): Generator<PoolName> {
    for (const users of this.#names.values()) yield* users.values()
  }

  find(database: string, user: string): PoolName | null {
    return this.#names.get(database)?.get(user) ?? null
  }

  /** With "*", those too that were made for databases it stands for. */
  *ofDatabase(database: string): Generator<PoolName> {
    yield* this.#names.get(database)?.values() ?? []
    if (database !== wildcard) return
    for (const name of this.names()) if (name.template?.database === wildcard) yield name
  }

  *ofUser(user: string): Generator<PoolName> {
    for (const users of this.#names.values()) {
      const name = users.get(user)
      if (name !== undefined) yield name
    }
  }

  // Pause and its like belong to a database's name: configurations come and go under it.

  get pausedAll(): boolean {
    return this.#pausedAll
  }

  isPaused(database: string): boolean {
    return this.#paused.has(database)
  }

  isDisabled(database: string): boolean {
    return this.#disabled.has(database) || (this.#disabled.has(wildcard) && !this.#isConfigured(database))
  }

  /** Of all databases with null. False when nothing has changed. */
  setPaused(database: string | null, paused: boolean): boolean {
    if (database === null) {
      if (this.#pausedAll === paused) return false
      this.#pausedAll = paused
    } else {
      if (this.#paused.has(database) === paused) return false
      if (paused) this.#paused.add(database)
      else this.#paused.delete(database)
    }
    for (const name of this.names()) name.setPaused(this.holds(name.database))
    // Connections that look users up end with the others; whoever waited for one to be allowed looks again.
    if (paused) this.authQueries.forget()
    this.wakeHeldUp()
    this.#context.operated()
    return true
  }

  /** Whether its clients wait, whichever pause it is by. */
  holds(database: string): boolean {
    if (this.#pausedAll || this.#paused.has(database)) return true
    return this.#paused.has(wildcard) && this.isMade(database)
  }

  /** Only "*" can stand for it. */
  isMade(database: string): boolean {
    return !this.#isConfigured(database)
  }

  /** Who waits for the end of a PAUSE or SUSPEND looks again. */
  wakeHeldUp(): void {
    const wakes = [...this.heldUp]
    this.heldUp.clear()
    for (const wake of wakes) wake()
  }

  /** Comes to its end when `database` is neither paused nor suspended, so that a connection to it may be opened. */
  *resumed(database: string, wake: () => void): Exchange<void> {
    while (this.#context.suspended || this.holds(database)) {
      this.heldUp.add(wake)
      yield
    }
  }

  /** New clients of a disabled database are refused. False when nothing has changed. */
  setDisabled(database: string, disabled: boolean): boolean {
    if (this.#disabled.has(database) === disabled) return false
    if (disabled) this.#disabled.add(database)
    else this.#disabled.delete(database)
    this.#context.operated()
    return true
  }

  /** What holds is this and nothing else. */
  restore({ pausedAll, paused, disabled }: OperatedState): void {
    this.setPaused(null, pausedAll)
    for (const database of [...this.#paused, ...paused]) this.setPaused(database, paused.includes(database))
    for (const database of [...this.#disabled, ...disabled]) this.setDisabled(database, disabled.includes(database))
  }

  /** What operators have done to databases. */
  get operated(): Pick<OperatedState, 'pausedAll' | 'paused' | 'disabled'> {
    return { pausedAll: this.#pausedAll, paused: [...this.#paused], disabled: [...this.#disabled] }
  }

  hasDatabase(database: string): boolean {
    return this.#isConfigured(database) || this.#isConfigured(wildcard)
  }

  /** It has a section of its own, with users. */
  #isConfigured(database: string): boolean {
    for (const name of this.#names.get(database)?.values() ?? []) {
      if (name.current !== null && name.template === null) return true
    }
    return false
  }

  /**
   * A pool of this user in any database, for a client that asks for one that does not exist: it proves its identity as
   * there before it is told. One that trusts the user only where there is no other; null when there is none.
   */
  elsewhere(user: string): Pool | null {
    const pools = [...this.ofUser(user)].flatMap(({ template, current }) => (template === null ? (current ?? []) : []))
    return pools.find(({ settings }) => settings.authType !== 'trust') ?? pools[0] ?? null
  }

  /**
   * Unknown users get the challenge of this pool's users, and so cannot be told from them: it is one of those whose way
   * of logging in most users of the database share; of all databases, where this one does not exist. Null where every
   * user is trusted.
   */
  modelOf(database: string): Pool | null {
    const section = this.#isConfigured(database) ? database : wildcard
    const known = this.#models.get(section)
    if (known !== undefined) return known
    const names = this.#isConfigured(section) ? (this.#names.get(section)?.values() ?? []) : this.names()
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

  /** The name with "*" that stands for somebody who has none of his own; null when there is none. */
  templateFor(database: string, user: string): PoolName | null {
    if (database === wildcard || user === wildcard) return null
    const users = this.#isConfigured(database) ? [wildcard] : [user, wildcard]
    for (const one of users) {
      const name = this.find(this.#isConfigured(database) ? database : wildcard, one)
      if (name !== null && name.current !== null) return name
    }
    return null
  }

  /**
   * The pool whose auth_query is asked about somebody; null when none is. Where only some users of a database are looked
   * up, so is whoever is not known, because that must take as long.
   */
  askedAbout(database: string, user: string): PoolSpec | null {
    const pool = this.find(database, user)?.current ?? this.templateFor(database, user)?.current ?? null
    if (pool !== null) return looksUp(pool.spec) ? pool.spec : null
    const section = this.#isConfigured(database) ? database : wildcard
    for (const { current } of this.#names.get(section)?.values() ?? []) {
      if (current !== null && looksUp(current.spec)) return current.spec
    }
    return null
  }

  /** The name of somebody who has proven who he is and is served by "*"; null when there are too many such. */
  make(database: string, user: string): PoolName | null {
    const template = this.templateFor(database, user)
    const spec = template?.current?.spec
    if (template === null || spec === undefined) return null
    let name = this.find(database, user)
    if (name === null || name.template === null) {
      if (!this.#makeRoom()) return null
      name = this.#nameFor(database, user)
    }
    name.template = template
    name.home = this.#context.crew?.worker ?? null
    name.usedAtMs = this.#context.io.nowMs()
    settle(name, specFor(spec, name))
    return name
  }

  /**
   * The worker that makes the names of a database, or of a user, that "*" stands for: each name is at home with one, so
   * that all workers together make no more of them than may be made.
   */
  homeOf(template: PoolName, database: string, user: string, workers: number): number {
    const standsForDatabase = template.database === wildcard
    if (!standsForDatabase && template.home !== null) return template.home
    const key = standsForDatabase ? database : JSON.stringify([database, user])
    return createHash('sha256').update(key).digest().readUInt32LE(0) % workers
  }

  /** Where there are as many as may be made, those that were used least recently go. */
  #makeRoom(): boolean {
    const made = [...this.names()].filter((name) => name.template !== null)
    const { general, crew } = this.#context
    let surplus = made.length + 1 - Math.ceil(general.maxDynamicPools / (crew?.workers ?? 1))
    const unused = made.filter((name) => name.clientCount === 0).sort((a, b) => a.usedAtMs - b.usedAtMs)
    for (const name of unused) {
      if (surplus <= 0) break
      name.remove()
      if (!name.abandoned) continue
      this.#forget(name)
      surplus--
    }
    return surplus <= 0
  }

  /**
   * Makes every pool what `spec` says, in this one step of the loop. Each desired hash is compared with the hash of
   * the pool that runs, never with what was seen before.
   */
  apply(spec: FleetSpec, force: boolean): ApplyOutcome {
    const count = { added: 0, rebuilt: 0, retuned: 0, removed: 0, kept: 0 }
    if (!force && comparePositions(spec.position, this.running) <= 0) {
      return { applied: false, running: this.running, ...count }
    }
    this.#models.clear()
    const desired = new Set<PoolName>()
    for (const pool of spec.pools) {
      const name = this.#nameFor(pool.pool, pool.user)
      name.template = null
      desired.add(name)
      name.home = pool.home ?? null
      count[settle(name, pool)]++
    }
    for (const name of this.names()) {
      if (desired.has(name) || name.current === null || name.template !== null) continue
      name.remove()
      count.removed++
    }
    this.#followTemplates()
    // Whether a pause of "*" means a database depends on whether that has a section of its own.
    for (const name of this.names()) name.setPaused(this.holds(name.database))
    this.authQueries.forget()
    this.running = spec.position
    return { applied: true, running: this.running, ...count }
  }

  /** What was made for "*" becomes what it says now, by the same comparison, or goes with it. */
  #followTemplates(): void {
    for (const name of this.names()) {
      if (name.template === null || name.current === null) continue
      const template = this.templateFor(name.database, name.user)
      const spec = template?.current?.spec
      if (template === null || spec === undefined) {
        name.remove()
        continue
      }
      name.template = template
      settle(name, specFor(spec, name))
    }
  }

  readdress(hosts: Readonly<Record<string, readonly string[]>>): void {
    for (const name of this.names()) name.current?.readdress(hosts)
  }

  /** Certificates have changed: servers to come use the new ones. */
  secure(pools: TlsUpdate['pools']): void {
    for (const { pool, user, serverTls } of pools) {
      const running = this.find(pool, user)?.current
      if (running?.spec.serverTls !== undefined) running.adopt({ ...running.spec, serverTls })
    }
    for (const { template, current } of this.names()) {
      const serverTls = template?.current?.spec.serverTls
      if (current !== null && serverTls !== undefined) current.adopt({ ...current.spec, serverTls })
    }
  }

  /** Called about once a second. */
  maintain(): void {
    const nowMs = this.#context.io.nowMs()
    this.#context.limits.freed()
    this.authQueries.maintain(nowMs)
    for (const name of this.names()) {
      name.current?.maintain(nowMs)
      if (name.template !== null) this.#age(name, nowMs)
      if (name.abandoned) this.#forget(name)
    }
  }

  #age(name: PoolName, nowMs: number): void {
    if (name.clientCount > 0) name.usedAtMs = nowMs
    const isUnused = nowMs - name.usedAtMs >= this.#context.general.autodbIdleTimeoutMs
    if (isUnused && name.current !== null) name.remove()
  }

  #forget(name: PoolName): void {
    name.close()
    const users = this.#names.get(name.database)
    users?.delete(name.user)
    if (users?.size === 0) this.#names.delete(name.database)
  }

  #nameFor(database: string, user: string): PoolName {
    let users = this.#names.get(database)
    if (users === undefined) {
      users = new Map()
      this.#names.set(database, users)
    }
    let name = users.get(user)
    if (name === undefined) {
      name = new PoolName(this.#context, database, user)
      name.setPaused(this.holds(database))
      users.set(user, name)
    }
    return name
  }

  assertInvariants(): void {
    for (const name of this.names()) name.assertInvariants()
  }
}

/** All that a stranger could tell two users apart by. */
function wayOfLoggingIn({ settings, spec }: Pool): string {
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

/** Makes `name` run `pool`, at the price that the difference between the two asks for. */
function settle(name: PoolName, pool: PoolSpec): (typeof pastOf)[Change] {
  const running = name.current
  const change = changeOf(running?.spec, pool)
  if (running === null || change === 'add' || change === 'rebuild') name.replace(pool)
  else if (change === 'retune') running.retune(pool)
  else running.adopt(pool)
  return pastOf[change]
}

/** What the configuration of "*" means for one database and user; it has the hash of "*". */
function specFor(spec: PoolSpec, { database, user }: PoolName): PoolSpec {
  return {
    ...spec,
    pool: database,
    user,
    database: spec.pool === wildcard && spec.database === wildcard ? database : spec.database,
    serverUser: spec.user === wildcard && spec.serverUser === wildcard ? user : spec.serverUser,
  }
}
