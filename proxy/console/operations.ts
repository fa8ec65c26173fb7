/** Operations on databases and clients, from the console or from control through the agent. */
import { wildcard } from '../../shared/config/wildcard.ts'
import { sqlstates } from '../../shared/errors.ts'
import { operations } from '../../shared/operations.ts'
import type { PoolOperation } from '../../shared/operations.ts'
import { Client } from '../engine/pool/client.ts'
import type { Engine } from '../engine/engine.ts'
import { suspend, unsuspend } from '../engine/suspension.ts'
import type { OperationOutcome } from '../../shared/wire.ts'
import type { Operation, OrderedChange } from '../operation.ts'
import type { Pool } from '../engine/pool/pool.ts'
import type { ServerSource } from '../engine/pool/server-source.ts'

/** The parts of an engine that operations use. */
export type Operated = Pick<Engine, 'context' | 'pools' | 'stateChanged'>

/** All pools of a database, or of those that "*" stands for; with null, of all databases. */
function poolsOf({ pools }: Operated, database: string | null): Pool[] {
  if (database === null) return [...pools.all()]
  if (database !== wildcard) return [...pools.ofDatabase(database)]
  return [...pools.all()].filter((pool) => pool.database === wildcard || pools.isMade(pool.database))
}

/** Where the servers of these pools come from, and those that a removed pool has left. */
function sourcesOf({ pools }: Operated, database: string | null): ServerSource[] {
  const all = [...pools.sources()]
  if (database === null) return all
  return all.filter((source) => (database === wildcard ? pools.isMade(source.database) : source.database === database))
}

/** Servers that are still open. */
export function serversLeft(engine: Operated, database: string | null): number {
  let servers = 0
  for (const source of sourcesOf(engine, database)) for (const { size } of source.serverSets) servers += size
  return servers
}

/** Servers that close as soon as they are free, after RECONNECT, PAUSE, a rebuild or the loss of an address. */
function serversLeaving(engine: Operated, database: string | null): number {
  let servers = 0
  for (const source of sourcesOf(engine, database)) {
    for (const serverSet of source.serverSets) {
      for (const list of serverSet.lists) {
        // Replication may continue for any time.
        if (list === serverSet.replication) continue
        for (const server of list) if (serverSet.draining || server.closeNeeded) servers++
      }
    }
  }
  return servers
}

export function isPaused({ pools }: Operated, database: string | null): boolean {
  return database === null ? pools.pausedAll : pools.isPaused(database)
}

/** Clients wait, and servers close as they become free. False if it is already paused. */
export function pause(engine: Operated, database: string | null): boolean {
  const changed = engine.pools.setPaused(database, true)
  engine.stateChanged()
  return changed
}

/** False if it is not paused. */
export function resume(engine: Operated, database: string | null): boolean {
  const changed = engine.pools.setPaused(database, false)
  engine.stateChanged()
  return changed
}

/** Replaces all servers as they become free. */
export function reconnect(engine: Operated, database: string | null): void {
  for (const source of sourcesOf(engine, database)) source.current?.retire()
}

/** Closes all clients and servers now; new clients wait for RESUME. */
export function kill(engine: Operated, database: string | null): void {
  pause(engine, database)
  for (const pool of poolsOf(engine, database)) pool.kill()
  for (const source of sourcesOf(engine, database)) source.kill()
}

/** False if there is no client with this id. */
export function killClient(engine: Operated, id: number): boolean {
  for (const client of engine.context.clients) {
    if (client.id !== id) continue
    const server = client instanceof Client ? client.server : null
    // Closed with its client, and not given to the next one first.
    server?.retire()
    client.fatal(sqlstates.admin_shutdown, 'terminating connection due to administrator command')
    server?.close('admin')
    return true
  }
  return false
}

/** An operation from a console. False if it had no effect. */
export function operate(engine: Operated, operation: Operation, database: string | null): boolean {
  switch (operation) {
    case 'pause':
      return pause(engine, database)
    case 'resume': {
      const released = database === null && unsuspend(engine)
      return resume(engine, database) || released
    }
    case 'suspend':
      return suspend(engine)
    case 'reconnect':
      reconnect(engine, database)
      return true
    case 'kill':
      kill(engine, database)
      return true
    case 'disable':
    case 'enable':
      return database !== null && engine.pools.setDisabled(database, operation === 'disable')
    default:
      return operation satisfies never
  }
}

/** What the fleet's orders change, also for databases that do not exist yet or any more. */
export function carryOut(engine: Operated, changes: readonly OrderedChange[]): void {
  for (const { pool, effect, on } of changes) {
    if (effect === 'paused') engine.pools.setPaused(pool, on)
    else engine.pools.setDisabled(pool, on)
  }
  engine.stateChanged()
}

/** An operation from control. Repeating it has no further effect; without `acts` it has none. */
export function operateForControl(
  engine: Operated,
  { operation, pool, acts }: { operation: PoolOperation; pool: string; acts: boolean },
): OperationOutcome {
  const known = engine.pools.hasDatabase(pool)
  const { undoes, waitsFor } = operations[operation]
  // A pool that was removed from the configuration may still be paused or disabled.
  if (acts && (known || undoes.length > 0)) operate(engine, operation, pool)
  return { known, paused: engine.pools.pauseApplies(pool), servers: serversToEnd[waitsFor](engine, pool) }
}

const serversToEnd: Readonly<
  Record<(typeof operations)[PoolOperation]['waitsFor'], (engine: Operated, pool: string) => number>
> = { servers: serversLeft, leaving_servers: serversLeaving, nothing: () => 0 }

/** Whether what an operation waits for has ended, or nothing waits for it: the pause was ended. */
export function hasEnded(
  engine: Operated,
  what: 'servers' | 'leaving_servers',
  database: string | null,
): () => boolean {
  if (what === 'leaving_servers') return () => serversLeaving(engine, database) === 0
  return () => !isPaused(engine, database) || serversLeft(engine, database) === 0
}
