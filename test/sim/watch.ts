/**
 * Checks the engine between two turns: limits in time and number that hold at every moment, and what a new version may
 * do to existing servers and clients.
 */
import type { Engine } from '../../proxy/engine/engine.ts'
import type { Client } from '../../proxy/engine/pool/client.ts'
import type { PoolName } from '../../proxy/engine/pool/pool.ts'
import type { Pool } from '../../proxy/engine/pool/server-set.ts'
import type { Server } from '../../proxy/engine/pool/server.ts'
import { hashOf, connectHashOf, poolKey } from './configuration.ts'
import type { Version, Wanted } from './configuration.ts'

/** Maintenance runs once a second. */
const slackMs = 1500

/** Longest `connect_timeout` in a simulated version. */
const connectMsMax = 5000

/** The query_wait_timeout of each name, and since when it holds. */
const waits = new WeakMap<PoolName, { readonly limitMs: number; readonly sinceMs: number }>()

/** By how much the longest wait exceeds its limit; a shorter limit counts from when it was set. */
function overdueMs(name: PoolName, limitMs: number, nowMs: number): number {
  let wait = waits.get(name)
  if (wait?.limitMs !== limitMs) {
    wait = { limitMs, sinceMs: nowMs }
    waits.set(name, wait)
  }
  return limitMs === 0 ? 0 : Math.min(name.maxWaitMs - limitMs, nowMs - wait.sinceMs)
}

/** What is wrong in the engine now, or null. */
export function violation(engine: Engine, nowMs: number): string | null {
  engine.assertInvariants()
  for (const name of engine.pools.names()) {
    const { current } = name
    if (current === null) continue
    const label = `${name.database}/${name.user}`
    if (overdueMs(name, current.settings.queryWaitTimeoutMs, nowMs) > slackMs) {
      return `${label}: a client has waited for ${name.maxWaitMs} ms`
    }
    for (const server of current.login) {
      if (nowMs - server.connectedAtMs > connectMsMax + slackMs) return `${label}: a login takes too long`
    }
    let sinceMs = 0
    for (const client of name.waiting) {
      if (client.waitingSinceMs < sinceMs) return `${label}: the waiting clients are out of order`
      sinceMs = client.waitingSinceMs
    }
  }
  return null
}

/** What is wrong in an engine without clients, or null. */
export function violationAtRest(engine: Engine, nowMs: number): string | null {
  for (const name of engine.pools.names()) {
    const label = `${name.database}/${name.user}`
    if (name.idle.size + name.active.size + name.waiting.size > 0) return `${label} has a client`
    if (name.draining.size > 0) return `${label} drains for ever`
    const wrong = name.current === null ? null : violationOfResting(name.current, nowMs)
    if (wrong !== null) return `${label} ${wrong}`
  }
  const { context, logins } = engine
  if (context.clients.size > 0) return 'a client that left is kept'
  if (logins.size > 0) return 'a login that ended is kept'
  return context.cancels.keys > 0 ? 'the cancel key of a client that left is kept' : null
}

function violationOfResting(pool: Pool, nowMs: number): string | null {
  const { poolSize, minPoolSize, idleTimeoutMs, serverLifetimeMs, maxDbConnections } = pool.settings
  if (pool.size > poolSize) return `has ${pool.size} servers, and pool_size is ${poolSize}`
  if (pool.size > pool.idle.size + pool.login.size) return 'has a server that is not idle'
  if (pool.size < Math.min(minPoolSize, poolSize) && maxDbConnections === 0)
    return `has ${pool.size} servers, and min_pool_size is ${minPoolSize}`
  for (const server of pool.idle) {
    if (serverLifetimeMs > 0 && nowMs - server.connectedAtMs > serverLifetimeMs + slackMs)
      return 'has a server above its lifetime'
    const idleMs = nowMs - server.idleSinceMs
    if (idleTimeoutMs > 0 && idleMs > idleTimeoutMs + slackMs && pool.size > minPoolSize)
      return 'has a server above its idle timeout'
  }
  return null
}

interface Holding {
  readonly servers: ReadonlySet<Server>
  readonly idle: number
  readonly waiting: readonly Client[]
}

/** The state of an engine before a version is applied, to be compared with the state after it. */
export class Before {
  readonly #engine: Engine
  readonly #holdings = new Map<string, Holding>()

  constructor(engine: Engine) {
    this.#engine = engine
    for (const name of engine.pools.names()) this.#holdings.set(poolKey(name.database, name.user), holdingOf(name))
  }

  /** What the change from `running` to `desired` has done wrong, or null. */
  wrongAfter(running: Version, desired: Version): string | null {
    for (const name of this.#engine.pools.names()) {
      const key = poolKey(name.database, name.user)
      const before = this.#holdings.get(key)
      const was = running.get(key)
      const is = desired.get(key)
      if (before === undefined || was === undefined || is === undefined) continue
      // Where pools share a limit, one may have closed servers for another.
      const shared = [...this.#engine.pools.ofDatabase(name.database)]
      if (shared.some(({ settings }) => (settings?.maxDbConnections ?? 0) > 0)) continue
      const wrong = wrongWith(name, before, was, is)
      if (wrong !== null) return `${key} ${wrong}`
    }
    return null
  }
}

function holdingOf(name: PoolName): Holding {
  const servers = new Set<Server>()
  for (const list of name.current?.lists ?? []) for (const server of list) servers.add(server)
  return { servers, idle: name.current?.idle.size ?? 0, waiting: [...name.waiting] }
}

function wrongWith(name: PoolName, before: Holding, was: Wanted, is: Wanted): string | null {
  const after = holdingOf(name)
  // Waiting clients still wait or were served.
  const waiting = new Set(after.waiting)
  for (const client of before.waiting) {
    if (client.list === null) return 'disconnected a waiting client'
    if (!waiting.has(client) && client.server === null) return 'lost a waiting client'
  }
  const moved = JSON.stringify(was.hosts) !== JSON.stringify(is.hosts)
  if (connectHashOf(was) !== connectHashOf(is)) {
    for (const server of after.servers) if (before.servers.has(server)) return 'was rebuilt and has an old server'
    return null
  }
  if (moved) return null
  const gone = [...before.servers].filter((server) => !after.servers.has(server)).length
  if (hashOf(was) === hashOf(is)) return gone === 0 ? null : `did not change and lost ${gone} servers`
  const surplus = Math.max(0, before.servers.size - (name.current?.settings.poolSize ?? 0))
  return gone <= Math.min(surplus, before.idle) ? null : `was retuned and lost ${gone} servers`
}
