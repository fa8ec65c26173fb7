/**
 * Checks the engine between two turns: limits in time and number that hold at every moment, and what a new version may
 * do to existing servers and clients.
 */
import type { Engine } from '../../proxy/engine/engine.ts'
import type { Client } from '../../proxy/engine/pool/client.ts'
import type { Pool } from '../../proxy/engine/pool/pool.ts'
import type { ServerSet } from '../../proxy/engine/pool/server-set.ts'
import type { ServerSource } from '../../proxy/engine/pool/server-source.ts'
import type { Server } from '../../proxy/engine/pool/server.ts'
import { hashOf, connectHashOf, poolKey } from './configuration.ts'
import type { Version, Wanted } from './configuration.ts'

/** Maintenance runs once a second. */
const slackMs = 1500

/** Longest `connect_timeout` in a simulated version. */
const connectMsMax = 5000

/** The query_wait_timeout of each name, and since when it holds. */
const waits = new WeakMap<Pool, { readonly limitMs: number; readonly sinceMs: number }>()

/** By how much the longest wait exceeds its limit; a shorter limit counts from when it was set. */
function overdueMs(pool: Pool, limitMs: number, nowMs: number): number {
  let wait = waits.get(pool)
  if (wait?.limitMs !== limitMs) {
    wait = { limitMs, sinceMs: nowMs }
    waits.set(pool, wait)
  }
  return limitMs === 0 ? 0 : Math.min(pool.maxWaitMs - limitMs, nowMs - wait.sinceMs)
}

interface Waiting {
  readonly client: Client
  readonly source: ServerSource
  readonly sinceMs: number
}

/** The waiting clients of an engine after its last turn. */
const waitingBefore = new WeakMap<Engine, readonly Waiting[]>()

/** Of the clients that wait for the same servers, one that has waited for less time was served first. */
function outOfTurn(engine: Engine): string | null {
  const before = waitingBefore.get(engine) ?? []
  const still = new Map<ServerSource, number>()
  for (const { client, source, sinceMs } of before) {
    const waits = client.list === client.pool.waiting && client.waitingSinceMs === sinceMs
    if (waits && client.pool.source === source) still.set(source, Math.min(sinceMs, still.get(source) ?? Infinity))
  }
  const now = [...engine.pools.all()].flatMap(({ source, waiting }) =>
    source === null ? [] : [...waiting].map((client) => ({ client, source, sinceMs: client.waitingSinceMs })),
  )
  waitingBefore.set(engine, now)
  const early = before.find(
    ({ client, source, sinceMs }) =>
      client.server?.serverSet.source === source && sinceMs > (still.get(source) ?? Infinity),
  )
  return early === undefined ? null : `${labelOf(early.source)}: a client is served before one that has waited longer`
}

/** What is wrong in the engine now, or null. */
export function violation(engine: Engine, nowMs: number): string | null {
  engine.assertInvariants()
  const early = outOfTurn(engine)
  if (early !== null) return early
  for (const pool of engine.pools.all()) {
    const { settings } = pool
    if (settings === null) continue
    const label = `${pool.database}/${pool.user}`
    if (overdueMs(pool, settings.queryWaitTimeoutMs, nowMs) > slackMs) {
      return `${label}: a client has waited for ${pool.maxWaitMs} ms`
    }
    let sinceMs = 0
    for (const client of pool.waiting) {
      if (client.waitingSinceMs < sinceMs) return `${label}: the waiting clients are out of order`
      sinceMs = client.waitingSinceMs
    }
  }
  for (const source of engine.pools.sources()) {
    for (const server of source.current?.login ?? []) {
      if (nowMs - server.connectedAtMs > connectMsMax + slackMs) return `${labelOf(source)}: a login takes too long`
    }
  }
  return null
}

/** What is wrong in an engine without clients, or null. */
export function violationAtRest(engine: Engine, nowMs: number): string | null {
  for (const pool of engine.pools.all()) {
    const label = `${pool.database}/${pool.user}`
    if (pool.idle.size + pool.active.size + pool.waiting.size > 0) return `${label} has a client`
  }
  for (const source of engine.pools.sources()) {
    if (source.draining.size > 0) return `${labelOf(source)} drains for ever`
    const wrong = source.current === null ? null : violationOfResting(source.current, nowMs)
    if (wrong !== null) return `${labelOf(source)} ${wrong}`
  }
  const { context, logins } = engine
  if (context.clients.size > 0) return 'a client that left is kept'
  if (logins.size > 0) return 'a login that ended is kept'
  return context.cancels.keys > 0 ? 'the cancel key of a client that left is kept' : null
}

