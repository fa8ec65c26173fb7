/** What the agent prepares for the engine to run: a version of the configuration with names and secrets resolved. */
import type { HbaRule } from '../shared/config/hba.ts'
import type { IdentLine } from '../shared/config/ident.ts'
import type { GeneralSettings, PoolSettings } from '../shared/config/settings.ts'
import type { Position } from '../shared/wire.ts'
import type { TlsOptions } from './io/io.ts'

/** A stored SCRAM-SHA-256 verifier (RFC 5803): what a client's proof is checked against. */
export interface ScramVerifier {
  readonly iterations: number
  readonly salt: Uint8Array
  readonly storedKey: Uint8Array
  readonly serverKey: Uint8Array
}

/** Everything a client's login may be checked against. Null where the password does not allow that method. */
export interface ClientSecret {
  /** "md5" + md5(password + user), as in pg_authid. */
  readonly md5: string | null
  readonly scram: ScramVerifier | null
  /** SHA-256 of the password itself; absent where it is not known. */
  readonly digest?: Uint8Array
  /** What is good as well, for a while. Where both have a verifier, salt and iterations are the same. */
  readonly previous?: PreviousSecret
}

export interface PreviousSecret extends Omit<ClientSecret, 'previous'> {
  /** By the machine's clock; null as long as it stands in the configuration. */
  readonly untilMs: number | null
}

/** One server of a pool with the addresses its name has now (IPv4 or IPv6 literals, never empty). */
export interface HostSpec {
  readonly host: string
  readonly port: number
  readonly role: 'primary' | 'replica'
  readonly addresses: readonly string[]
}

/** One pool, ready to run: resolved, with its secrets in clear. Never logged. */
export interface PoolSpec {
  /** What the version says where SET at the console has changed it: `hash` and `settings` are then of what runs. */
  readonly overridden?: { readonly hash: string; readonly settings: PoolSettings }
  readonly database: string
  readonly user: string
  readonly hash: string
  readonly connectHash: string
  readonly serverDatabase: string
  readonly serverUser: string
  readonly settings: PoolSettings
  readonly hosts: readonly HostSpec[]
  readonly clientSecret: ClientSecret
  readonly serverPassword: string | null
  /** Of `auth_user`; null or absent where it has none. */
  readonly authPassword?: string | null
  /** Absent with `server_tls_sslmode = "disable"`. Pools with equal options share the object. */
  readonly serverTls?: TlsOptions
  /** The worker that serves the whole database; absent where every worker has a part of it. */
  readonly worker?: number
}

export interface ConsoleUserSpec {
  readonly user: string
  readonly right: 'admin' | 'stats'
  /** Null trusts the name alone; only an explicit document says so. */
  readonly clientSecret: ClientSecret | null
}

/** Who may log in from where and how. */
export interface AccessRules {
  readonly rules: readonly HbaRule[]
  readonly maps: readonly IdentLine[]
}

/** A whole version, prepared: nothing in it can fail any more. */
export interface FleetSpec {
  readonly position: Position
  readonly general: GeneralSettings
  /** The general settings as people write them, for SHOW CONFIG: key → value. */
  readonly generalValues: Readonly<Record<string, string | number>>
  readonly consoleUsers: readonly ConsoleUserSpec[]
  readonly pools: readonly PoolSpec[]
  /** What `auth_hba` and `auth_ident` say; absent when they say nothing. */
  readonly access?: AccessRules
  /** Absent with `client_tls_sslmode = "disable"`. */
  readonly clientTls?: TlsOptions
}

/** The TLS options of what runs, after its files have changed. */
export interface TlsUpdate {
  readonly clientTls: TlsOptions | undefined
  readonly pools: readonly { readonly database: string; readonly user: string; readonly serverTls: TlsOptions }[]
}

/** What control wants and why it does not run yet; SHOW POOL_VERSIONS shows it beside what runs. */
export interface Desired {
  readonly position: Position
  readonly pools: readonly { pool: string; user: string; hash: string }[]
  readonly error: { code: string; message: string; pool: string | null; user: string | null } | null
}

/** A proxy of the fleet, where others reach it. `address` is an IPv4 or IPv6 literal. */
export interface PeerSpec {
  readonly number: number
  readonly address: string
  readonly port: number
}

export interface PeersUpdate {
  /** This proxy's own; 0 while it has none. */
  readonly number: number
  readonly peers: readonly PeerSpec[]
}

export interface ApplyOutcome {
  /** False when the position was not above the running one; nothing changed then. */
  readonly applied: boolean
  readonly running: Position | null
  readonly added: number
  readonly rebuilt: number
  readonly retuned: number
  readonly removed: number
  readonly kept: number
}
