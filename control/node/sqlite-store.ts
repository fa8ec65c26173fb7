import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { copySqlite, lockFile, openSqlite } from '../store/better-sqlite3.ts'
import { migrate } from '../store/migrate.ts'
import type { Migration } from '../store/migrate.ts'
import { StoreUnusable } from '../store/port.ts'
import { openStore } from '../store/store.ts'
import type { Store } from '../store/store.ts'

export const storeFile = 'control.db'
const folderMode = 0o700
const extension = '.sql'

/**
 * Opens the store in a directory, created if missing, and migrates it to the newest schema. Throws StoreUnusable. Older
 * releases do not open a migrated store: it is copied to `control.db.before-…` first, which they do open.
 */
export async function openSqliteStore(folder: string, now: Date): Promise<Store> {
  makeFolder(folder)
  const path = join(folder, storeFile)
  const port = openSqlite(path)
  try {
    await migrate(port, readMigrations(), now, (before) => copySqlite(path, `${path}.before-${before}`))
    return openStore(port)
  } catch (error) {
    await port.close()
    if (error instanceof StoreUnusable) throw error
    throw new StoreUnusable(`could not use ${path}: ${(error as Error).message}`, { cause: error })
  }
}

/** The directory of a store, for its owner alone. Throws StoreUnusable. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: folderMode })
  } catch (error) {
    throw new StoreUnusable(`could not create the directory ${folder}: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * Keeps a second control off a directory: presence, parked polls and hints are in the memory of one process, so two on
 * one store would each know half. Returns the function that ends the lock. Throws StoreUnusable.
 */
export function lockFolder(folder: string): () => void {
  makeFolder(folder)
  const unlock = lockFile(join(folder, 'control.lock'))
  if (unlock !== null) return unlock
  throw new StoreUnusable(`another control is running on ${folder}: stop it, or choose another directory with --data`)
}

/** The files of migrations/, in order. */
export function readMigrations(): Migration[] {
  const folder = new URL('../../migrations/', import.meta.url)
  return readdirSync(folder)
    .filter((name) => name.endsWith(extension))
    .toSorted()
    .map((name) => ({ id: name.slice(0, -extension.length), sql: readFileSync(new URL(name, folder), 'utf8') }))
}
