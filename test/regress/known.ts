/** Files that are expected to fail, grouped by the first cause that their diffs show. */
import type { Mode, Suite } from './options.ts'

export interface KnownCause {
  readonly reason: string
  readonly files: readonly string[]
}

type Judged = Exclude<Mode, 'pgbouncer'>

const inSession: readonly KnownCause[] = [
  {
    reason: 'the server has loaded PL/pgSQL for an earlier client, which reserves its prefix',
    files: words('guc'),
  },
  {
    reason: 'the server has a schema for temporary tables from an earlier client, so that naming it creates none',
    files: words('temp'),
  },
  {
    reason: 'a reconnect of the client is no new session in the statistics of the database',
    files: words('stats'),
  },
]

const inTransaction: readonly KnownCause[] = inSession

/** A mode without an entry is only reported. */
export const known: Readonly<Record<Suite, Partial<Readonly<Record<Judged, readonly KnownCause[]>>>>> = {
  regress: { direct: [], session: inSession, transaction: inTransaction },
  isolation: { direct: [], session: [] },
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}
