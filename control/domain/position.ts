import type { Position } from '../../shared/wire.ts'

/** Positive if `a` is above `b`: a higher epoch, or an equal epoch and a higher version. */
export function comparePositions(a: Position, b: Position): number {
  return a.epoch - b.epoch || a.version - b.version
}

export function samePosition(a: Position | null, b: Position | null): boolean {
  return a !== null && b !== null && comparePositions(a, b) === 0
}
