import { TypeOid } from '../protocol/write.ts'
import type { Column } from '../protocol/write.ts'
import type { OperatedEngine } from './operated-engine.ts'

/** Numbers are integers; null is NULL. */
export type Value = string | number | null
export type Row = readonly Value[]

/** Merges the rows of workers into those of one table. */
export type Join = (ofWorkers: readonly (readonly Row[])[]) => readonly Row[]

/** Result of a SHOW command. `rows` may be read lazily, over several turns of the loop. */
export interface Table {
  readonly columns: readonly Column[]
  readonly rows: (engine: OperatedEngine) => Iterable<Row>
  /** How the rows of several workers are merged; null if every worker has the same. */
  readonly join: Join | null
  /** What a worker contributes to `join`, if that is more than its rows. */
  readonly part?: (engine: OperatedEngine) => Iterable<Row>
}

export function texts(...names: readonly string[]): Column[] {
  return names.map((name) => ({ name, type: TypeOid.text }))
}

export function integers(...names: readonly string[]): Column[] {
  return names.map((name) => ({ name, type: TypeOid.int4 }))
}

export function bigints(...names: readonly string[]): Column[] {
  return names.map((name) => ({ name, type: TypeOid.int8 }))
}

export function numerics(...names: readonly string[]): Column[] {
  return names.map((name) => ({ name, type: TypeOid.numeric }))
}
