import { sql } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/sqlite-proxy'
import type { SqliteRemoteDatabase } from 'drizzle-orm/sqlite-proxy'
import type { SqlPort, SqlValue, Statement } from './port.ts'
import { guards } from './schema.ts'

/** A statement that provides its SQL: drizzle's inserts, updates, deletes. */
export interface Writable {
  toSQL(): { sql: string; params: unknown[] }
}

/** The database as used in this folder: typed reads, and writes as lists. */
export interface Store {
  readonly db: SqliteRemoteDatabase
  /** Atomic, see SqlPort. */
  write(list: readonly Writable[]): Promise<number[]>
  close(): Promise<void>
}

export function openStore(port: SqlPort): Store {
  const db = drizzle(async (text, params, method) => {
    if (method === 'run') throw new TypeError('use Store.write for writes')
    const rows = await port.read({ sql: text, params: params as SqlValue[] })
    // drizzle declares rows as an array, but takes one row, or undefined, for "get".
    return { rows: method === 'get' ? (rows[0] as SqlValue[]) : rows }
  })
  return {
    db,
    write: (list) => port.write(list.map(statementOf)),
    close: () => port.close(),
  }
}

function statementOf(writable: Writable): Statement {
  const { sql: text, params } = writable.toSQL()
  return { sql: text, params: params.map(sqlValue) }
}

function sqlValue(param: unknown): SqlValue {
  if (typeof param === 'string' || typeof param === 'number' || param === null) return param
  if (param instanceof Uint8Array) return param
  throw new TypeError(`${typeof param} is not an SQL value`)
}

/**
 * Fails the whole write if `condition` is false at this point of the list: it then inserts 0, which violates the
 * table's CHECK.
 */
export function guard(store: Store, condition: SQL): Writable {
  return store.db.insert(guards).select(sql`SELECT 0 WHERE NOT (${condition})`)
}
