import type { FleetDocument, PasswordSource } from './sections.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { generalKeys, poolKeys } from './keys.ts'
import type { GeneralValues, KeySpec, PoolValues } from './keys.ts'

/**
 * Source of a password. `literal` exists only in the memory of a proxy that runs from a file; control moves literals into
 * secrets when a document is written.
 */
export type SecretRef =
  { readonly secret: string; readonly version: number } | { readonly env: string } | { readonly literal: string }

export interface ServerAddress {
  readonly host: string
  readonly port: number
  readonly role: 'primary' | 'replica'
}

/**
 * Effective configuration of one (pool, user): defaults ← pool ← user, with all defaults filled in and durations in
 * canonical spelling. This is the "pool body" that a proxy fetches by its hash.
 */
export type EffectivePool = PoolValues & {
  readonly pool: string
  readonly user: string
  readonly database: string
  readonly servers: readonly ServerAddress[]
  readonly server_user: string
  /** Password of clients; null where they need none. */
  readonly password: SecretRef | null
  /** Also accepted, until `previous_password_until`; absent outside a rotation. */
  readonly previous_password?: SecretRef
  readonly previous_password_until?: string
  /** Password for logins to servers; the client's password unless set; null without either. */
  readonly server_password: SecretRef | null
  /** Password of `auth_user`, if there is one. */
  readonly auth_password?: SecretRef
}

/** A user of the console (the virtual database `pgbouncer`). */
export interface ConsoleUser {
  readonly user: string
  readonly right: 'admin' | 'stats'
  readonly password: SecretRef | null
}

/** Configuration of the proxy processes: `[general]`, `[admin_users]`, `[stats_users]`. */
export interface EffectiveGeneral {
  readonly settings: GeneralValues
  readonly console_users: readonly ConsoleUser[]
}

/** One line of a manifest, from which keep, retune, rebuild, add or remove is decided. */
export interface PoolHash {
  readonly pool: string
  readonly user: string
  readonly hash: string
  readonly connect_hash: string
}

/** All (pool, user) pairs of a document, sorted by name. References to secrets must have a version. */
export function effectivePools(document: FleetDocument): EffectivePool[] {
  const pools: EffectivePool[] = []
  for (const pool of Object.keys(document.pools).sort()) {
    for (const user of Object.keys(document.pools[pool]!.users).sort()) pools.push(effectivePool(document, pool, user))
  }
  return pools
}

function effectivePool(document: FleetDocument, pool: string, user: string): EffectivePool {
  const section = document.pools[pool]!
  const values = valuesOf(document, pool, user)
  const { password, serverPassword, authPassword } = sourcesOf(document, pool, user)
  const authRef = values.auth_user === '' ? null : refOf(authPassword)
  const needed = values.auth_type !== 'trust' && values.auth_type !== 'cert'
  return {
    ...values,
    pool,
    user,
    database: section.database ?? pool,
    servers: section.servers.map(({ host, port, role }) => ({ host, port, role })),
    server_user: section.users[user]!.server_user ?? section.server_user ?? user,
    password: needed ? refOf(password) : null,
    ...(needed ? previousOf(document, pool, user) : {}),
    server_password: refOf(serverPassword ?? password),
    ...(authRef === null ? {} : { auth_password: authRef }),
  }
}

function previousOf(
  document: FleetDocument,
  pool: string,
  user: string,
): Pick<EffectivePool, 'previous_password' | 'previous_password_until'> {
  const { previous, previousUntil } = sourcesOf(document, pool, user)
  const ref = refOf(previous)
  if (ref === null) return {}
  return { previous_password: ref, ...(previousUntil === undefined ? {} : { previous_password_until: previousUntil }) }
}

export function effectiveGeneral(document: FleetDocument): EffectiveGeneral {
  return {
    settings: generalValuesOf(document),
    console_users: [...consoleUsers(document, 'admin'), ...consoleUsers(document, 'stats')],
  }
}

/** Values of `[general]` with defaults filled in. */
export function generalValuesOf(document: FleetDocument): GeneralValues {
  // The type is derived from the table that `filled` reads.
  return filled(generalKeys, document.general) as GeneralValues
}

function consoleUsers(document: FleetDocument, right: ConsoleUser['right']): ConsoleUser[] {
  const sections = document[`${right}_users`]
  return Object.keys(sections)
    .sort()
    .map((user) => ({ user, right, password: refOf(sections[user]!.password) }))
}

/** Values of the key table for one (pool, user): defaults ← pool ← user. */
export function valuesOf(document: FleetDocument, pool: string, user: string): PoolValues {
  const section = document.pools[pool]!
  return filled(poolKeys, { ...document.defaults, ...section, ...section.users[user]! }) as PoolValues
}

export interface PasswordSources {
  readonly password: PasswordSource | undefined
  readonly previous: PasswordSource | undefined
  readonly previousUntil: string | undefined
  readonly serverPassword: PasswordSource | undefined
  readonly authPassword: PasswordSource | undefined
}

/**
 * Passwords of one (pool, user), the most specific section first; undefined where there is none. The previous password is
 * taken from the section that has the current one.
 */
export function sourcesOf(document: FleetDocument, pool: string, user: string): PasswordSources {
  const section = document.pools[pool]!
  const own = section.users[user]!
  const from = own.password === undefined ? section : own
  return {
    password: from.password,
    previous: from.previous_password,
    previousUntil: from.previous_password_until,
    serverPassword: own.server_password ?? section.server_password,
    authPassword: own.auth_password ?? section.auth_password ?? document.defaults.auth_password,
  }
}

/** Exactly the keys of one table, with defaults filled in and durations in canonical spelling. */
function filled(keys: Record<string, KeySpec>, given: object): object {
  const values: Record<string, unknown> = {}
  for (const [key, spec] of Object.entries(keys)) {
    // Defaults in the table may have another spelling, such as "120s".
    const spelled = spec.type === 'duration' ? formatDuration(parseDuration(spec.default)!) : spec.default
    values[key] = (given as Record<string, unknown>)[key] ?? spelled
  }
  return values
}

function refOf(source: PasswordSource | undefined): SecretRef | null {
  if (source === undefined || source === '') return null
  if (typeof source === 'string') return { literal: source }
  if ('env' in source) return { env: source.env }
  if (source.version === undefined) throw new TypeError(`secret "${source.secret}" has no version yet`)
  return { secret: source.secret, version: source.version }
}
