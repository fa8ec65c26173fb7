/**
 * The tables as seen by queries. migrations/ creates them, and a test compares the two. Columns are spelled as in the
 * API; times are RFC 3339 UTC with milliseconds, so that they sort as text.
 */
import { index, integer, primaryKey, real, sqliteTable, text, unique, uniqueIndex } from 'drizzle-orm/sqlite-core'
import type { PasswordKind } from '../../shared/config/password.ts'
import type { OrderEffect, PoolOperation } from '../../shared/operations.ts'

/** Always empty: inserting 0 fails a write (see write.ts). */
export const guards = sqliteTable('guards', { ok: integer().notNull() })

/** One row of values that belong to the whole store. */
export const control = sqliteTable('control', {
  id: integer().primaryKey(),
  /** Incremented after a restore from a backup. */
  epoch: integer().notNull(),
  /** Identifies the secret key that the secrets were sealed with; empty before the first start. */
  key_check: text().notNull().default(''),
})

export const fleets = sqliteTable('fleets', {
  name: text().primaryKey(),
  created_at: text().notNull(),
  /** The current version; 0 before the first. */
  version: integer().notNull().default(0),
  /** manifest_hash of that version, duplicated here so that a poll reads one row. */
  manifest_hash: text().notNull().default(''),
  /** poll_interval of that version, duplicated for the same reason. */
  poll_interval_ms: integer().notNull(),
  /** Number of its newest order, duplicated for the same reason; 0 before the first. */
  order_number: integer().notNull().default(0),
})

/** Append-only, enforced by triggers. */
export const versions = sqliteTable(
  'versions',
  {
    fleet: text().notNull(),
    version: integer().notNull(),
    created_at: text().notNull(),
    message: text(),
    rollback_of: integer(),
    content_hash: text().notNull(),
    /** RFC 8785 JSON of the document. */
    document: text().notNull(),
    /** JSON of the manifest in format 1 after its position: `"pools":…,"general":…}`. */
    manifest: text().notNull(),
    manifest_hash: text().notNull(),
    pools: integer().notNull(),
    /** Proxies apply it without trying its servers first: true, or null. */
    forced: integer({ mode: 'boolean' }),
  },
  (table) => [primaryKey({ columns: [table.fleet, table.version] })],
)

/** Manifests of versions in formats above 1, each made once; append-only. */
export const manifests = sqliteTable(
  'manifests',
  {
    fleet: text().notNull(),
    version: integer().notNull(),
    format: integer().notNull(),
    /** As in `versions`. */
    manifest: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.fleet, table.version, table.format] })],
)

/** Effective configurations by their hash; append-only. */
export const poolBodies = sqliteTable(
  'pool_bodies',
  { fleet: text().notNull(), hash: text().notNull(), body: text().notNull() },
  (table) => [primaryKey({ columns: [table.fleet, table.hash] })],
)

/** Append-only. */
export const secrets = sqliteTable(
  'secrets',
  {
    fleet: text().notNull(),
    name: text().notNull(),
    version: integer().notNull(),
    created_at: text().notNull(),
    kind: text().notNull().$type<PasswordKind>(),
    sealed: text().notNull(),
    /** Keyed digest of the value, which recognizes an equal value without decryption. */
    digest: text().notNull(),
    /** In which it was made; null is 1. After a restore a version may have another value than the lost one. */
    epoch: integer(),
  },
  (table) => [primaryKey({ columns: [table.fleet, table.name, table.version] })],
)

export const tokens = sqliteTable(
  'tokens',
  {
    sha256: text().primaryKey(),
    id: text().notNull().unique(),
    fleet: text().notNull(),
    name: text().notNull(),
    created_at: text().notNull(),
    revoked_at: text(),
  },
  (table) => [index('tokens_by_fleet').on(table.fleet)],
)

