import { eq, sql } from 'drizzle-orm'
import { control } from './schema.ts'
import { guard } from './store.ts'
import type { Store } from './store.ts'

const only = eq(control.id, 1)

export async function readEpoch(store: Store): Promise<number> {
  const [row] = await store.db.select({ epoch: control.epoch }).from(control).where(only)
  return row!.epoch
}

/**
 * Call once after the store was restored from a backup: versions may have gone back, and proxies accept a lower version
 * only with a higher epoch. Throws GuardFailed if the epoch is not `from`.
 */
export async function raiseEpoch(store: Store, { from, to }: { from: number; to: number }): Promise<void> {
  await store.write([
    guard(store, sql`(SELECT ${control.epoch} FROM ${control} WHERE ${only}) = ${from}`),
    store.db.update(control).set({ epoch: to }).where(only),
  ])
}

/** Stores `check` if the store has none; returns the stored one. */
export async function ensureKeyCheck(store: Store, check: string): Promise<string> {
  await store.write([
    store.db
      .update(control)
      .set({ key_check: check })
      .where(sql`${only} AND ${control.key_check} = ''`),
  ])
  const [row] = await store.db.select({ key_check: control.key_check }).from(control).where(only)
  return row!.key_check
}
