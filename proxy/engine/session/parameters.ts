/**
 * Run-time parameters that follow a client to the servers it is joined with: those of its startup packet, and those
 * that PostgreSQL reports when they change (manual, "Asynchronous Operations").
 */

/** Reported by PostgreSQL and settable in a session, in lower case. `search_path` is reported from PostgreSQL 18 on. */
const followedParameters: ReadonlySet<string> = new Set([
  'application_name',
  'client_encoding',
  'datestyle',
  'intervalstyle',
  'search_path',
  'standard_conforming_strings',
  'timezone',
])

/** Reported, but not settable in a session. */
const fixedParameters: ReadonlySet<string> = new Set([
  'in_hot_standby',
  'integer_datetimes',
  'is_superuser',
  'server_encoding',
  'server_version',
  'session_authorization',
])

/** Those that follow all clients, and `extra`, a comma-separated list. */
export function followedWith(extra: string): ReadonlySet<string> {
  const names = extra.split(',').map((name) => name.trim().toLowerCase())
  const further = names.filter((name) => name !== '' && !fixedParameters.has(name))
  return further.length === 0 ? followedParameters : new Set([...followedParameters, ...further])
}

/** An immutable set of parameters, lower-case name → value. Two sets are equal if their keys are. */
export class Parameters {
  static readonly none = new Parameters(new Map())
  /** Of a session whose settings are unknown: only a reset leads to a client's. */
  static readonly unknown = new Parameters(new Map([['', '']]))

  readonly key: string
  readonly values: ReadonlyMap<string, string>
  /**
   * Parameters that change the meaning of an SQL text: its bytes under another encoding, its tables under another path,
   * its dates under another style. All except application_name.
   */
  readonly meaning: string

  private constructor(values: ReadonlyMap<string, string>) {
    this.values = values
    this.key = keyOf([...values])
    this.meaning = values.has('application_name')
      ? keyOf([...values].filter(([name]) => name !== 'application_name'))
      : this.key
  }

  static of(values: Iterable<readonly [string, string]>): Parameters {
    const lower = new Map<string, string>()
    for (const [name, value] of values) lower.set(name.toLowerCase(), value)
    return lower.size === 0 ? Parameters.none : new Parameters(lower)
  }

  with(name: string, value: string): Parameters {
    const lower = name.toLowerCase()
    if (this.values.get(lower) === value) return this
    return new Parameters(new Map(this.values).set(lower, value))
  }
}

function keyOf(values: readonly (readonly [string, string])[]): string {
  return values.length === 0 ? '' : JSON.stringify(values.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

export interface Adjustment {
  /** A server has a setting that cannot be undone individually: everything is reset first. */
  readonly resetAll: boolean
  readonly set: readonly (readonly [string, string])[]
}

/**
 * The changes that turn a server with `have` into one with `want`. `initial` are the values reported at the server's
 * login, to which parameters return that the client does not set.
 */
export function adjustment(have: Parameters, want: Parameters, initial: ReadonlyMap<string, string>): Adjustment {
  const set: [string, string][] = []
  for (const [name, value] of want.values) {
    if ((have.values.get(name) ?? initial.get(name)) !== value) set.push([name, value])
  }
  for (const name of have.values.keys()) {
    if (want.values.has(name)) continue
    const value = initial.get(name)
    if (value === undefined) return { resetAll: true, set: [...want.values] }
    set.push([name, value])
  }
  return { resetAll: false, set }
}

/** Values of application_name that PostgreSQL accepts unchanged (guc.c: printable ASCII; NAMEDATALEN). */
const plainApplicationName = /^[\x20-\x7e]{0,63}$/

/**
 * What a server that reported `reported` at its login would report to a client with `parameters`; null if only a server
 * can tell, because a value might be spelled differently, or rejected.
 */
export function foreseenReport(
  reported: ReadonlyMap<string, string>,
  parameters: Parameters,
): ReadonlyMap<string, string> | null {
  const byName = new Map([...reported.keys()].map((name) => [name.toLowerCase(), name]))
  const foreseen = new Map(reported)
  for (const [lower, value] of parameters.values) {
    const name = byName.get(lower)
    if (name === undefined) return null
    if (reported.get(name) === value) continue
    if (lower !== 'application_name' || !plainApplicationName.test(value)) return null
    foreseen.set(name, value)
  }
  return foreseen
}
