import { comparePositions } from '../../shared/position.ts'
import type { Position } from '../../shared/wire.ts'

/** A process of a proxy, and the highest position that it said it runs or was offered. */
export interface Claim {
  readonly fleet: string
  readonly id: string
  readonly boot: string
  readonly position: Position
}

/** How far an epoch may be raised at once: what a proxy claims is not trusted blindly, and there is no way back. */
export const epochJumpMax = 100

export interface NeededEpoch {
  /** The lowest epoch that is above every claim that can be followed; null if no proxy is above this store. */
  readonly needed: number | null
  /** Proxies that are above this store. */
  readonly above: readonly Claim[]
  /** Claims of epochs that are too high to be followed. */
  readonly ignored: readonly Claim[]
}

/** Which epoch a store needs so that all proxies follow it. `versionOf` is the current version of a fleet. */
export function neededEpoch(
  epoch: number,
  versionOf: (fleet: string) => number,
  claims: readonly Claim[],
): NeededEpoch {
  const all = claims.filter(
    ({ fleet, position }) => comparePositions(position, { epoch, version: versionOf(fleet) }) > 0,
  )
  const isTooHigh = ({ position }: Claim): boolean => position.epoch >= epoch + epochJumpMax
  const above = all.filter((claim) => !isTooHigh(claim))
  const highest = above.reduce((max, { position }) => Math.max(max, position.epoch), 0)
  return { needed: above.length === 0 ? null : highest + 1, above, ignored: all.filter(isTooHigh) }
}
