import type { Position } from './wire.ts'

/**
 * Positive when `one` is above `other`, 0 when they are the same, negative when it is below. A restored store's higher epoch
 * comes first, then the version; null, where nothing runs or was offered yet, is below every position.
 */
export function comparePositions(one: Position | null, other: Position | null): number {
  if (one === null || other === null) return Number(one !== null) - Number(other !== null)
  return one.epoch - other.epoch || one.version - other.version
}
