import { credentialEntries, secretKeys } from './credentials.ts'
import type {
  CredentialKey,
  Credentials,
  CredentialSpec,
  EffectiveCredentials,
  PasswordSource,
  SecretRef,
  Sources,
  WrittenUser,
} from './credentials.ts'
import type { FleetDocument, PoolSection, UserSection } from './sections.ts'
import { newestFormat } from './formats.ts'
import type { BodyFormat } from './formats.ts'
import { generalKeys, poolKeys } from './keys.ts'
import type { GeneralValues, KeySpec, PoolKey, PoolKeySpec, PoolValues } from './keys.ts'
import { defaultOf } from './value.ts'

export interface ServerAddress {
  readonly host: string
  readonly port: number
  readonly role: 'primary' | 'replica'
}

/**
 * Effective configuration of one (pool, user): defaults ← pool ← user, with all defaults filled in and durations in
 * canonical spelling. This is the "pool body" that a proxy fetches by its hash.
 */
export type EffectivePool = PoolValues &
  EffectiveCredentials & {
    readonly pool: string
    readonly user: string
    readonly database: string
    readonly servers: readonly ServerAddress[]
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

/**
 * The effective configurations of a document, sorted by name. References to secrets must have a version. In the first release
 * (body format 1) each user has servers of its own, and therefore its own values for them.
 */
export function effectivePools(document: FleetDocument, format: BodyFormat = newestFormat): EffectivePool[] {
  return Object.keys(document.pools)
    .sort()
    .flatMap((pool) => effectiveUsers(document, pool, format))
}

function effectiveUsers(document: FleetDocument, pool: string, format: BodyFormat): EffectivePool[] {
  const section = document.pools[pool]!
  const database = section.database ?? pool
  const servers = section.servers.map(({ host, port, role }) => ({ host, port, role }))
  const entries = credentialEntries()
  const written = usersOf(document, pool, format)
  return Object.keys(section.users)
    .sort()
    .map((user) => {
      const own = written(user)
      return { ...own.values, pool, user, database, servers, ...effectiveCredentials(own, entries) }
    })
}

function effectiveCredentials(
  written: WrittenUser,
  entries: readonly (readonly [CredentialKey, CredentialSpec])[],
): EffectiveCredentials {
  const found: Partial<Record<CredentialKey, SecretRef | PasswordSource | null>> = {}
  for (const [key, { type, presence, effective }] of entries) {
    const source = effective(written)
    const value = type === 'secret' ? refOf(source) : (source ?? null)
    if (value !== null || presence === 'or_null') found[key] = value
  }
  // The table says which are present, and the type is derived from it.
  return found as EffectiveCredentials
}

/** The references to passwords of an effective configuration, by credential. */
export function secretRefsOf(body: EffectivePool): [CredentialKey, SecretRef][] {
  return secretKeys().flatMap((key): [CredentialKey, SecretRef][] => {
    // Of type secret in the table, so a reference where it is present.
    const ref = body[key] as SecretRef | null | undefined
    return ref === null || ref === undefined ? [] : [[key, ref]]
  })
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

/**
 * Resolves users of one pool: values are defaults ← pool ← user; a credential is that of the most specific section which has
 * it, or of the section that has the credential it belongs to. What users inherit is resolved once, for all of them.
 */
export function usersOf(
  document: FleetDocument,
  pool: string,
  format: BodyFormat = newestFormat,
): (user: string) => WrittenUser {
  const section = document.pools[pool]!
  // The table that values are checked against is the one that the type is derived from.
  const inherited = filled(poolKeys, { ...document.defaults, ...section }) as PoolValues
  const [defaults, shared] = [credentialsIn(document.defaults), credentialsIn(section)]
  const entries = credentialEntries()
  const roles = sharedRoles(section, inherited.server_auth)
  return (user) => {
    const own = credentialsIn(section.users[user]!)
    const sources: Record<string, PasswordSource | undefined> = {}
    for (const [key, { beside, inDefaults }] of entries) {
      if (beside !== undefined) sources[key] = own[beside.key] === undefined ? shared[key] : own[key]
      else sources[key] = own[key] ?? shared[key] ?? (inDefaults === true ? defaults[key] : undefined)
    }
    const sharedRole = roles.get(user) ?? null
    return {
      user,
      values: { ...inherited, ...valuesIn(section.users[user]!, sharedRole !== null && format !== 1) },
      sources,
      sharedRole,
    }
  }
}

/** Users of a pool who share servers, and the role of these. Keys that clients prove open servers for one user only. */
function sharedRoles(section: PoolSection, inherited: PoolValues['server_auth']): ReadonlyMap<string, string> {
  const users = Object.entries(section.users).filter(([, { server_auth: auth = inherited }]) => auth !== 'passthrough')
  const roleOf = ([user, own]: (typeof users)[number]): string => own.server_user ?? section.server_user ?? user
  const shared = [...Map.groupBy(users, roleOf)].filter(([, sharers]) => sharers.length > 1)
  return new Map(shared.flatMap(([role, sharers]) => sharers.map(([user]) => [user, role] as const)))
}

/** The values of a section that has credentials too, without those of servers that are shared. */
function valuesIn(section: UserSection, sharesServers: boolean): Partial<PoolValues> {
  const values: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(section)) {
    if (Object.hasOwn(poolKeys, key) && !(sharesServers && isOfServers(key))) values[key] = value
  }
  return values
}

/** A key of pools whose value the users of shared servers have in common. */
export function isOfServers(key: string): boolean {
  const spec: PoolKeySpec | undefined = Object.hasOwn(poolKeys, key) ? poolKeys[key as PoolKey] : undefined
  return spec?.ofServers === true
}

/** A section by the names of its credentials; its other keys are not looked up. */
function credentialsIn(section: Credentials): Sources {
  return section
}

/** Exactly the keys of one table, with defaults filled in and durations in canonical spelling. */
function filled(keys: Record<string, KeySpec>, given: object): object {
  const values: Record<string, unknown> = {}
  for (const [key, spec] of Object.entries(keys)) {
    values[key] = (given as Record<string, unknown>)[key] ?? defaultOf(spec)
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
