import type { Io } from '../io/io.ts'

/** A time of the engine's clock as PgBouncer prints it: "2026-11-23 18:43:07 UTC". */
export function timestamp(io: Io, atMs: number): string {
  const wall = new Date(io.wallMs() - (io.nowMs() - atMs))
  return `${wall.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

/** A duration in PgBouncer's two columns: whole seconds, and the rest in microseconds. */
export function secondsAndMicros(ms: number): [seconds: number, micros: number] {
  const micros = Math.max(0, Math.floor(ms * 1000))
  return [Math.floor(micros / microsPerSecond), micros % microsPerSecond]
}

const microsPerSecond = 1_000_000
