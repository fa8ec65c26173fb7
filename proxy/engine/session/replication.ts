/**
 * Replication connections (manual, "Streaming Replication Protocol"). Such a client has a server to itself, from its
 * login to its end, opened with the client's startup parameters and never given to another client. Their messages are
 * forwarded like all others.
 */
import { SqlError } from '../../../shared/errors.ts'

export interface Replication {
  readonly mode: 'physical' | 'logical'
  /** The client's startup parameters, for the server's startup packet; without user and database. */
  readonly parameters: Readonly<Record<string, string>>
}

/** Parses the startup parameter `replication`; null for an ordinary session. Its values are PostgreSQL's. */
export function replicationOf(parameters: ReadonlyMap<string, string>): Replication | null {
  const value = parameters.get('replication')
  if (value === undefined) return null
  const mode = value === 'database' ? 'logical' : isTrue(value) ? 'physical' : null
  if (mode === null) return null
  const { user: _user, database: _database, ...rest } = Object.fromEntries(parameters)
  return { mode, parameters: rest }
}

/** Boolean values as in PostgreSQL: unique prefixes of the words, ignoring case. */
function isTrue(value: string): boolean {
  const word = value.toLowerCase()
  const begins = (whole: string, lengthMin: number): boolean => word.length >= lengthMin && whole.startsWith(word)
  if (begins('true', 1) || begins('yes', 1) || word === 'on' || word === '1') return true
  if (begins('false', 1) || begins('no', 1) || begins('off', 2) || word === '0') return false
  throw new SqlError('invalid_parameter_value', `invalid value for parameter "replication": "${value}"`)
}
