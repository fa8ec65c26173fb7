import type { PoolSnapshot } from '../snapshot.ts'
import type { Pool } from './pool/pool.ts'
import type { ServerSource } from './pool/server-source.ts'
import { noTotals } from './pool/totals.ts'
import { waitBoundsMs } from '../snapshot.ts'
import { shownHash } from '../spec.ts'

type Line = { -readonly [Key in keyof PoolSnapshot]: PoolSnapshot[Key] }

/**
 * Content of metrics and reports: the clients of each pool, and its servers. Servers that pools share are told once,
 * under the role that they log in with; a draining one is told with its client.
 */
export function snapshotsOf(pools: Iterable<Pool>, sources: Iterable<ServerSource>): PoolSnapshot[] {
  const lines = new Map<string, Line>()
  for (const pool of pools) lines.set(keyOf(pool), lineOf(pool))
  for (const source of sources) {
    const key = keyOf(source)
    const line: Line = lines.get(key) ?? {
      ...emptyLine(source),
      sharedServers: true,
      closed: { ...source.closed.of(source.user) },
    }
    lines.set(key, line)
    addServers(line, source)
    for (const server of [...source.draining].flatMap((serverSet) => serverSet.lists.flatMap((list) => [...list]))) {
      const owner = server.client === null ? undefined : lines.get(keyOf(server.client.pool))
      ;(owner ?? line).serversDraining++
    }
  }
  return [...lines.values()]
}

function keyOf({ database, user }: { readonly database: string; readonly user: string }): string {
  return JSON.stringify([database, user])
}

function emptyLine({ database, user }: { readonly database: string; readonly user: string }): Line {
  return {
    pool: database,
    user,
    hash: null,
    overridden: false,
    serving: null,
    clientsActive: 0,
    clientsIdle: 0,
    clientsWaiting: 0,
    serversActive: 0,
    serversIdle: 0,
    serversLogin: 0,
    serversReplication: 0,
    serversDraining: 0,
    serversPinned: 0,
    maxWaitMs: 0,
    poolSize: 0,
    totals: noTotals(),
    waits: [0, ...waitBoundsMs, Infinity].map(() => 0),
    serverErrors: {},
    closed: {},
    refused: {},
  }
}

function lineOf(pool: Pool): Line {
  const { spec, template } = pool
  return {
    ...emptyLine(pool),
    hash: spec === null ? null : shownHash(spec),
    overridden: spec?.overridden !== undefined,
    serving: pool.source?.serving ?? null,
    ...(template === null ? {} : { template: { pool: template.database, user: template.user } }),
    clientsActive: pool.active.size,
    clientsIdle: pool.idle.size,
    clientsWaiting: pool.waiting.size,
    maxWaitMs: pool.maxWaitMs,
    // Of each pool created for it.
    poolSize: pool.isWildcard ? (spec?.settings.poolSize ?? 0) : 0,
    totals: { ...pool.totals },
    waits: [...pool.waits],
    serverErrors: { ...pool.serverErrors },
    closed: { ...pool.closedServers.of(pool.user) },
    refused: { ...pool.refused },
  }
}

function addServers(line: Line, { current, serverSets }: ServerSource): void {
  if (current !== null) {
    line.serversActive += current.active.size + current.canceled.size
    line.serversIdle += current.idle.size
    line.serversLogin += current.login.size + current.reset.size
    line.serversReplication += current.replication.size
    line.poolSize += current.settings.poolSize
  }
  for (const { active } of serverSets) for (const server of active) if (server.pinned) line.serversPinned++
}
