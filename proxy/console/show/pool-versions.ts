import { comparePositions } from '../../../shared/position.ts'
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
 * named in `error`.
 */
export const poolVersions: Table = {
  columns: [
    ...texts('database', 'user'),
    ...bigints('desired_version'),
    ...texts('desired_hash'),
    ...bigints('running_version'),
    ...texts('running_hash', 'state', 'error'),
    ...integers('draining_servers'),
  ],
  join: byKey(2, [8]),
  rows: (engine) =>
    comparisons(engine)
      .map((comparison) => rowOf(comparison, engine))
      .sort((a, b) => compare(String(a[0]), String(b[0])) || compare(String(a[1]), String(b[1]))),
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
  ]
}

function stateOf(failed: boolean, behind: boolean): string {
  if (failed) return 'failed'
  return behind ? 'behind' : 'in_sync'
}
