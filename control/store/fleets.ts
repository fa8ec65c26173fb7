import { and, eq } from 'drizzle-orm'
import { fleets, versions } from './schema.ts'
import type { Store } from './store.ts'

export interface FleetRow {
  readonly name: string
  readonly created_at: string
  /** 0 before the first configuration. */
  readonly version: number
  readonly content_hash: string | null
  readonly manifest_hash: string
  readonly order_number: number
  readonly poll_interval_ms: number
}

/** False if it existed already, in which case it is unchanged. */
export async function createFleet(
  store: Store,
  fleet: { name: string; created_at: string; poll_interval_ms: number },
): Promise<boolean> {
  const [changed] = await store.write([store.db.insert(fleets).values(fleet).onConflictDoNothing()])
  return changed === 1
}

export async function listFleets(store: Store): Promise<FleetRow[]> {
  return await fleetRows(store).orderBy(fleets.name)
}

export async function findFleet(store: Store, name: string): Promise<FleetRow | undefined> {
  const [row] = await fleetRows(store).where(eq(fleets.name, name))
  return row
}

function fleetRows(store: Store) {
  return store.db
    .select({
      name: fleets.name,
      created_at: fleets.created_at,
      version: fleets.version,
      content_hash: versions.content_hash,
      manifest_hash: fleets.manifest_hash,
      order_number: fleets.order_number,
      poll_interval_ms: fleets.poll_interval_ms,
    })
    .from(fleets)
    .leftJoin(versions, and(eq(versions.fleet, fleets.name), eq(versions.version, fleets.version)))
    .$dynamic()
}
