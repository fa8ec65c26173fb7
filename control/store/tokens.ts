import { and, asc, eq, isNull } from 'drizzle-orm'
import { tokens } from './schema.ts'
import type { Store } from './store.ts'

export type TokenRow = typeof tokens.$inferSelect

export async function addToken(store: Store, token: TokenRow): Promise<void> {
  await store.write([store.db.insert(tokens).values(token)])
}

export async function listTokens(store: Store, fleet: string): Promise<Omit<TokenRow, 'sha256' | 'fleet'>[]> {
  return await store.db
    .select({ id: tokens.id, name: tokens.name, created_at: tokens.created_at, revoked_at: tokens.revoked_at })
    .from(tokens)
    .where(eq(tokens.fleet, fleet))
    .orderBy(asc(tokens.created_at), asc(tokens.id))
}

/** False if there is no such token. A token revoked before keeps its time. */
export async function revokeToken(store: Store, fleet: string, id: string, revokedAt: string): Promise<boolean> {
  const which = and(eq(tokens.fleet, fleet), eq(tokens.id, id))
  await store.write([
    store.db
      .update(tokens)
      .set({ revoked_at: revokedAt })
      .where(and(which, isNull(tokens.revoked_at))),
  ])
  const rows = await store.db.select({ id: tokens.id }).from(tokens).where(which)
  return rows.length === 1
}
