import { comparePositions } from '../../../shared/position.ts'
import { operatedStates } from '../../../shared/operations.ts'
import { mergedServing } from '../../snapshot.ts'
import type { ServingSnapshot } from '../../snapshot.ts'
import type { OperatedEngine } from '../operated-engine.ts'
import { shownHash, versionHash } from '../../spec.ts'
import type { Desired } from '../../spec.ts'
import type { Pool } from '../../engine/pool/pool.ts'
import { byKey } from '../join.ts'
import { compare, sum } from '../pools.ts'
import { bigints, integers, texts } from '../table.ts'
import type { Row, Table } from '../table.ts'

/**
 * Desired and running configuration of each pool. A running pool belongs to the last applied version, even if that
 * version kept it. `state`: in_sync; behind, not applied yet; failed, see `error`; overridden, by a SET at this console
 * named in `error`. `serving` and `operated` are what a report tells control.
 */
export const poolVersions: Table = {
  columns: [
    ...texts('database', 'user'),
    ...bigints('desired_version'),
    ...texts('desired_hash'),
    ...bigints('running_version'),
    ...texts('running_hash', 'state', 'error'),
    ...integers('draining_servers'),
    ...texts('serving', 'serving_error', 'operated'),
  ],
  join: joined,
  rows: (engine) => sortedComparisons(engine).map((comparison) => rowOf(comparison, engine)),
  part: (engine) =>
    sortedComparisons(engine).map((comparison) => [
      ...rowOf(comparison, engine),
      JSON.stringify(comparison.name?.source?.serving ?? null),
    ]),
}

const at = { draining: 8, serving: 9, servingError: 10, part: 12 } as const

/** Each worker opens servers of its own and knows of their logins only. */
function joined(ofWorkers: readonly (readonly Row[])[]): Row[] {
  const parts = Map.groupBy(ofWorkers.flat(), ([database, user]) => JSON.stringify([database, user]))
  return byKey(2, [at.draining])(ofWorkers).map((row) => {
    const all = (parts.get(JSON.stringify(row.slice(0, 2))) ?? []).map((part) => String(part[at.part]))
    const whole = row.slice(0, at.part)
    const serving = mergedServing(all.map((text) => JSON.parse(text) as ServingSnapshot | null))
    ;[whole[at.serving], whole[at.servingError]] = servingTexts(serving)
    return whole
  })
}

function servingTexts(serving: ServingSnapshot | null): [serving: string | null, error: string | null] {
  if (serving === null) return [null, null]
  if (serving.state === 'failed') return ['no', `${serving.sqlstate}: ${serving.message}`]
  return [serving.state === 'untried' ? 'not_yet_tried' : 'yes', null]
}

function sortedComparisons(engine: OperatedEngine): Comparison[] {
  return comparisons(engine).sort((a, b) => compare(a.database, b.database) || compare(a.user, b.user))
}

interface Comparison {
  readonly database: string
  readonly user: string
  /** Null: it should not exist. */
  readonly desiredHash: string | null
  readonly name: Pool | null
}

function comparisons(engine: OperatedEngine): Comparison[] {
  const { pools } = engine
  const desired = wanted(engine)
  const all = [...pools.all()]
  if (desired === null) {
    return all.map((pool) => ({ ...keysOf(pool), desiredHash: desiredHashOf(pool), name: pool }))
  }
  const result: Comparison[] = desired.pools.map(({ pool, user, hash }) => ({
    database: pool,
    user,
    desiredHash: hash,
    name: pools.find(pool, user),
  }))
  const listed = new Set(result.map(({ name: pool }) => pool))
  for (const name of all) {
    if (!listed.has(name)) result.push({ ...keysOf(name), desiredHash: followedHash(name, desired), name })
  }
  return result
}

/** Hash in the version, without overrides. */
function desiredHashOf({ spec }: Pool): string | null {
  return spec === null ? null : versionHash(spec)
}

/** A pool created for "*" should run what "*" runs. */
function followedHash({ template }: Pool, desired: Desired): string | null {
  if (template === null) return null
  const wanted = desired.pools.find(({ pool, user }) => pool === template.database && user === template.user)
  return wanted?.hash ?? null
}

function keysOf({ database, user }: Pool): { database: string; user: string } {
  return { database, user }
}

/** The last offer of control, unless something newer runs. */
function wanted({ desired, pools }: OperatedEngine): Desired | null {
  if (desired === null || comparePositions(pools.running, desired.position) > 0) return null
  return desired
}

function rowOf({ database, user, desiredHash, name: pool }: Comparison, engine: OperatedEngine): Row {
  const { running } = engine.pools
  const desired = wanted(engine)
  const spec = pool?.spec ?? null
  const runningHash = spec === null ? null : shownHash(spec)
  const wantedPosition = desired?.position ?? running
  const differs = desiredHash !== runningHash
  const error = desired?.error ?? null
  const overridden = pool?.spec?.overridden === undefined ? null : engine.overrides.ofPools
  const concerned =
    error !== null && (differs || error.pool === null || (error.pool === database && error.user === user))
  return [
    database,
    user,
    desiredHash === null ? null : (wantedPosition?.version ?? null),
    desiredHash,
    runningHash === null ? null : (running?.version ?? null),
    runningHash,
    !concerned && overridden !== null
      ? 'overridden'
      : stateOf(concerned, differs || comparePositions(wantedPosition, running) !== 0),
    concerned ? `${error.code}: ${error.message}` : overridden && `SET ${overridden}`,
    pool === null ? 0 : sum(pool.active, ({ server }) => (server?.serverSet === pool.source?.current ? 0 : 1)),
    ...servingTexts(pool?.source?.serving ?? null),
    operatedText(engine, database),
  ]
}

/** Null if operators have not touched it. */
function operatedText({ pools, context }: OperatedEngine, database: string): string | null {
  const states = operatedStates.filter(
    (state) =>
      ({
        paused: pools.pausedAll || pools.isPaused(database),
        disabled: pools.isDisabled(database),
        suspended: context.suspended,
      })[state],
  )
  return states.length === 0 ? null : states.join(', ')
}

function stateOf(failed: boolean, behind: boolean): string {
  if (failed) return 'failed'
  return behind ? 'behind' : 'in_sync'
}
