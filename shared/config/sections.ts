/** The sections of a fleet's document, as written in TOML and sent to the API. */
import type { Credentials, DefaultCredentials, PasswordSource } from './credentials.ts'
import type { GeneralValues, PoolValues } from './keys.ts'
import type { PasswordKind } from './password.ts'

export type DefaultsSection = Partial<PoolValues> & DefaultCredentials

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
