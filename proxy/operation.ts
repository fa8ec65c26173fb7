/** Operations on pools, and queries between workers for their consoles. */

import type { OperationSpec, OrderEffect, PoolOperation } from '../shared/operations.ts'

/** Operations that change what outlives them: all workers execute them, in one order. */
export type Operation = PoolOperation | 'suspend'

/** What a worker can wait for. */
export type Awaited = Exclude<OperationSpec['waitsFor'], 'version' | 'nothing'>

/** State set by PAUSE, DISABLE, SUSPEND and SET: it belongs to the process, whichever thread serves. */
export interface OperatedState {
  readonly pausedAll: boolean
  readonly paused: readonly string[]
  readonly disabled: readonly string[]
  readonly suspended: boolean
  /** Key and value of each SET, in order. */
  readonly overrides: readonly (readonly [string, string | number])[]
}

/** A change of a database's state that control has ordered. */
export interface OrderedChange {
  readonly pool: string
  readonly effect: OrderEffect
  readonly on: boolean
}

/** Queries and operations of one worker's console to the others. */
export type WorkerQuery =
  /** The rows of a SHOW command. */
  | { readonly kind: 'rows'; readonly command: string }
  | { readonly kind: 'operate'; readonly operation: Operation; readonly database: string | null }
  | { readonly kind: 'kill_client'; readonly client: number }
  /** SET; null drops all overrides. */
  | { readonly kind: 'set'; readonly key: string; readonly value: string | null }
  /** Answered when the condition holds, however long that takes. */
  | { readonly kind: 'wait'; readonly for: Awaited; readonly database: string | null }

/** Rows; or whether anything was changed or found. */
export type QueryAnswer = readonly (readonly (string | number | null)[])[] | boolean | null
