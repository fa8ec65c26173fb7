import { chmodSync, closeSync, openSync, renameSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { AlreadyThere, GuardFailed, StoreBusy, StoreFull, StoreUnusable } from './port.ts'
import type { SqlPort, SqlValue, Statement } from './port.ts'

/** How long a write waits while another process, such as a backup, holds the lock of the file. */
const busyTimeoutMs = 4000
/** Interval between its attempts. The driver would wait too, but would block the thread while it does. */
const busyRetryMs = 20

/** Secrets in it are sealed; documents and events are for its owner alone too. */
const fileMode = 0o600

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
      try {
        // raw(true) above returns rows as arrays.
        return prepare(sql).all(...params) as SqlValue[][]
      } catch (error) {
        throw translated(error)
      }
    },
    async write(statements) {
      const deadlineMs = performance.now() + busyTimeoutMs
      for (;;) {
        try {
          return writeAll.immediate(statements)
        } catch (error) {
          const reason = translated(error)
          if (!(reason instanceof StoreBusy) || performance.now() >= deadlineMs) throw reason
        }
        await sleep(busyRetryMs)
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
    if (path !== ':memory:') makeFile(path)
    database = new Database(path, { timeout: busyTimeoutMs })
    database.pragma('journal_mode = WAL')
    // A reopened WAL database would run with NORMAL, and a power loss could lose versions.
    database.pragma('synchronous = FULL')
    database.pragma('foreign_keys = ON')
    const verdict = database.pragma('quick_check(1)', { simple: true })
    if (verdict !== 'ok') throw new StoreUnusable(`${path} is damaged: ${String(verdict)}`)
    database.pragma('busy_timeout = 0')
    return database
  } catch (error) {
    database?.close()
    if (error instanceof StoreUnusable) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new StoreUnusable(`could not open ${path}: ${reason}`, { cause: error })
  }
}

/** Copies a database as it is now. The copy is complete as soon as it is there. Throws StoreUnusable. */
export function copySqlite(path: string, copy: string): void {
  const unfinished = `${copy}.new`
  const database = new Database(path, { timeout: busyTimeoutMs })
  try {
    rmSync(unfinished, { force: true })
    makeFile(unfinished)
    database.prepare('VACUUM INTO ?').run(unfinished)
    renameSync(unfinished, copy)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StoreUnusable(`could not copy ${path} to ${copy} before its migration: ${reason}`, { cause: error })
  } finally {
    database.close()
  }
}

/**
 * Takes an exclusive lock on a file of its own, created if missing; null if another process has it. It ends with the
 * process, however that ends, or with the function that is returned.
 */
export function lockFile(path: string): (() => void) | null {
  const database = new Database(path, { timeout: 0 })
  try {
    database.exec('BEGIN EXCLUSIVE')
    return () => database.close()
  } catch (error) {
    database.close()
    if (translated(error) instanceof StoreBusy) return null
    throw error
  }
}

/** SQLite creates files that all users can read, and its journals with the mode of the database. */
function makeFile(path: string): void {
  closeSync(openSync(path, 'a', fileMode))
  chmodSync(path, fileMode)
}

function translated(error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) return error
  if (error.code.startsWith('SQLITE_BUSY')) return new StoreBusy({ cause: error })
  switch (error.code) {
    case 'SQLITE_FULL':
      return new StoreFull({ cause: error })
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
