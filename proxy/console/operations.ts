/** What operators do to databases and clients, whichever way they ask: the console, or control through the agent. */
import { wildcard } from '../../shared/config/wildcard.ts'
import { sqlstates } from '../../shared/errors.ts'
import { operations } from '../../shared/operations.ts'
import type { OperationSpec, PoolOperation } from '../../shared/operations.ts'
import { Client } from '../engine/pool/client.ts'
import type { Engine } from '../engine/engine.ts'
import { suspend, unsuspend } from '../engine/suspension.ts'
import type { Operation, OperationOutcome } from '../operation.ts'
import type { Pool } from '../engine/pool/pool.ts'

/** What of an engine is operated. */
export type Operated = Pick<Engine, 'context' | 'pools' | 'stateChanged'>

/** All pools of a database, or of those that "*" stands for; of every database with null. */
function poolsOf({ pools }: Operated, database: string | null): Pool[] {
  if (database === null) return [...pools.all()]
  if (database !== wildcard) return [...pools.ofDatabase(database)]
  return [...pools.all()].filter((pool) => pool.database === wildcard || pools.isMade(pool.database))
}

/** Servers that are still open. */
export function serversLeft(engine: Operated, database: string | null): number {
  let servers = 0
  for (const pool of poolsOf(engine, database)) for (const serverSet of pool.serverSets) servers += serverSet.size
  return servers
}

/** Servers that close as soon as they are free, by RECONNECT, PAUSE, a rebuild or an address that is gone. */
export function serversLeaving(engine: Operated, database: string | null): number {
  let servers = 0
  for (const pool of poolsOf(engine, database)) {
    for (const serverSet of pool.serverSets) {
      for (const list of serverSet.lists) {
        // Replication goes on where it is for as long as it likes.
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

/** Clients wait, servers close as they become free. False when it is paused already. */
export function pause(engine: Operated, database: string | null): boolean {
  const changed = engine.pools.setPaused(database, true)
  engine.stateChanged()
  return changed
}

/** False when it is not paused. */
export function resume(engine: Operated, database: string | null): boolean {
  const changed = engine.pools.setPaused(database, false)
  engine.stateChanged()
  return changed
}

/** Every server is replaced by a new one as soon as it is free. */
export function reconnect(engine: Operated, database: string | null): void {
  for (const pool of poolsOf(engine, database)) pool.current?.retire()
}

/** All clients and servers end now; whoever comes waits for RESUME. */
export function kill(engine: Operated, database: string | null): void {
  pause(engine, database)
  for (const pool of poolsOf(engine, database)) pool.kill()
}

/** False when nobody has this number. */
export function killClient(engine: Operated, id: number): boolean {
  for (const client of engine.context.clients) {
    if (client.id !== id) continue
    const server = client instanceof Client ? client.server : null
    client.fatal(sqlstates.admin_shutdown, 'terminating connection due to administrator command')
    server?.close('admin')
    return true
  }
  return false
}

/** An operation of a console. False when it has changed nothing. */
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

/** Carries out an operation for control. Repeating it changes nothing. */
export function operateForControl(engine: Operated, operation: PoolOperation, pool: string): OperationOutcome {
  const known = engine.pools.hasDatabase(pool)
  const { undoes, waitsFor } = operations[operation]
  // A pool that has left the configuration may still be paused or disabled.
  if (known || undoes.length > 0) operate(engine, operation, pool)
  return { known, paused: engine.pools.pauseApplies(pool), servers: serversToEnd[waitsFor](engine, pool) }
}

const serversToEnd: Readonly<Record<OperationSpec['waitsFor'], (engine: Operated, pool: string) => number>> = {
  servers: serversLeft,
  leaving_servers: serversLeaving,
  nothing: () => 0,
}