/** Whether they are servers of one role, opened in the same way. */
export function sameServers(one: ServerSet, other: ServerSet): boolean {
  return one.spec.serverUser === other.spec.serverUser && one.spec.connectHash === other.spec.connectHash
}

function labelOf({ database, key }: ServerSource): string {
  return `servers of ${database}/${key}`
}

function violationOfResting(serverSet: ServerSet, nowMs: number): string | null {
  const { poolSize, minPoolSize, idleTimeoutMs, serverLifetimeMs, maxDbConnections } = serverSet.settings
  if (serverSet.size > poolSize) return `has ${serverSet.size} servers, and pool_size is ${poolSize}`
  if (serverSet.size > serverSet.idle.size + serverSet.login.size) return 'has a server that is not idle'
  if (serverSet.size < Math.min(minPoolSize, poolSize) && maxDbConnections === 0)
    return `has ${serverSet.size} servers, and min_pool_size is ${minPoolSize}`
  for (const server of serverSet.idle) {
    if (serverLifetimeMs > 0 && nowMs - server.connectedAtMs > serverLifetimeMs + slackMs)
      return 'has a server above its lifetime'
    const idleMs = nowMs - server.idleSinceMs
    if (idleTimeoutMs > 0 && idleMs > idleTimeoutMs + slackMs && serverSet.size > minPoolSize)
      return 'has a server above its idle timeout'
  }
  return null
}

interface Holding {
  readonly servers: ReadonlySet<Server>
  /** Those of them that are not joined with clients of other pools. */
  readonly own: readonly Server[]
  readonly idle: number
  readonly waiting: readonly Client[]
  /** Those of them that wait for their greeting. */
  readonly ungreeted: ReadonlySet<Client>
}

/** The state of an engine before a version is applied, to be compared with the state after it. */
export class Before {
  readonly #engine: Engine
  readonly #holdings = new Map<string, Holding>()

  constructor(engine: Engine) {
    this.#engine = engine
    for (const pool of engine.pools.all()) this.#holdings.set(poolKey(pool.database, pool.user), holdingOf(pool))
  }

  /** What the change from `running` to `desired` has done wrong, or null. */
  wrongAfter(running: Version, desired: Version): string | null {
    for (const pool of this.#engine.pools.all()) {
      const key = poolKey(pool.database, pool.user)
      const before = this.#holdings.get(key)
      const was = running.get(key)
      const is = desired.get(key)
      if (before === undefined || was === undefined || is === undefined) continue
      // Where pools share a limit, one may have closed servers for another.
      const shared = [...this.#engine.pools.ofDatabase(pool.database)]
      if (shared.some(({ settings }) => (settings?.maxDbConnections ?? 0) > 0)) continue
      // Which of them have the role's servers, and which have others, depends on who is there.
      const wrong = wrongWith(pool, before, was, is)
      if (wrong !== null) return `${key} ${wrong}`
    }
    return null
  }
}

function holdingOf(pool: Pool): Holding {
  const ungreeted = new Set([...pool.waiting].filter(({ greeted }) => !greeted))
  const servers = new Set<Server>()
  for (const list of pool.source?.current?.lists ?? []) for (const server of list) servers.add(server)
  // The others may end with their clients.
  const own = [...servers].filter(({ client }) => client === null || client.pool === pool)
  return { servers, own, idle: pool.source?.current?.idle.size ?? 0, waiting: [...pool.waiting], ungreeted }
}

function wrongWith(pool: Pool, before: Holding, was: Wanted, is: Wanted): string | null {
  const after = holdingOf(pool)
  // Waiting clients still wait or were served.
  const waiting = new Set(after.waiting)
  for (const client of before.waiting) {
    if (client.list === null) return 'disconnected a waiting client'
    const isGreeted = before.ungreeted.has(client) && client.greeted
    if (!waiting.has(client) && client.server === null && !isGreeted) return 'lost a waiting client'
  }
  const moved = JSON.stringify(was.hosts) !== JSON.stringify(is.hosts)
  if (connectHashOf(was) !== connectHashOf(is)) {
    for (const server of after.servers) if (before.servers.has(server)) return 'was rebuilt and has an old server'
    return null
  }
  if (moved) return null
  const gone = before.own.filter((server) => !after.servers.has(server)).length
  if (hashOf(was) === hashOf(is)) return gone === 0 ? null : `did not change and lost ${gone} servers`
  const surplus = Math.max(0, before.servers.size - (pool.source?.current?.settings.poolSize ?? 0))
  return gone <= Math.min(surplus, before.idle) ? null : `was retuned and lost ${gone} servers`
}
