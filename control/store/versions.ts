import { and, desc, eq, inArray, lt, sql } from 'drizzle-orm'
import type { NewSecret } from './secrets.ts'
import { fleets, manifests, poolBodies, secrets, versions } from './schema.ts'
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
  readonly offered: readonly NewManifest[]
  readonly secrets: readonly NewSecret[]
}

/** What proxies of one body format are offered of a version; existing bodies are kept. */
export interface NewManifest {
  readonly format: number
  readonly manifest: string
  readonly bodies: readonly { readonly hash: string; readonly body: string }[]
}

/**
 * Appends a version and makes it current. Throws GuardFailed if `row.version` is not the next one, and AlreadyThere if
 * another writer has created a secret's version.
 */
export async function appendVersion(store: Store, made: NewVersion): Promise<void> {
  const { row } = made
  const isNext = sql`(SELECT ${fleets.version} FROM ${fleets} WHERE ${fleets.name} = ${row.fleet}) = ${row.version - 1}`
  const list: Writable[] = [guard(store, isNext)]
  for (const secret of made.secrets) list.push(store.db.insert(secrets).values(secret))
  for (const offered of made.offered) list.push(...keepOffered(store, row, offered))
  list.push(store.db.insert(versions).values(row))
  list.push(
    store.db
      .update(fleets)
      .set({ version: row.version, manifest_hash: row.manifest_hash, poll_interval_ms: made.poll_interval_ms })
      .where(eq(fleets.name, row.fleet)),
  )
  await store.write(list)
}

/** A row for format 1 is the version itself. */
function keepOffered(
  store: Store,
  { fleet, version }: Pick<VersionRow, 'fleet' | 'version'>,
  { format, manifest, bodies }: NewManifest,
): Writable[] {
  const list: Writable[] = bodies.map((body) =>
    store.db
      .insert(poolBodies)
      .values({ fleet, ...body })
      .onConflictDoNothing(),
  )
  if (format === 1) return list
  return [...list, store.db.insert(manifests).values({ fleet, version, format, manifest }).onConflictDoNothing()]
}

/** Adds a format to a version of before it. Another one may have done so at the same time, with the same result. */
export async function addManifest(
  store: Store,
  row: Pick<VersionRow, 'fleet' | 'version'>,
  offered: NewManifest,
): Promise<void> {
  await store.write(keepOffered(store, row, offered))
}

/** The manifest of a version in a format above 1, without its position; undefined if it was made before that format. */
export async function findManifest(
  store: Store,
  fleet: string,
  version: number,
  format: number,
): Promise<string | undefined> {
  const [row] = await store.db
    .select({ manifest: manifests.manifest })
    .from(manifests)
    .where(and(eq(manifests.fleet, fleet), eq(manifests.version, version), eq(manifests.format, format)))
  return row?.manifest
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

/** Bound parameters of one statement. */
const hashesMax = 500

/** Bodies by hash. */
export async function listPoolBodies(
  store: Store,
  fleet: string,
  hashes: readonly string[],
): Promise<Map<string, string>> {
  const bodies = new Map<string, string>()
  for (let at = 0; at < hashes.length; at += hashesMax) {
    const rows = await store.db
      .select({ hash: poolBodies.hash, body: poolBodies.body })
      .from(poolBodies)
      .where(and(eq(poolBodies.fleet, fleet), inArray(poolBodies.hash, hashes.slice(at, at + hashesMax))))
    for (const { hash, body } of rows) bodies.set(hash, body)
  }
  return bodies
}
