import { and, desc, eq, lt, sql } from 'drizzle-orm'
import type { NewSecret } from './secrets.ts'
import { fleets, poolBodies, secrets, versions } from './schema.ts'
import { guard } from './store.ts'
import type { Store, Writable } from './store.ts'

export type VersionRow = typeof versions.$inferSelect

/** Columns shown in a list of versions. */
const summary = {
  version: versions.version,
  created_at: versions.created_at,
  message: versions.message,
  rollback_of: versions.rollback_of,
  forced: versions.forced,
  content_hash: versions.content_hash,
  pools: versions.pools,
}
export type VersionSummary = Omit<Pick<VersionRow, keyof typeof summary>, 'forced'> & { readonly forced: boolean }

export interface NewVersion {
  readonly row: VersionRow
  readonly poll_interval_ms: number
  /** Effective configurations; existing ones are kept. */
  readonly bodies: readonly { readonly hash: string; readonly body: string }[]
  readonly secrets: readonly NewSecret[]
}

/**
 * Appends a version and makes it current. Throws GuardFailed if `row.version` is not the next one, and AlreadyThere if
 * another writer has created a secret's version.
 */
export async function appendVersion(store: Store, made: NewVersion): Promise<void> {
  const { row, bodies } = made
  const isNext = sql`(SELECT ${fleets.version} FROM ${fleets} WHERE ${fleets.name} = ${row.fleet}) = ${row.version - 1}`
  const list: Writable[] = [guard(store, isNext)]
  for (const secret of made.secrets) list.push(store.db.insert(secrets).values(secret))
  for (const body of bodies) {
    list.push(
      store.db
        .insert(poolBodies)
        .values({ fleet: row.fleet, ...body })
        .onConflictDoNothing(),
    )
  }
  list.push(store.db.insert(versions).values(row))
  list.push(
    store.db
      .update(fleets)
      .set({ version: row.version, manifest_hash: row.manifest_hash, poll_interval_ms: made.poll_interval_ms })
      .where(eq(fleets.name, row.fleet)),
  )
  await store.write(list)
}

export async function findVersion(store: Store, fleet: string, version: number): Promise<VersionRow | undefined> {
  const [row] = await store.db
    .select()
    .from(versions)
    .where(and(eq(versions.fleet, fleet), eq(versions.version, version)))
  return row
}

/** Newest first, only those below `before`. */
export async function listVersions(
  store: Store,
  fleet: string,
  page: { before: number | undefined; limit: number },
): Promise<VersionSummary[]> {
  const older = page.before === undefined ? undefined : lt(versions.version, page.before)
  const rows = await store.db
    .select(summary)
    .from(versions)
    .where(and(eq(versions.fleet, fleet), older))
    .orderBy(desc(versions.version))
    .limit(page.limit)
  return rows.map((row) => ({ ...row, forced: row.forced === true }))
}

export async function findPoolBody(store: Store, fleet: string, hash: string): Promise<string | undefined> {
  const [row] = await store.db
    .select({ body: poolBodies.body })
    .from(poolBodies)
    .where(and(eq(poolBodies.fleet, fleet), eq(poolBodies.hash, hash)))
  return row?.body
}
