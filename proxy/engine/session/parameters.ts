/**
 * Run-time parameters that follow a client to the servers it is joined with: those of its startup packet, and what its
 * session has set since, its role and session authorization included.
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

/** A parameter that does not change what a text means, so that clients with any values of it share statements. */
const neutral =
  /^(?:application_name|.*\..*|.*_timeout|enable_.*|jit.*|log_.*|.*_cost|.*_mem|extra_float_digits|client_min_messages|row_security|default_transaction_.*|synchron.*|bytea_output|max_.*|geqo.*|track_.*|debug_.*|vacuum_.*)$/

/** Sets of parameters by key, so that clients that are alike have the same one. */
const known = new Map<string, Parameters>()
/** Clients that each have others do not fill the memory: equal sets may then be different objects. */
const knownMax = 10_000

/** An immutable set of parameters, lower-case name → value. Two sets are equal if their keys are. */
export class Parameters {
  static readonly none = new Parameters([])
  /** Of a session whose settings are unknown: only a reset leads to a client's. */
  static readonly unknown = new Parameters([['', '']])

  readonly key: string
  readonly values: ReadonlyMap<string, string>
  /**
   * Parameters that may change the meaning of an SQL text: its bytes under another encoding, its tables under another
   * path or role, its dates under another style.
   */
  readonly meaning: string

  private constructor(sorted: readonly (readonly [string, string])[]) {
    this.values = new Map(sorted)
    this.key = keyOf(sorted)
    this.meaning = keyOf(sorted.filter(([name]) => !neutral.test(name)))
  }

  /** The one set with these values, wherever it came from. */
  static of(values: Iterable<readonly [string, string]>): Parameters {
    const lower = new Map<string, string>()
    for (const [name, value] of values) lower.set(name.toLowerCase(), value)
    if (lower.size === 0) return Parameters.none
    const sorted = [...lower].toSorted(([a], [b]) => (a < b ? -1 : 1))
    const key = keyOf(sorted)
    const present = known.get(key)
    if (present !== undefined) return present
    if (known.size >= knownMax) known.clear()
    const parameters = new Parameters(sorted)
    known.set(key, parameters)
    return parameters
  }

  /** Null takes the parameter out: it has the value that a session begins with. */
  with(name: string, value: string | null): Parameters {
    if (this === Parameters.unknown) return this
    const lower = name.toLowerCase()
    if ((this.values.get(lower) ?? null) === value) return this
    const values = new Map(this.values)
    if (value === null) values.delete(lower)
    else values.set(lower, value)
    return Parameters.of(values)
  }
}

function keyOf(sorted: readonly (readonly [string, string])[]): string {
  return sorted.length === 0 ? '' : JSON.stringify(sorted)
}

/** The roles of a session; the later one is set later. */
export const identities = ['session_authorization', 'role'] as const

/**
 * Parameters under which a statement of our own may be canceled, wait or take long. Those of PostgreSQL's versions that
 * lack one are never set there.
 */
export const hostile: ReadonlySet<string> = new Set([
  'statement_timeout',
  'lock_timeout',
  'transaction_timeout',
  'idle_in_transaction_session_timeout',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'default_transaction_deferrable',
  'jit',
  'jit_above_cost',
  'jit_inline_above_cost',
  'jit_optimize_above_cost',
  'debug_parallel_query',
  'force_parallel_mode',
])

export interface Adjustment {
  /** A server has settings that are unknown: everything is reset first. */
  readonly resetAll: boolean
  /** Reset first, each by a RESET: statements of our own should not run under them. */
  readonly first: readonly string[]
  /** In this order; null resets. */
  readonly set: readonly (readonly [name: string, value: string | null])[]
}

/**
 * The changes that turn a server with `have` into one with `want`. `initial` are the values reported at the server's
 * login, to which parameters return that the client does not set.
 */
export function adjustment(have: Parameters, want: Parameters, initial: ReadonlyMap<string, string>): Adjustment {
  if (have === Parameters.unknown) return { resetAll: true, first: [], set: inOrder(want.values) }
  const set = new Map<string, string | null>()
  for (const name of have.values.keys()) {
    if (!want.values.has(name)) set.set(name, initial.get(name) ?? null)
  }
  for (const [name, value] of want.values) {
    if ((have.values.get(name) ?? initial.get(name)) !== value) set.set(name, value)
  }
  if (set.size === 0) return { resetAll: false, first: [], set: [] }
  const first = [...have.values.keys()].filter((name) => isIdentity(name) || hostile.has(name))
  for (const name of first) {
    const value = want.values.get(name)
    if (value === undefined) set.delete(name)
    else set.set(name, value)
  }
  return { resetAll: false, first, set: inOrder(set) }
}

export function isIdentity(name: string): boolean {
  return (identities as readonly string[]).includes(name)
}

/** Hostile ones after others, then the roles, under which others may not be allowed. */
export function inOrder<Value>(values: ReadonlyMap<string, Value>): [string, Value][] {
  const rank = (name: string): number =>
    isIdentity(name) ? 2 + identities.indexOf(name as 'role') : +hostile.has(name)
  return [...values].toSorted(([a], [b]) => rank(a) - rank(b))
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
