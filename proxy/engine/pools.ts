import type { ApplyOutcome, ClientSecret, Desired, FleetSpec, TlsUpdate } from './messages.ts'
import type { Position } from '../../shared/wire.ts'
import type { Context } from './context.ts'
import { PoolName } from './name.ts'
import type { Pool } from './pool.ts'

/** Every name clients may ask for, and the configuration they run. */
export class Pools {
  readonly #context: Context
  readonly #names = new Map<string, Map<string, PoolName>>()
  running: Position | null = null
  /** PAUSE without a database: every name there is or will be. */
  #pausedAll = false
  readonly #paused = new Set<string>()
  readonly #disabled = new Set<string>()
  /** Of the running version. */
  readonly #models = new Map<string, Pool | null>()
  /** What control offered last, for the console. */
  desired: Desired | null = null

  constructor(context: Context) {
    this.#context = context
  }

  *names(): Generator<PoolName> {
    for (const users of this.#names.values()) yield* users.values()
  }

  find(database: string, user: string): PoolName | null {
    return this.#names.get(database)?.get(user) ?? null
  }

  *ofDatabase(database: string): Generator<PoolName> {
    yield* this.#names.get(database)?.values() ?? []
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
    return this.#disabled.has(database)
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
    for (const name of this.names()) name.setPaused(this.#pausedAll || this.#paused.has(name.database))
    return true
  }

  /** New clients of a disabled database are refused. False when nothing has changed. */
  setDisabled(database: string, disabled: boolean): boolean {
    if (this.#disabled.has(database) === disabled) return false
    if (disabled) this.#disabled.add(database)
    else this.#disabled.delete(database)
    return true
  }

  hasDatabase(database: string): boolean {
    const users = this.#names.get(database)
    if (users === undefined) return false
    for (const name of users.values()) if (name.current !== null) return true
    return false
  }

  /**
   * Whoever is not known is asked as the users of this pool are, and so cannot be told from them: it is one of those
   * whose way of logging in most users of the database share. Null where nobody has to prove anything.
   */
  modelOf(database: string): Pool | null {
    const known = this.#models.get(database)
    if (known !== undefined) return known
    const ways = Map.groupBy(
      [...this.ofDatabase(database)].flatMap((name) => name.current ?? []),
      wayOfLoggingIn,
    )
    ways.delete('trust')
    const [commonest] = [...ways.values()].sort((a, b) => b.length - a.length)
    const model = commonest?.[0] ?? null
    if (this.hasDatabase(database)) this.#models.set(database, model)
    return model
  }

  /**
   * Makes every pool what `spec` says, in this one step of the loop. Each desired hash is compared with the hash of
   * the pool that runs, never with what was seen before.
   */
  apply(spec: FleetSpec, force: boolean): ApplyOutcome {
    const count = { added: 0, rebuilt: 0, retuned: 0, removed: 0, kept: 0 }
    if (!force && this.running !== null && !isAbove(spec.position, this.running)) {
      return { applied: false, running: this.running, ...count }
    }
    this.#models.clear()
    const desired = new Set<PoolName>()
    for (const pool of spec.pools) {
      const name = this.#nameFor(pool.pool, pool.user)
      desired.add(name)
      const running = name.current
      if (running === null) {
        name.replace(pool)
        count.added++
      } else if (running.spec.hash === pool.hash) {
        running.adopt(pool)
        count.kept++
      } else if (running.spec.connectHash === pool.connectHash) {
        running.retune(pool)
        count.retuned++
      } else {
        name.replace(pool)
        count.rebuilt++
      }
    }
    for (const name of this.names()) {
      if (desired.has(name) || name.current === null) continue
      name.remove()
      count.removed++
    }
    this.running = spec.position
    return { applied: true, running: this.running, ...count }
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
  }

  /** Called about once a second. */
  maintain(): void {
    const nowMs = this.#context.io.nowMs()
    this.#context.limits.freed()
    for (const [database, users] of this.#names) {
      for (const [user, name] of users) {
        name.current?.maintain(nowMs)
        if (!name.abandoned) continue
        name.close()
        users.delete(user)
      }
      if (users.size === 0) this.#names.delete(database)
    }
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
      name.setPaused(this.#pausedAll || this.#paused.has(database))
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

/** Orders configurations: a restored store's epoch first, then the version. */
export function isAbove(position: Position, running: Position): boolean {
  return position.epoch > running.epoch || (position.epoch === running.epoch && position.version > running.version)
}
