import type { FleetDocument, PasswordSource } from './document.ts'
import { formatDuration, parseDuration } from './duration.ts'
import { generalKeys, poolKeys } from './keys.ts'
import type { GeneralValues, KeySpec, PoolValues } from './keys.ts'

/**
 * Where a password comes from. A literal never appears here: control moves it into its table of secrets when a
 * document is written, and a proxy that runs from a file alone names it `{ literal }` inside its own memory only.
 */
export type SecretRef =
  { readonly secret: string; readonly version: number } | { readonly env: string } | { readonly literal: string }

export interface ServerAddress {
  readonly host: string
  readonly port: number
  readonly role: 'primary' | 'replica'
}

/**
 * The effective configuration of one (pool, user): defaults ← pool ← user, with every default filled in and durations
 * in canonical spelling. This is the "pool body" that a proxy fetches by its hash.
 */
export type EffectivePool = PoolValues & {
  readonly pool: string
  readonly user: string
  readonly database: string
  readonly servers: readonly ServerAddress[]
  readonly server_user: string
  /** What clients must know; null where they need not know anything. */
  readonly password: SecretRef | null
  /** What clients may know instead, until then; absent while nothing is replaced. */
  readonly previous_password?: SecretRef
  readonly previous_password_until?: string
  /** What the proxy shows the server; the client's password unless set; null when neither is known. */
  readonly server_password: SecretRef | null
  /** Of `auth_user`, where there is one that has one. */
  readonly auth_password?: SecretRef
}

/** Someone who may log in to the console (the virtual database `pgbouncer`). */
export interface ConsoleUser {
  readonly user: string
  readonly right: 'admin' | 'stats'
  readonly password: SecretRef | null
}

/** What concerns the proxy processes, not a pool: `[general]`, `[admin_users]`, `[stats_users]`. */
export interface EffectiveGeneral {
  readonly settings: GeneralValues
  readonly console_users: readonly ConsoleUser[]
}

/** One line of a manifest: enough to decide keep, retune, rebuild, add or remove. */
export interface PoolHash {
  readonly pool: string
  readonly user: string
  readonly hash: string
  readonly connect_hash: string
}

/** Every (pool, user) of a document, by name. References to secrets must name their version. */
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

/** The values of `[general]`, defaults filled in. */
export function generalValuesOf(document: FleetDocument): GeneralValues {
  // As below: the table the values are checked against is the one the type is derived from.
  return filled(generalKeys, document.general) as GeneralValues
}

function consoleUsers(document: FleetDocument, right: ConsoleUser['right']): ConsoleUser[] {
  const sections = document[`${right}_users`]
  return Object.keys(sections)
    .sort()
    .map((user) => ({ user, right, password: refOf(sections[user]!.password) }))
}

/** The values of the key table for one (pool, user): defaults ← pool ← user. */
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
 * The passwords written for one (pool, user), the nearest first; undefined where none is. The former one
 * belongs to the section that has the password it was replaced by.
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

/** The keys of one table and nothing else, defaults filled in, durations in their one spelling. */
function filled(keys: Record<string, KeySpec>, given: object): object {
  const values: Record<string, unknown> = {}
  for (const [key, spec] of Object.entries(keys)) {
    // The table's defaults are written for people ("120s"), so they too take the one spelling.
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
