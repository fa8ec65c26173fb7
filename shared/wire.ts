/**
 * Messages between control and proxies, as zod schemas. Both sides validate their input with them, and the OpenAPI
 * document is generated from them. Field names are spelled as on the wire.
 */
import { z } from 'zod'
import { disconnectSchema, keptDisconnectSchema } from './disconnect.ts'
import { poolOperations } from './operations.ts'

const hash = z.string().regex(/^[0-9a-f]{64}$/)
const time = z.iso.datetime()
/** A text for operators. A longer one is cut, not refused: the rest of a message must not be lost with it. */
const text = (lengthMax: number) => z.string().overwrite((value) => value.slice(0, lengthMax))
const messageMax = 1000
const count = z.int().min(0)

/** Name of a fleet or proxy, safe in a URL path. */
export const nameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, {
  error: 'must consist of at most 63 letters, digits, ".", "_" and "-", and start with a letter or digit',
})

/** Request header that names the polling proxy; used for `last_seen_at` only. */
export const proxyHeader = 'Flotilla-Proxy'

/** Request header that tells processes with the same name apart. */
export const bootHeader = 'Flotilla-Boot'
export const bootSchema = z.string().min(1).max(64)

/**
 * Response header of a 304 that ends a parked poll early: the proxy retries what failed and reports now. It replaces
 * the hint for proxies that control cannot reach.
 */
export const reportNowHeader = 'Flotilla-Asked'

/** Request header of a poll: the body format agreed at hello. Without it, what is offered is in format 1. */
export const bodyFormatHeader = 'Flotilla-Body-Format'

/** Position in the history of a fleet: `epoch` rises when the store was restored from a backup, `version` with each change. */
export const positionSchema = z.object({ epoch: z.int().min(1), version: z.int().min(0) })
export type Position = z.infer<typeof positionSchema>

/** A form that this release does not know is refused: without a part of it, it may mean another password. */
export const secretRefSchema = z.union([
  z.strictObject({
    secret: z.string(),
    version: z.int().min(1),
    /** In which this version was made; absent for the first. */
    epoch: z.int().min(2).optional(),
  }),
  z.strictObject({ env: z.string() }),
])

export const consoleUserSchema = z.strictObject({
  user: z.string(),
  right: z.enum(['admin', 'stats']),
  password: secretRefSchema.nullable(),
})

const poolHashSchema = z.object({ pool: z.string(), user: z.string(), hash, connect_hash: hash })

/** Characters of the reason of an order: it fits in the signed message to a proxy. */
export const reasonMax = 200

/** What belongs to an order besides operation and pool. */
const orderFields = {
  /** Orders of a fleet are numbered; of two for the same effect on a pool, the one with the higher number holds. */
  number: z.int().min(1),
  /** The fleet's version when it was given. An order that ends an effect waits until the proxy runs this version. */
  version: z.int().min(0),
  /** When its effect ends by itself; null for never. */
  expires_at: time.nullable(),
  reason: z.string().max(reasonMax).nullable(),
}

/** An operation that stands for a pool of the fleet. Proxies ignore operations that they do not know. */
export const orderSchema = z.object({ pool: z.string().min(1), operation: z.string(), ...orderFields })
export type Order = z.infer<typeof orderSchema>

/** All orders that proxies need to know, and the number of the newest order of the fleet; 0 before the first. */
export const ordersSchema = z.object({ number: z.int().min(0), pools: z.array(orderSchema) })
export type Orders = z.infer<typeof ordersSchema>

export const manifestSchema = z.object({
  epoch: z.int().min(1),
  version: z.int().min(1),
  /** Applied without trying its servers first, as an operator has demanded. */
  forced: z.literal(true).optional(),
  /** Of the bodies, their hashes and `general`: see config/formats.ts. Absent in format 1. */
  body_format: z.int().min(2).optional(),
  /** Absent from a control that has no orders. */
  operations: ordersSchema.optional(),
  pools: z.array(poolHashSchema),
  /** Checked by the proxy (proxy/agent/offer.ts), which refuses what it does not know with a reason. */
  general: z.object({ settings: z.record(z.string(), z.unknown()), console_users: z.array(z.unknown()) }),
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
      /** Of the process; absent from a control of 0.1.0. */
      boot: bootSchema.optional(),
      /** Unique in the fleet, and unchanged for as long as control knows the proxy. */
      number: z.int().min(1).max(proxyNumberMax),
      address: peerAddressSchema.nullable(),
    }),
  ),
})
export type Peer = z.infer<typeof peersSchema>['peers'][number]

