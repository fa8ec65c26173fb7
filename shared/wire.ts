/**
 * Messages between control and proxies, as zod schemas. Both sides validate their input with them, and the OpenAPI
 * document is generated from them. Field names are spelled as on the wire.
 */
import { z } from 'zod'
import { disconnectSchema } from './disconnect.ts'
import { poolOperations } from './operations.ts'

const hash = z.string().regex(/^[0-9a-f]{64}$/)
const time = z.iso.datetime()

/** Name of a fleet or proxy, safe in a URL path. */
export const nameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, {
  error: 'must consist of at most 63 letters, digits, ".", "_" and "-", and start with a letter or digit',
})

/** Request header that names the polling proxy; used for `last_seen_at` only. */
export const proxyHeader = 'Flotilla-Proxy'

/**
 * Response header of a 304 that ends a parked poll early: the proxy retries what failed and reports now. It replaces
 * the hint for proxies that control cannot reach.
 */
export const reportNowHeader = 'Flotilla-Asked'

/** Position in the history of a fleet: `epoch` rises when the store was restored from a backup, `version` with each change. */
export const positionSchema = z.object({ epoch: z.int().min(1), version: z.int().min(0) })
export type Position = z.infer<typeof positionSchema>

export const secretRefSchema = z.union([
  z.object({ secret: z.string(), version: z.int().min(1) }),
  z.object({ env: z.string() }),
])

const poolHashSchema = z.object({ pool: z.string(), user: z.string(), hash, connect_hash: hash })

export const manifestSchema = z.object({
  epoch: z.int().min(1),
  version: z.int().min(1),
  /** Applied without trying its servers first, as an operator has demanded. */
  forced: z.literal(true).optional(),
  pools: z.array(poolHashSchema),
  general: z.object({
    settings: z.record(z.string(), z.union([z.string(), z.number()])),
    console_users: z.array(
      z.object({ user: z.string(), right: z.enum(['admin', 'stats']), password: secretRefSchema.nullable() }),
    ),
  }),
})
export type Manifest = z.infer<typeof manifestSchema>

const peerAddressSchema = z.object({ host: z.string().min(1).max(255), port: z.int().min(1).max(65535) })

/** Largest proxy number that fits in the process id of a cancel key (proxy/engine/cancel.ts). */
export const proxyNumberMax = 510

/** Proxies of a fleet with their numbers, to which cancel requests for their clients are forwarded. */
export const peersSchema = z.object({
  peers: z.array(
    z.object({
      proxy: nameSchema,
      /** Unique in the fleet, and unchanged for as long as control knows the proxy. */
      number: z.int().min(1).max(proxyNumberMax),
      address: peerAddressSchema.nullable(),
    }),
  ),
})
export type Peer = z.infer<typeof peersSchema>['peers'][number]

export const helloRequestSchema = z.object({
  /** Random id of this proxy process. */
  boot: z.string().min(1).max(64),
  agent_version: z.string().max(64),
  /** Where control sends hints, for example "http://10.0.0.7:9930"; absent when control cannot reach this proxy. */
  hint_url: z.url({ protocol: /^https?$/ }).optional(),
  listen: z.string().max(300),
  /** Address at which other proxies of the fleet reach the listener for clients; absent when they cannot. */
  peer: peerAddressSchema.optional(),
  region: z.string().max(64).optional(),
})
export type HelloRequest = z.infer<typeof helloRequestSchema>

export const helloResponseSchema = z.object({
  epoch: z.int().min(1),
  poll_interval_ms: z.int().min(10),
  /** Standard Webhooks secret ("whsec_" + base64) with which hints to this proxy are signed. */
  hint_secret: z.string(),
  /**
   * Base64 of 32 secret bytes, constant for the fleet. Salts of unknown users are derived from it, so that every proxy
   * challenges an unknown user like a known one. PostgreSQL's counterpart is the cluster's mock authentication nonce.
   */
  mock_key: z
    .string()
    .regex(/^[\w+/]{43}=$/)
    .optional(),
})
export type HelloResponse = z.infer<typeof helloResponseSchema>

/** A hint: a version ≥ `version` exists, poll now. It never contains configuration. */
export const hintSchema = z.object({
  fleet: nameSchema,
  epoch: z.int().min(1),
  version: z.int().min(0),
  reason: z.enum(['version', 'reload']),
})
export type Hint = z.infer<typeof hintSchema>

export const poolReportSchema = z.object({
  pool: z.string(),
  user: z.string(),
  /** Hash of the running configuration; null while the pool is only desired. */
  hash: hash.nullable(),
  desired_hash: hash.nullable(),
  state: z.enum(['running', 'draining', 'failed']),
  /** Old servers that still finish a transaction. */
  draining_servers: z.int().min(0),
  /** For "*": number of pools created for it. */
  dynamic_pools: z.int().min(0).optional(),
  code: z.string().nullable(),
  message: z.string().nullable(),
})
export type PoolReport = z.infer<typeof poolReportSchema>

/** Why a version was not applied, and because of which pool, if it was one. */
export const applyErrorSchema = z.object({
  code: z.string(),
  message: z.string(),
  pool: z.string().nullable(),
  user: z.string().nullable(),
})

export const reportSchema = z.object({
  boot: z.string().min(1).max(64),
  seq: z.int().min(1),
  /** Position of the last manifest received, applied or rejected; null before the first. */
  offered: positionSchema.nullable(),
  /** Position that the engine runs; null before the first. */
  applied: positionSchema.nullable(),
  /** Why `offered` was not applied; null when it was. */
  error: applyErrorSchema.nullable(),
  needs_restart: z.array(z.string()),
  pools: z.array(poolReportSchema),
  events: z.array(disconnectSchema).max(500),
  /** Number of events dropped by a full outbox since the process started. */
  dropped_events: z.int().min(0),
  /** Restarts of the engine's thread since the process started, newest last. */
  engine_restarts: z.array(z.object({ at: time, reason: z.string().max(500) })).max(20),
  stats: z.object({ clients: z.int(), waiting: z.int(), servers: z.int() }),
})
export type Report = z.infer<typeof reportSchema>

export const reportResponseSchema = z.object({ ack: z.int(), poll_interval_ms: z.int().min(10) })
export type ReportResponse = z.infer<typeof reportResponseSchema>

/** Value of one version of a secret, for proxies only; sent with `no-store`. */
export const secretValueSchema = z.object({ value: z.string() })

/** An operation of an operator that control sends to a proxy; signed like a hint. */
export const operationRequestSchema = z.object({
  fleet: nameSchema,
  operation: z.enum(poolOperations),
  pool: z.string().min(1).max(255),
})
export type OperationRequest = z.infer<typeof operationRequestSchema>

/** Outcome at one proxy. The operation is complete when `servers`, the number of servers that still have to close, is 0. */
export const operationOutcomeSchema = z.object({ known: z.boolean(), paused: z.boolean(), servers: z.int().min(0) })
export type OperationOutcome = z.infer<typeof operationOutcomeSchema>
