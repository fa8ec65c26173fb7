/**
 * What a database must do for control: read with one statement, and write a list of statements whole or not at all.
 * There is no interactive transaction, because D1 has none; what must be true when a write happens stands in the list
 * as a guard (see write.ts). better-sqlite3, libSQL and D1 are drivers of this port.
 */
export type SqlValue = string | number | null | Uint8Array

export interface Statement {
  readonly sql: string
  readonly params: readonly SqlValue[]
}

export interface SqlPort {
  /** Rows in order, each with its values in the order of the columns. */
  read(statement: Statement): Promise<SqlValue[][]>
  /**
   * Runs the statements in order, atomically, and is on disk when it resolves. Gives the number of rows each changed.
   * Throws GuardFailed or AlreadyThere, and nothing of the list has happened then.
   */
  write(statements: readonly Statement[]): Promise<number[]>
  close(): Promise<void>
}

/** A guard of a write did not hold: somebody else was first. Read again and decide anew. */
export class GuardFailed extends Error {
  constructor(options?: ErrorOptions) {
    super('a guard of the write did not hold', options)
    this.name = 'GuardFailed'
  }
}

/** A row with this key exists: somebody else was first. */
export class AlreadyThere extends Error {
  constructor(options?: ErrorOptions) {
    super('a row with this key is already there', options)
    this.name = 'AlreadyThere'
  }
}

/** The store cannot be used: damaged, not a database, made by a newer Flotilla. The message is for the operator. */
export class StoreUnusable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StoreUnusable'
  }
}
