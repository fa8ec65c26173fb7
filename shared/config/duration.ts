const unitsMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
type Unit = keyof typeof unitsMs

const pattern = /^(\d{1,12})(ms|s|m|h|d)$/

/** "250ms", "5s", "10m", "1h", "7d" → milliseconds; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const match = pattern.exec(text)
  if (match === null) return undefined
  const ms = Number(match[1]) * unitsMs[match[2] as Unit]
  return Number.isSafeInteger(ms) ? ms : undefined
}

/** Canonical spelling of a duration, so that "60s" and "1m" hash alike: the largest unit without a fraction. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s'
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    if (ms % unitsMs[unit] === 0) return `${ms / unitsMs[unit]}${unit}`
  }
  return `${ms}ms`
}