const keyNamesSchema = z.array(z.string().min(1).max(100)).max(2000)

/** See config/known-keys.ts. */
const knownKeysSchema = z.object({ general: keyNamesSchema, pool: keyNamesSchema, server: keyNamesSchema })

export const helloRequestSchema = z.object({
  /** Random id of this proxy process. */
  boot: bootSchema,
  /** A process that this one follows: it has ended, or given up control. */
  takes_over_from: bootSchema.optional(),
  agent_version: z.string().max(64),
  /** Where control sends hints, for example "http://10.0.0.7:9930"; absent when control cannot reach this proxy. */
  hint_url: z.url({ protocol: /^https?$/ }).optional(),
  listen: z.string().max(300),
  /** Position that it runs; null before the first version. */
  applied: positionSchema.nullish(),
  /** Address at which other proxies of the fleet reach the listener for clients; absent when they cannot. */
  peer: peerAddressSchema.optional(),
  region: z.string().max(64).optional(),
  /** Formats of bodies that it reads; absent for release 0.1.0, which reads format 1. */
  body_formats: z.array(z.int().min(1)).max(100).optional(),
  /** Keys that it knows; absent for release 0.1.0. */
  known_keys: knownKeysSchema.optional(),
})
export type HelloRequest = z.infer<typeof helloRequestSchema>

export const helloResponseSchema = z.object({
  epoch: z.int().min(1),
  poll_interval_ms: z.int().min(10),
  /** Between reports without news; absent from a control that leaves it to the proxy. */
  report_interval_ms: z.int().min(10).optional(),
  /** The format of bodies that this proxy polls for from now on; absent for format 1. */
  body_format: z.int().min(1).optional(),
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
  /** One of a later release is obeyed as a reload: looking again does no harm. */
  reason: z.enum(['version', 'reload']).catch('reload'),
})
export type Hint = z.infer<typeof hintSchema>

const servingSchema = z.object({
  /** `yes`, `no`, or `not_yet_tried`: no server of this configuration has logged in, or failed to, yet. */
  state: text(32),
  /** Of `no`: why the last login to a server failed. */
  cause: text(messageMax).nullable(),
  /** Of `no`: since when logins have failed. */
  since: time.nullable(),
})
export type Serving = z.infer<typeof servingSchema>

const poolNameSchema = z.object({ pool: text(messageMax), user: text(messageMax) })
export type PoolName = z.infer<typeof poolNameSchema>

/** Fields that may be absent are unknown to 0.1.0. */
export const poolReportSchema = poolNameSchema.extend({
  /** Hash of the running configuration; null while the pool is only desired. */
  hash: hash.nullable(),
  desired_hash: hash.nullable(),
  /** `running`, `draining` or `failed`, to which release 0.1.0 of control accepts no addition. */
  state: z.string().min(1).max(64),
  /** Old servers that still finish a transaction. */
  draining_servers: count,
  /** For "*": number of pools created for it. */
  dynamic_pools: count.optional(),
  code: text(64).nullable(),
  message: text(messageMax).nullable(),
  /** Absent for a pool that was removed and only drains. */
  serving: servingSchema.optional(),
  /** `paused`, `disabled`, `suspended`: by the fleet or at the proxy. */
  operated: z.array(text(32)).max(16).optional(),
  /** Keys that SET at the console has changed. */
  overridden: z.array(text(64)).max(100).optional(),
})
export type PoolReport = z.infer<typeof poolReportSchema>

/** Why a version was not applied, and because of which pool, if it was one. */
export const applyErrorSchema = z.object({
  code: text(64),
  message: text(messageMax),
  pool: text(messageMax).nullable(),
  user: text(messageMax).nullable(),
})

/** Of a proxy, not of a pool. */
export const proxyProblems = ['unreadable_file', 'state_not_saved', 'clock_differs', 'token_refused'] as const
export type ProxyProblem = (typeof proxyProblems)[number]

export const proxyProblemSchema = z.object({ code: text(64), message: text(messageMax), since: time })
export type ReportedProblem = z.infer<typeof proxyProblemSchema>

