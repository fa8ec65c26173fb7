/**
 * What control requires of a database: a read of one statement, and an atomic write of a list of statements. There is
 * no interactive transaction, because D1 has none; conditions of a write are guards in its list (see write.ts).
 * better-sqlite3, libSQL and D1 are drivers of this port.
 */
export type SqlValue = string | number | null | Uint8Array

export interface Statement {
  readonly sql: string
  readonly params: readonly SqlValue[]
}

export interface SqlPort {
  /** Rows in order, with values in the order of columns. */
  read(statement: Statement): Promise<SqlValue[][]>
  /**
   * Runs the statements in order, atomically; durable when it resolves. Returns the number of changed rows for each.
   * Throws GuardFailed, AlreadyThere, StoreBusy or StoreFull, in which case nothing was changed.
   */
  write(statements: readonly Statement[]): Promise<number[]>
  close(): Promise<void>
}

/** A guard of a write failed: another writer was first. Read again and decide anew. */
export class GuardFailed extends Error {
  constructor(options?: ErrorOptions) {
    super('a guard of the write failed', options)
    this.name = 'GuardFailed'
  }
}

/** A row with this key exists: another writer was first. */
export class AlreadyThere extends Error {
  constructor(options?: ErrorOptions) {
    super('a row with this key exists', options)
    this.name = 'AlreadyThere'
  }
}

/** Another process holds the lock of the store. Nothing was changed; the same write may succeed later. */
export class StoreBusy extends Error {
  constructor(options?: ErrorOptions) {
    super('another process has locked the store', options)
    this.name = 'StoreBusy'
  }
}

/** There is no disk space for a write. Nothing was changed. */
export class StoreFull extends Error {
  constructor(options?: ErrorOptions) {
    super('there is no disk space for the store', options)
    this.name = 'StoreFull'
  }
}

/** The store is unusable: damaged, not a database, or created by a newer Flotilla. The message is for the operator. */
export class StoreUnusable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StoreUnusable'
  }
}
