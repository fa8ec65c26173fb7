/**
 * Every credential of a document, once. Reading and sealing of documents, the effective configuration, the hashes, the
 * schemas of documents and bodies, and what a proxy resolves are derived from this table. A credential that a proxy is to
 * use also needs a function in agent/prepare.ts.
 */
import type { PoolValues } from './keys.ts'

/**
 * A password in a document: the text itself (plain, md5 hash or SCRAM verifier), an environment variable of the proxies, or
 * a secret kept by control, in its newest version unless given.
 */
export type PasswordSource = string | { readonly env: string } | { readonly secret: string; readonly version?: number }

/** What is written for one user of a pool, by credential. */
export type Sources = Readonly<Record<string, PasswordSource | undefined>>

/** A user of a pool, with everything it inherits. */
export interface WrittenUser {
  readonly user: string
  readonly values: PoolValues
  readonly sources: Sources
  /** The role as which it logs in to servers that it shares with other users of the database; null if it shares none. */
  readonly sharedRole: string | null
}

export interface CredentialSpec {
  /** `secret`: never stored or hashed in clear. `name`: of a role. `time`: RFC 3339 in UTC. */
  readonly type: 'secret' | 'name' | 'time'
  /** As for keys: a change of class connect needs new servers. */
  readonly class: 'connect' | 'live'
  /** Of the effective configuration: whether it is always there, there or null, or there or absent. */
  readonly presence: 'always' | 'or_null' | 'optional'
  /** Also a key of [defaults]; all are keys of pools and users. */
  readonly inDefaults?: true
  /** "" is a value: no password at all. */
  readonly mayBeEmpty?: true
  /** It belongs to the section that has this other credential, where it must stand beside it. */
  readonly beside?: { readonly key: string; readonly fault: string }
  readonly help: string
  /** Its source in the effective configuration. */
  readonly effective: (written: WrittenUser) => PasswordSource | undefined
}

export const credentials = {
  password: {
    type: 'secret',
    class: 'live',
    presence: 'or_null',
    help: 'password of clients',
    effective: ({ values, sources }) => (provesWithPassword(values) ? sources['password'] : undefined),
  },
  previous_password: {
    type: 'secret',
    class: 'live',
    presence: 'optional',
    beside: { key: 'password', fault: 'requires password, which replaces it, in the same section' },
    help: 'also accepted, during a rotation',
    effective: ({ values, sources }) => (provesWithPassword(values) ? sources['previous_password'] : undefined),
  },
  previous_password_until: {
    type: 'time',
    class: 'live',
    presence: 'optional',
    beside: { key: 'previous_password', fault: 'requires previous_password' },
    help: 'until when previous_password is accepted, RFC 3339; unlimited unless set',
    effective: ({ values, sources }) =>
      provesWithPassword(values) && sources['previous_password'] !== undefined
        ? sources['previous_password_until']
        : undefined,
  },
  server_user: {
    type: 'name',
    class: 'connect',
    presence: 'always',
    help: "role for logins to servers; the client's user unless set. Users of a database with the same role share its servers",
    effective: ({ sources, user }) => sources['server_user'] ?? user,
  },
  server_password: {
    type: 'secret',
    class: 'connect',
    presence: 'or_null',
    mayBeEmpty: true,
    help: `password for logins to servers; the client's password unless set; "" for servers that trust the role`,
    effective: ({ sources }) => sources['server_password'] ?? sources['password'],
  },
  auth_password: {
    type: 'secret',
    class: 'live',
    presence: 'optional',
    inDefaults: true,
    help: 'password of auth_user',
    effective: ({ values, sources }) => (values.auth_user === '' ? undefined : sources['auth_password']),
  },
} as const satisfies Record<string, CredentialSpec>

export type CredentialKey = keyof typeof credentials

type Table = typeof credentials

type SourceOf<Spec> = Spec extends { type: 'secret' } ? PasswordSource : string

/** The credentials of a section. */
export type Credentials = { -readonly [Key in CredentialKey]?: SourceOf<Table[Key]> }

export type DefaultCredentials = Pick<
  Credentials,
  { [Key in CredentialKey]: Table[Key] extends { inDefaults: true } ? Key : never }[CredentialKey]
>

/**
 * Source of a password in the effective configuration. Control has replaced literals by references to secrets; `literal`
 * exists only in the memory of a proxy that runs from a file. `epoch` is that in which the version was made, absent for 1: a
 * store that was restored from a backup may use a number again, for another value.
 */
export type SecretRef =
  | { readonly secret: string; readonly version: number; readonly epoch?: number | undefined }
  | { readonly env: string }
  | { readonly literal: string }

type EffectiveOf<Spec> = Spec extends { type: 'secret' } ? SecretRef : string

type KeysWith<Presence> = {
  [Key in CredentialKey]: Table[Key]['presence'] extends Presence ? Key : never
}[CredentialKey]

export type EffectiveCredentials = { readonly [Key in KeysWith<'always'>]: EffectiveOf<Table[Key]> } & {
  readonly [Key in KeysWith<'or_null'>]: EffectiveOf<Table[Key]> | null
} & { readonly [Key in KeysWith<'optional'>]?: EffectiveOf<Table[Key]> }

/** The lines of the table. */
export function credentialEntries(): [CredentialKey, CredentialSpec][] {
  return Object.entries(credentials) as [CredentialKey, CredentialSpec][]
}

/** The lines whose values are secret. */
export function secretKeys(): CredentialKey[] {
  return credentialEntries().flatMap(([key, { type }]) => (type === 'secret' ? [key] : []))
}

function provesWithPassword({ auth_type: type }: PoolValues): boolean {
  return type !== 'trust' && type !== 'cert'
}
