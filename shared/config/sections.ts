/** The sections of a fleet's document, as written in TOML and sent to the API. */
import type { GeneralValues, PoolValues } from './keys.ts'
import type { PasswordKind } from './password.ts'

/**
 * A password in a document: the text itself (plain, md5 hash or SCRAM verifier), an environment variable of the proxies, or
 * a secret kept by control, in its newest version unless given.
 */
export type PasswordSource = string | { readonly env: string } | { readonly secret: string; readonly version?: number }

export interface Credentials {
  /** Password of clients. */
  password?: PasswordSource
  /** Also accepted, during a rotation. */
  previous_password?: PasswordSource
  /** Until when it is accepted, RFC 3339 in UTC; unlimited unless set. */
  previous_password_until?: string
  /** Role for logins to servers; the client's user unless set. */
  server_user?: string
  /** Password for logins to servers; the client's password unless set; "" for servers that trust the role. */
  server_password?: PasswordSource
  /** Password of `auth_user`. */
  auth_password?: PasswordSource
}

export type DefaultsSection = Partial<PoolValues> & Pick<Credentials, 'auth_password'>

export interface ServerSection {
  readonly host: string
  readonly port: number
  readonly role: 'primary' | 'replica'
}

export type UserSection = Partial<PoolValues> & Credentials

export type PoolSection = Partial<PoolValues> &
  Credentials & {
    /** Name of the database on the servers; NAME unless set. */
    database?: string
    servers: ServerSection[]
    users: Record<string, UserSection>
  }

/** Exactly one of the two: console users are trusted without a password only explicitly. */
export interface ConsoleSection {
  password?: PasswordSource
  auth_type?: 'trust'
}

export interface FleetDocument {
  general: Partial<GeneralValues>
  defaults: DefaultsSection
  pools: Record<string, PoolSection>
  admin_users: Record<string, ConsoleSection>
  stats_users: Record<string, ConsoleSection>
}

/** Lookup of control's secrets while a document is read; a proxy that runs from a file has none. */
export interface KnownSecrets {
  /** Version and kind of a secret, the newest version by default; undefined if it does not exist. */
  find(name: string, version: number | undefined): { readonly version: number; readonly kind: PasswordKind } | undefined
  /** What to do about a reference to an unknown secret. */
  readonly remedy: string
}
