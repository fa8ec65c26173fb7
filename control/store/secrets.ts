import { and, asc, eq, sql } from 'drizzle-orm'
import { secrets } from './schema.ts'
import type { Store } from './store.ts'

export type NewSecret = typeof secrets.$inferInsert

/** All columns of a secret's version except its value. */
const facts = {
  name: secrets.name,
  version: secrets.version,
  created_at: secrets.created_at,
  kind: secrets.kind,
  digest: secrets.digest,
  epoch: secrets.epoch,
}
export type SecretFacts = Pick<typeof secrets.$inferSelect, keyof typeof facts>

/** All versions of all secrets of a fleet, by name, oldest version first. */
export async function listSecrets(store: Store, fleet: string): Promise<SecretFacts[]> {
  return await store.db
    .select(facts)
    .from(secrets)
    .where(eq(secrets.fleet, fleet))
    .orderBy(asc(secrets.name), asc(secrets.version))
}

/** Throws AlreadyThere if another writer has created this version. */
export async function addSecret(store: Store, secret: NewSecret): Promise<void> {
  await store.write([store.db.insert(secrets).values(secret)])
}

export async function findSealed(
  store: Store,
  fleet: string,
  name: string,
  version: number,
): Promise<{ readonly sealed: string; readonly epoch: number } | undefined> {
  const [row] = await store.db
    .select({ sealed: secrets.sealed, epoch: sql<number>`COALESCE(${secrets.epoch}, 1)` })
    .from(secrets)
    .where(and(eq(secrets.fleet, fleet), eq(secrets.name, name), eq(secrets.version, version)))
  return row
}
