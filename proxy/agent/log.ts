export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export type LogFields = Readonly<Record<string, string | number | boolean | null>>

/** Says one thing to whoever runs the proxy. Secrets never go in, neither in the message nor in a field. */
export type Log = (level: LogLevel, message: string, fields?: LogFields) => void

/**
 * Writes one JSON object a line: `time` (RFC 3339 UTC), `level`, `message`, then the fields. A field never replaces
 * one of those three.
 */
export function jsonLog(write: (line: string) => void, now: () => Date): Log {
  return (level, message, fields) => {
    const head = { time: now().toISOString(), level, message }
    write(`${JSON.stringify({ ...head, ...fields, ...head })}\n`)
  }
}

/** What an unknown thrown value says, in one line. */
export function reasonOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown)
  return text.replaceAll(/\s*\n\s*/g, ' ')
}
