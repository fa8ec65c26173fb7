/** What operators do to pools, and what workers ask each other for their consoles. */

import type { PoolOperation } from '../shared/operations.ts'

export type Operation = PoolOperation | 'suspend'

/** Servers of the database that still have to end: at 0, a pause is complete and nobody is on an old connection. */
export interface OperationOutcome {
  /** There is no such database here. */
  readonly known: boolean
  readonly paused: boolean
  readonly servers: number
}

/** PAUSE, DISABLE, SUSPEND and SET that hold: they are the process's, whichever thread serves. */
export interface OperatedState {
  readonly pausedAll: boolean
  readonly paused: readonly string[]
  readonly disabled: readonly string[]
  readonly suspended: boolean
  /** Key and value of each SET, in their order. */
  readonly overrides: readonly (readonly [string, string | number])[]
}

/** What one worker's console asks the others. */
export type WorkerQuery =
  /** The rows of a SHOW command. */
  | { readonly kind: 'rows'; readonly command: string }
  | { readonly kind: 'operate'; readonly operation: Operation; readonly database: string | null }
  | { readonly kind: 'kill client'; readonly client: number }
  /** SET; with null, what SET has changed is taken back. */
  | { readonly kind: 'set'; readonly key: string; readonly value: string | null }
  /** Answered when it is so, however long that takes. */
  | { readonly kind: 'wait'; readonly for: 'released' | 'closed' | 'flushed'; readonly database: string | null }

/** Rows; whether anything was changed or found. */
export type QueryAnswer = readonly (readonly (string | number | null)[])[] | boolean | null
