import { sha256Hex } from '../../shared/hash.ts'
import { AlreadyThere, StoreUnusable } from './port.ts'
import type { SqlPort, Statement } from './port.ts'

export interface Migration {
  /** The file name without ".sql"; migrations run in this order. */
  readonly id: string
  readonly sql: string
}

const breakpoint = '--> statement-breakpoint'

/**
 * Migrates the store to the newest schema. Missing migrations are found by set difference, so that one merged late is
 * not skipped; the text of an applied one must not have changed. Throws StoreUnusable otherwise. A store of an older release
 * is given to `keepCopy` first, with the first migration that it lacks.
 */
export async function migrate(
  port: SqlPort,
  migrations: readonly Migration[],
  now: Date,
  keepCopy: (before: string) => void = () => undefined,
): Promise<void> {
  await port.write([
    statement(
      'CREATE TABLE IF NOT EXISTS schema_migrations ' +
        '(id TEXT PRIMARY KEY, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT, WITHOUT ROWID',
    ),
  ])
  const rows = await port.read(statement('SELECT id, sha256 FROM schema_migrations'))
  const applied = new Map(rows.map(([id, sha256]) => [String(id), sha256]))

  for (const { id, sql } of migrations) {
    const was = applied.get(id)
    applied.delete(id)
    if (was !== undefined && was !== sha256Hex(sql)) {
      throw new StoreUnusable(`migration ${id} differs from the one that created this store`)
    }
  }
  for (const id of applied.keys()) {
    throw new StoreUnusable(
      `the store has migration ${id}, which is unknown to this version of Flotilla; use a newer one`,
    )
  }

  const known = new Set(rows.map(([id]) => String(id)))
  const missing = migrations.filter(({ id }) => !known.has(id)).toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const [first] = missing
  if (first !== undefined && known.size > 0) keepCopy(first.id)
  for (const { id, sql } of missing) await apply(port, id, sql, now)
}

async function apply(port: SqlPort, id: string, sql: string, now: Date): Promise<void> {
  const parts = sql.split(breakpoint).map((part) => part.trim())
  try {
    await port.write([
      statement('INSERT INTO schema_migrations (id, sha256, applied_at) VALUES (?, ?, ?)', [
        id,
        sha256Hex(sql),
        now.toISOString(),
      ]),
      ...parts.map((part) => statement(part)),
    ])
  } catch (error) {
    // Another process that starts on the same store has just applied it.
    if (!(error instanceof AlreadyThere)) throw error
  }
}

function statement(sql: string, params: readonly string[] = []): Statement {
  return { sql, params }
}
