import Database from 'better-sqlite3'
import { AlreadyThere, GuardFailed, StoreUnusable } from './port.ts'
import type { SqlPort, SqlValue, Statement } from './port.ts'

/** How long a write waits for a write of another process on the same file. */
const busyTimeoutMs = 5000

/** Number of statements kept prepared; control has far fewer queries, except for lists of varying length. */
const preparedMax = 200

/** Raised by the triggers of append-only tables, see migrations/. */
const alreadyThereMessage = 'already there'

/** The embedded driver: one SQLite file. Throws StoreUnusable if it is damaged or not a database. */
export function openSqlite(path: string): SqlPort {
  const database = open(path)
  const prepared = new Map<string, Database.Statement<SqlValue[]>>()

  const prepare = (sql: string): Database.Statement<SqlValue[]> => {
    const known = prepared.get(sql)
    if (known !== undefined) return known
    if (prepared.size >= preparedMax) prepared.delete(prepared.keys().next().value!)
    const statement = database.prepare<SqlValue[]>(sql)
    // Rows as arrays; statements without rows do not accept the setting.
    if (statement.reader) statement.raw(true)
    prepared.set(sql, statement)
    return statement
  }

  const writeAll = database.transaction((statements: readonly Statement[]) =>
    statements.map(({ sql, params }) => {
      const statement = prepare(sql)
      if (!statement.reader) return statement.run(...params).changes
      return statement.all(...params).length
    }),
  )

  return {
    async read({ sql, params }) {
      // raw(true) above returns rows as arrays.
      return prepare(sql).all(...params) as SqlValue[][]
    },
    async write(statements) {
      try {
        return writeAll.immediate(statements)
      } catch (error) {
        throw translated(error)
      }
    },
    async close() {
      database.close()
    },
  }
}

function open(path: string): Database.Database {
  let database: Database.Database | undefined
  try {
    database = new Database(path, { timeout: busyTimeoutMs })
    database.pragma('journal_mode = WAL')
    // A reopened WAL database would run with NORMAL, and a power loss could lose versions.
    database.pragma('synchronous = FULL')
    database.pragma('foreign_keys = ON')
    const verdict = database.pragma('quick_check(1)', { simple: true })
    if (verdict !== 'ok') throw new StoreUnusable(`${path} is damaged: ${String(verdict)}`)
    return database
  } catch (error) {
    database?.close()
    if (error instanceof StoreUnusable) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new StoreUnusable(`could not open ${path}: ${reason}`, { cause: error })
  }
}

function translated(error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) return error
  switch (error.code) {
    case 'SQLITE_CONSTRAINT_CHECK':
      return error.message.endsWith('constraint failed: guard') ? new GuardFailed({ cause: error }) : error
    case 'SQLITE_CONSTRAINT_PRIMARYKEY':
    case 'SQLITE_CONSTRAINT_UNIQUE':
      return new AlreadyThere({ cause: error })
    case 'SQLITE_CONSTRAINT_TRIGGER':
      return error.message === alreadyThereMessage ? new AlreadyThere({ cause: error }) : error
    default:
      return error
  }
}