/** What happened since the last acknowledged report. */
export const windowSchema = z.object({
  seconds: z.number().min(0),
  transactions: count,
  /** Errors of PostgreSQL sent to clients, by class of SQLSTATE. */
  errors: z.record(text(2), count),
  /** Errors sent to clients by the proxy itself, failed logins among them, by SQLSTATE. */
  refused: z.record(text(5), count),
  /** Clients whose server connection was lost under them. */
  clients_hurt: count,
  /** Waits for a server: none, then by the upper bounds of `flotilla_checkout_wait_seconds`. */
  waits: z.array(count).max(32),
})
export type ReportWindow = z.infer<typeof windowSchema>

export const processSchema = z.object({
  /** How long the slowest worker took to answer the last request of the agent: what a turn of its loop takes. */
  loop_delay_ms: z.number().min(0),
  memory_bytes: count,
})

const poolsPerReportMax = 20_000

export const reportSchema = z.object({
  boot: bootSchema,
  seq: z.int().min(1),
  /** Position of the last manifest received, applied or rejected; null before the first. */
  offered: positionSchema.nullable(),
  /** Position that the engine runs; null before the first. */
  applied: positionSchema.nullable(),
  /** Why `offered` was not applied; null when it was. */
  error: applyErrorSchema.nullable(),
  needs_restart: z.array(text(64)).max(200),
  /** Of the running hashes in `pools`; absent for release 0.1.0, whose hashes are of format 1. */
  body_format: z.int().min(1).optional(),
  /** All pools; with `base`, those that have changed since the report with that number. */
  pools: z.array(poolReportSchema).max(poolsPerReportMax),
  /** The acknowledged report that `pools` and `pools_removed` change. */
  base: z.int().min(1).optional(),
  pools_removed: z.array(poolNameSchema).max(poolsPerReportMax).optional(),
  events: z.array(disconnectSchema).max(500),
  /** Number of events dropped by a full outbox since the process started. */
  dropped_events: count,
  /** Restarts of the engine's thread since the process started, newest last. */
  engine_restarts: z.array(z.object({ at: time, reason: z.string().max(500) })).max(20),
  stats: z.object({ clients: z.int(), waiting: z.int(), servers: z.int() }),
  /** Keys that SET at the console has changed, of pools and of [general]. */
  overridden: z.array(text(64)).max(100).optional(),
  problems: z.array(proxyProblemSchema).max(50).optional(),
  window: windowSchema.optional(),
  process: processSchema.optional(),
})
export type Report = z.infer<typeof reportSchema>

/** A report as control keeps it: with the fields of a later release, which it shows as they are. */
export const receivedReportSchema = reportSchema
  .extend({
    error: applyErrorSchema.loose().nullable(),
    pools: z.array(poolReportSchema.loose()).max(poolsPerReportMax),
    events: z.array(keptDisconnectSchema).max(500),
    stats: reportSchema.shape.stats.loose(),
  })
  .loose()

export const reportResponseSchema = z.object({
  ack: z.int(),
  poll_interval_ms: z.int().min(10),
  report_interval_ms: z.int().min(10).optional(),
  /**
   * `changed`: the next report may contain only the pools that change until then. `all`: control needs all of them, at
   * once if this report was about changes. Absent from a control that always needs all.
   */
  pools: z.enum(['changed', 'all']).optional(),
})
export type ReportResponse = z.infer<typeof reportResponseSchema>

/** Value of one version of a secret, for proxies only; sent with `no-store`. */
export const secretValueSchema = z.object({ value: z.string() })

/** An operation of an operator that control sends to a proxy; signed like a hint. */
export const operationRequestSchema = z.object({
  fleet: nameSchema,
  operation: z.enum(poolOperations),
  pool: z.string().min(1).max(255),
  /** How the manifest names it, if it stands; absent for an operation of the moment. */
  order: z.object({ epoch: z.int().min(1), ...orderFields }).optional(),
})
export type OperationRequest = z.infer<typeof operationRequestSchema>

/** Outcome at one proxy. The operation is complete when `servers`, the number of servers that still have to close, is 0. */
export const operationOutcomeSchema = z.object({
  known: z.boolean(),
  paused: z.boolean(),
  servers: z.int().min(0),
  /** Of an order: `waits` for its version, which does not run yet; `overtaken` by a newer one, so that it has no effect. */
  order: z.enum(['taken', 'waits', 'overtaken']).optional(),
})
export type OperationOutcome = z.infer<typeof operationOutcomeSchema>
