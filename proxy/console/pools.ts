import { Client } from '../engine/pool/client.ts'
import type { OperatedEngine } from './operated-engine.ts'
import type { Pool } from '../engine/pool/pool.ts'
import type { Server } from '../engine/pool/server.ts'
import type { ServerSource } from '../engine/pool/server-source.ts'

/** Sorted by database, then user. */
export function sortedPools(engine: OperatedEngine): Pool[] {
  return [...engine.pools.all()].sort((a, b) => compare(a.database, b.database) || compare(a.user, b.user))
}

/** Sorted by database, then by the user that their servers are shown under. */
export function sortedSources(engine: OperatedEngine): ServerSource[] {
  return [...engine.pools.sources()].sort((a, b) => compare(a.database, b.database) || compare(a.user, b.user))
}

export function sortedServers(engine: OperatedEngine): Server[] {
  return sortedSources(engine).flatMap((source) => [...source.servers()])
}

/** All connections of a source to PostgreSQL. */
export function connectionsOf({ serverSets }: ServerSource): number {
  return sum(serverSets, ({ connections }) => connections)
}

export function compare(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}

export function sum<Item>(items: Iterable<Item>, of: (item: Item) => number): number {
  let total = 0
  for (const item of items) total += of(item)
  return total
}

/** The value that all items have in common; null if they differ, or there are none. */
export function common<Item, Value>(items: readonly Item[], of: (item: Item) => Value): Value | null {
  const [first] = items
  if (first === undefined) return null
  const value = of(first)
  return items.every((item) => of(item) === value) ? value : null
}

export function consoleSessions({ context }: OperatedEngine): number {
  return sum(context.clients, (client) => (client instanceof Client ? 0 : 1))
}
