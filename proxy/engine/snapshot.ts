import type { PoolSnapshot } from '../snapshot.ts'
import type { Pool } from './pool/pool.ts'

/** Content of metrics and reports. */
export function snapshotOf(pool: Pool): PoolSnapshot {
  const { current, template } = pool
  let serversDraining = 0
  for (const serverSet of pool.draining) serversDraining += serverSet.connections
  let serversPinned = 0
  for (const { server } of pool.active) if (server !== null && server.pinned) serversPinned++
  return {
    pool: pool.database,
    user: pool.user,
    hash: current?.hash ?? null,
    overridden: current?.spec.overridden !== undefined,
    ...(template === null ? {} : { template: { pool: template.database, user: template.user } }),
    clientsActive: pool.active.size,
    clientsIdle: pool.idle.size,
    clientsWaiting: pool.waiting.size,
    serversActive: current === null ? 0 : current.active.size + current.canceled.size,
    serversIdle: current?.idle.size ?? 0,
    serversLogin: current === null ? 0 : current.login.size + current.reset.size,
    serversReplication: current?.replication.size ?? 0,
    serversDraining,
    serversPinned,
    maxWaitMs: pool.maxWaitMs,
    poolSize: current?.settings.poolSize ?? 0,
    totals: { ...pool.totals },
    waits: [...pool.waits],
    serverErrors: { ...pool.serverErrors },
    closed: { ...pool.closed },
    refused: { ...pool.refused },
  }
}
