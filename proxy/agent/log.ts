export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export type LogFields = Readonly<Record<string, string | number | boolean | null>>

/** Logs a message. Neither message nor fields may contain secrets. */
export type Log = (level: LogLevel, message: string, fields?: LogFields) => void

/**
 * Writes one JSON object per line: `time` (RFC 3339 UTC), `level`, `message`, then the fields, which never replace
 * these three.
 */
export function jsonLog(write: (line: string) => void, now: () => Date): Log {
  return (level, message, fields) => {
    const head = { time: now().toISOString(), level, message }
    write(`${JSON.stringify({ ...head, ...fields, ...head })}\n`)
  }
}

/** The message of an unknown thrown value, in one line. */
export function reasonOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown)
  return text.replaceAll(/\s*\n\s*/g, ' ')
}
