import type { GeneralValues, PoolValues } from './keys.ts'

/**
 * Where a password comes from. A literal never appears here: control moves it into its table of secrets when a
 * document is written, and a proxy that runs from a file alone names it `{ literal }` inside its own memory only.
 */
export type SecretRef =
  | { readonly secret: string; readonly version: number }
  | { readonly env: string }
  | { readonly literal: string }

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
  /** What clients must know; null with `auth_type = "trust"`. */
  readonly password: SecretRef | null
  /** What the proxy shows the server; the client's password unless set; null when neither is known. */
  readonly server_password: SecretRef | null
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