/** A row for each process: two that have the same name are both seen. */
export const proxies = sqliteTable(
  'proxies',
  {
    fleet: text().notNull(),
    id: text().notNull(),
    boot: text().notNull(),
    /** Null if it reported without a hello to this store. */
    hello_at: text(),
    agent_version: text(),
    hint_url: text(),
    listen: text(),
    region: text(),
    last_seen_at: text(),
    /** Sequence number of the newest report of `boot`; 0 before the first. */
    seq: integer().notNull().default(0),
    reported_at: text(),
    /** The newest report without its events and pools, as JSON. */
    report: text(),
    /** Part of its cancel keys; null before its first hello, or if all numbers are in use. */
    number: integer(),
    /** Address at which other proxies reach its listener for clients. */
    peer_host: text(),
    peer_port: integer(),
    /** Format of the bodies that it is given, as agreed at hello; null if it named none, which is format 1. */
    body_format: integer(),
    /** Keys that it knows, as JSON (`KnownKeys`); null if it named none, as release 0.1.0. */
    known_keys: text(),
    /** The token of its last hello; null if that was before tokens were recorded. */
    token_id: text(),
    /** When this process was first heard of. */
    known_at: text(),
    /** The pools of the newest report, those that it did not repeat too, as JSON; null before the first. */
    pools: text(),
    /** What states are made of: see domain/pool-facts.ts. */
    pool_facts: text(),
    /** What it said at hello that it runs. */
    hello_epoch: integer(),
    hello_version: integer(),
  },
  (table) => [
    primaryKey({ columns: [table.fleet, table.id, table.boot] }),
    uniqueIndex('proxies_by_number').on(table.fleet, table.number),
  ],
)

/** The newest order for each effect on a pool, also when it ended the effect. */
export const poolOrders = sqliteTable(
  'pool_orders',
  {
    fleet: text().notNull(),
    pool: text().notNull(),
    effect: text().notNull().$type<OrderEffect>(),
    operation: text().notNull().$type<PoolOperation>(),
    number: integer().notNull(),
    /** The fleet's version when it was given. */
    version: integer().notNull(),
    actor: text().notNull(),
    reason: text(),
    created_at: text().notNull(),
    expires_at: text(),
  },
  (table) => [primaryKey({ columns: [table.fleet, table.pool, table.effect] })],
)

/** All operations of operators on pools, oldest first. */
export const operationLog = sqliteTable(
  'operation_log',
  {
    n: integer().primaryKey({ autoIncrement: true }),
    fleet: text().notNull(),
    pool: text().notNull(),
    operation: text().notNull().$type<PoolOperation>(),
    actor: text().notNull(),
    reason: text(),
    at: text().notNull(),
    expires_at: text(),
  },
  (table) => [index('operation_log_by_fleet').on(table.fleet, table.n)],
)

/** Lost server connections. `n` numbers arrivals. */
export const disconnects = sqliteTable(
  'disconnects',
  {
    n: integer().primaryKey({ autoIncrement: true }),
    fleet: text().notNull(),
    id: text().notNull(),
    proxy: text().notNull(),
    received_at: text().notNull(),
    at: text().notNull(),
    pool: text().notNull(),
    user: text().notNull(),
    host: text().notNull(),
    port: integer().notNull(),
    role: text().notNull(),
    backend_pid: integer(),
    cause: text().notNull(),
    errno: text(),
    sqlstate: text(),
    message: text(),
    state: text().notNull(),
    connection_age_ms: real().notNull(),
    idle_ms: real().notNull(),
    client_hurt: integer({ mode: 'boolean' }).notNull(),
    pool_hash: text().notNull(),
    /** Numbers the arrivals of its fleet, which each keep their newest. */
    arrival: integer().notNull(),
    /** Fields that this release does not know, as JSON. */
    other: text(),
  },
  (table) => [
    index('disconnects_by_arrival_in_fleet').on(table.fleet, table.arrival),
    unique().on(table.fleet, table.proxy, table.id),
    index('disconnects_by_time').on(table.fleet, table.at, table.n),
    index('disconnects_by_arrival').on(table.fleet, table.n),
  ],
)
