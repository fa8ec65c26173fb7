/** A version of the configuration as prepared by the agent for the engine, with names and secrets resolved. */
import type { HbaRule } from '../shared/config/hba.ts'
import type { IdentLine } from '../shared/config/ident.ts'
import type { GeneralSettings, PoolSettings } from '../shared/config/settings.ts'
import type { Position } from '../shared/wire.ts'
import type { TlsOptions } from './io/io.ts'

/** A stored SCRAM-SHA-256 verifier (RFC 5803), against which proofs are checked. */
export interface ScramVerifier {
  readonly iterations: number
  readonly salt: Uint8Array
  readonly storedKey: Uint8Array
  readonly serverKey: Uint8Array
}

/** Everything that a client's login may be checked against. Null where the password does not allow the method. */
export interface ClientSecret {
  /** "md5" + md5(password + user), as in pg_authid. */
  readonly md5: string | null
  readonly scram: ScramVerifier | null
  /** SHA-256 of the password itself; absent if it is unknown. */
  readonly digest?: Uint8Array
  /** Also accepted for a while. If both have a verifier, salt and iterations are the same. */
  readonly previous?: PreviousSecret
}

export interface PreviousSecret extends Omit<ClientSecret, 'previous'> {
  /** By the system clock; null as long as it is in the configuration. */
  readonly untilMs: number | null
}

/** A server of a pool with the present addresses of its name (IPv4 or IPv6 literals, never empty). */
export interface HostSpec {
  readonly host: string
  readonly port: number
  readonly role: 'primary' | 'replica'
  readonly addresses: readonly string[]
}

/** A pool, ready to run: resolved, with its secrets in clear. Never logged. */
export interface PoolSpec {
  /** The version's values if SET at the console has changed them: `hash` and `settings` are then the running ones. */
  readonly overridden?: { readonly hash: string; readonly settings: PoolSettings }
  readonly database: string
  readonly user: string
  /** Of its content, whatever the format in which control offers it: what decides whether it changes. */
  readonly hash: string
  /** The hash that control knows it by; absent if it is `hash`. */
  readonly offeredHash?: string
  readonly connectHash: string
  readonly serverDatabase: string
  readonly serverUser: string
  readonly settings: PoolSettings
  readonly hosts: readonly HostSpec[]
  readonly clientSecret: ClientSecret
  readonly serverPassword: string | null
  /** Password of `auth_user`; null or absent without one. */
  readonly authPassword?: string | null
  /** Absent with `server_tls_sslmode = "disable"`. Pools with equal options share the object. */
  readonly serverTls?: TlsOptions
  /** The worker that serves the whole database; absent if it is divided between workers. */
  readonly worker?: number
}

/** The hash of what runs, as control and operators know it. */
export function shownHash({ hash, offeredHash, overridden }: PoolSpec): string {
  return overridden === undefined ? (offeredHash ?? hash) : hash
}

/** The hash of its version, without overrides. */
export function versionHash({ hash, offeredHash, overridden }: PoolSpec): string {
  return offeredHash ?? overridden?.hash ?? hash
}

export interface ConsoleUserSpec {
  readonly user: string
  readonly right: 'admin' | 'stats'
  /** Null trusts the user name, which only an explicit document allows. */
  readonly clientSecret: ClientSecret | null
}

/** Client authentication rules. */
export interface AccessRules {
  readonly rules: readonly HbaRule[]
  readonly maps: readonly IdentLine[]
}

/** A pool that a starting proxy could not prepare: its clients are told so until it can. */
export interface UnpreparedPool {
  readonly database: string
  readonly user: string
  /** Why, in one word that a stranger may read. */
  readonly code: string
}

/** A prepared version: nothing in it can fail any more. */
export interface FleetSpec {
  readonly position: Position
  readonly general: GeneralSettings
  /** The general settings as written, for SHOW CONFIG: key → value. */
  readonly generalValues: Readonly<Record<string, string | number>>
  readonly consoleUsers: readonly ConsoleUserSpec[]
  readonly pools: readonly PoolSpec[]
  /** Absent if all pools of the version are in `pools`. */
  readonly unprepared?: readonly UnpreparedPool[]
  /** Content of `auth_hba` and `auth_ident`; absent if both are empty. */
  readonly access?: AccessRules
  /** Absent with `client_tls_sslmode = "disable"`. */
  readonly clientTls?: TlsOptions
}

/** The TLS options of the running version, after its files have changed. */
export interface TlsUpdate {
  readonly clientTls: TlsOptions | undefined
  readonly pools: readonly { readonly database: string; readonly user: string; readonly serverTls: TlsOptions }[]
}

/** The desired version, and why it does not run yet; SHOW POOL_VERSIONS shows it beside what runs. */
export interface Desired {
  readonly position: Position
  readonly pools: readonly { pool: string; user: string; hash: string }[]
  readonly error: { code: string; message: string; pool: string | null; user: string | null } | null
}

/** A proxy of the fleet with its address, an IPv4 or IPv6 literal. */
export interface PeerSpec {
  readonly number: number
  readonly address: string
  readonly port: number
}

export interface PeersUpdate {
  /** This proxy's own number; 0 without one. */
  readonly number: number
  readonly peers: readonly PeerSpec[]
}

/** What the login of one pool has shown before a version is applied. */
export interface PoolVerdict {
  readonly database: string
  readonly user: string
  /** For operators; it names the server. */
  readonly message: string
}

export interface PreflightOutcome {
  /** The rule does not allow the version because of these. */
  readonly refused: readonly PoolVerdict[]
  /** They will not serve, and do not serve now. */
  readonly failing: readonly PoolVerdict[]
  /** Nothing was shown: the server is full, starting, or paused. */
  readonly unknown: readonly PoolVerdict[]
  /** Number of connections that were tried. */
  readonly attempts: number
}

export interface ApplyOutcome {
  /** False if the position was not above the running one, in which case nothing changed. */
  readonly applied: boolean
  readonly running: Position | null
  readonly added: number
  readonly rebuilt: number
  readonly retuned: number
  readonly removed: number
  readonly kept: number
}
