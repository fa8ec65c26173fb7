import { sql } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/sqlite-proxy'
import type { SqliteRemoteDatabase } from 'drizzle-orm/sqlite-proxy'
import type { SqlPort, SqlValue, Statement } from './port.ts'
import { guards } from './schema.ts'

/** Anything that can say its SQL: drizzle's inserts, updates, deletes. */
export interface Writable {
  toSQL(): { sql: string; params: unknown[] }
}

/** The database as the files of this folder use it: typed reads, and writes as lists. */
export interface Store {
  readonly db: SqliteRemoteDatabase
  /** Atomic, see SqlPort. */
  write(list: readonly Writable[]): Promise<number[]>
  close(): Promise<void>
}

export function openStore(port: SqlPort): Store {
  const db = drizzle(async (text, params, method) => {
    if (method === 'run') throw new TypeError('writes go through Store.write')
    const rows = await port.read({ sql: text, params: params as SqlValue[] })
    // drizzle declares rows as a list, yet takes one row, or undefined, from a "get".
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
  throw new TypeError(`${typeof param} is not a value of SQL`)
}

/**
 * Fails the whole write when `condition` does not hold at that point of the list: a row with 0 is inserted then, which
 * the table's CHECK refuses.
 */
export function guard(store: Store, condition: SQL): Writable {
  return store.db.insert(guards).select(sql`SELECT 0 WHERE NOT (${condition})`)
}
