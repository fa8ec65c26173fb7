/**
 * Requests and responses of the operators' API, as zod schemas. The CLI validates responses with them, and the OpenAPI
 * document is generated from them. Messages of proxies are in wire.ts. Field names are spelled as on the wire.
 */
import { z } from 'zod'
import { receivedDisconnectSchema } from './disconnect.ts'
import { poolOperations } from './operations.ts'
import {
  applyErrorSchema,
  nameSchema,
  poolReportSchema,
  positionSchema,
  processSchema,
  proxyProblemSchema,
  reasonMax,
  windowSchema,
} from './wire.ts'

const hash = z.string().regex(/^[0-9a-f]{64}$/)
const time = z.iso.datetime()
/** Value of `cursor` for the next page; null on the last page. */
const next = z.string().nullable()

export const proxyStates = [
  'in_sync',
  'degraded',
  'drifted',
  'applying',
  'behind',
  'failed',
  'regressed',
  'duplicate',
  'offline',
] as const
export type ProxyState = (typeof proxyStates)[number]
/** The CLI may be of another release than control, so it shows any state, and does without fields that are new. */
const proxyStateSchema = z.enum(proxyStates).or(z.string())

export const fleetSchema = z.object({
  name: nameSchema,
  created_at: time,
  epoch: z.int().min(1),
  /** 0 before the first configuration. */
  version: z.int().min(0),
  content_hash: hash.nullable(),
  /** Numbers by state, of which another release may have others. */
  proxies: z.record(z.string(), z.int()),
  /** Number of pools that are paused or disabled by an order, each effect counted. */
  orders: z.int().default(0),
})
export type Fleet = z.infer<typeof fleetSchema>
export const fleetsSchema = z.object({ fleets: z.array(fleetSchema) })

const claimSchema = z.object({ fleet: nameSchema, id: z.string(), boot: z.string(), position: positionSchema })
export const epochSchema = z.object({
  epoch: z.int().min(1),
  /** The epoch above every proxy that is above this store; null if none is. */
  needed: z.int().min(1).nullable(),
  /** Proxies that are above this store, which was restored from a backup. */
  above: z.array(claimSchema),
  /** What proxies claim and is too high to be true. */
  ignored: z.array(claimSchema),
})
export type Epoch = z.infer<typeof epochSchema>
export const epochRequestSchema = z.object({ to: z.int().min(2) })
export const epochRaisedSchema = z.object({ epoch: z.int().min(1), before: z.int().min(1) })

const poolName = z.object({ pool: z.string(), user: z.string() })

/** What a version changes compared with the one before, by pool and user. */
export const planSchema = z.object({
  added: z.array(poolName),
  /** New servers are opened; the old ones drain. */
  rebuilt: z.array(poolName),
  /** New values; servers are kept. */
  retuned: z.array(poolName),
  removed: z.array(poolName),
  kept: z.array(poolName),
  /** Changed keys of [general] and console users. */
  general: z.array(z.string()),
  /** Secrets of which another version is used, by the path of the reference. */
  secrets: z
    .array(z.object({ path: z.string(), name: z.string(), before: z.int().min(1), after: z.int().min(1) }))
    .default([]),
})
export type Plan = z.infer<typeof planSchema>

/** What operators may not expect of a version. */
export const effectsSchema = z.object({
  /** Replicas to which no server is opened, because their pool has a primary. */
  unused_replicas: z.array(z.object({ pool: z.string(), host: z.string(), port: z.int() })),
  /** Changed keys that take effect with the next start of these proxies. */
  needs_restart: z.array(z.object({ key: z.string(), proxies: z.array(z.string()) })),
  /** Servers that are opened anew: at most `pool_size` in each proxy of the fleet. */
  reconnects: z.array(z.object({ pool: z.string(), server_user: z.string(), servers_max: z.int().min(0) })),
})
export type Effects = z.infer<typeof effectsSchema>

/** Response to a configuration that was written, rolled back, unchanged or only planned. */
export const writtenSchema = z.object({
  /** The current version; with `dry_run`, the version that a write would create. */
  version: z.int().min(1),
  content_hash: hash,
  /** False when the content equals the current version, and with `dry_run`. */
  created: z.boolean(),
  dry_run: z.boolean(),
  rollback_of: z.int().nullable(),
  forced: z.boolean().default(false),
  plan: planSchema,
  effects: effectsSchema.default({ unused_replicas: [], needs_restart: [], reconnects: [] }),
  /** Of a rollback: references for which the value in force was kept, and the secret's version at that time. */
  kept_secrets: z
    .array(z.object({ path: z.string(), name: z.string(), version: z.int().min(1), as_of: z.int().min(1) }))
    .default([]),
  /** Proxies that will refuse this configuration, because their release does not know keys of it, by path. */
  unsupported: z
    .array(z.object({ proxy: z.string(), agent_version: z.string().nullable(), keys: z.array(z.string()) }))
    .default([]),
  /** Values without effect, with their paths and the reason. */
  warnings: z.array(z.object({ path: z.string(), message: z.string() })).default([]),
})
export type Written = z.infer<typeof writtenSchema>

export const versionSchema = z.object({
  version: z.int().min(1),
  content_hash: hash,
  created_at: time,
  message: z.string().nullable(),
  rollback_of: z.int().nullable(),
  /** Proxies apply it without trying its servers first. */
  forced: z.boolean().default(false),
  /** Number of (pool, user) pairs. */
  pools: z.int(),
})
export type Version = z.infer<typeof versionSchema>
export const versionsSchema = z.object({ versions: z.array(versionSchema), next })

/** A document, in a form that can be written back. */
export const documentSchema = z.record(z.string(), z.unknown())
export const versionDocumentSchema = versionSchema.extend({ document: documentSchema })

const changeSchema = z.object({
  path: z.string(),
  /** Absent when the path was added. */
  before: z.unknown().optional(),
  /** Absent when the path was removed. */
  after: z.unknown().optional(),
})
export const diffSchema = z.object({
  from: z.int().min(0),
  to: z.int().min(0),
  changes: z.array(changeSchema),
  plan: planSchema,
})
export type Diff = z.infer<typeof diffSchema>

export const messageMax = 500
/** `newest`: secrets keep the values in force. `as_of`: they return to those of that version. */
const rollbackSecrets = ['newest', 'as_of'] as const
export type RollbackSecrets = (typeof rollbackSecrets)[number]
export const rollbackRequestSchema = z.object({
  to: z.int().min(1),
  message: z.string().max(messageMax).optional(),
  secrets: z.enum(rollbackSecrets).optional(),
})

/** `wait` in seconds: how long to wait for the proxies' reports. With 0 or without it, control responds at once. */
export const reloadRequestSchema = z.object({ wait: z.number().min(0).max(60).optional() })

const reloadOutcomes = ['applied', 'failed', 'timeout', 'offline', 'hinted'] as const
export const reloadSchema = z.object({
  position: positionSchema,
  proxies: z.array(
    z.object({
      id: z.string(),
      /** `hinted`: only without `wait`. `timeout`: no report in time. `offline`: skipped. */
      outcome: z.enum(reloadOutcomes),
      state: proxyStateSchema.default('in_sync'),
      /** Why it is not `in_sync`. */
      reasons: z.array(z.string()).default([]),
      applied: positionSchema.nullable(),
      error: applyErrorSchema.nullable(),
    }),
  ),
})
export type Reload = z.infer<typeof reloadSchema>

/** Longest time after which an order ends by itself: 30 days, in seconds. */
export const orderForMaxS = 30 * 24 * 3600
/** `for` in seconds: when the effect of a pause, disable or kill ends by itself; without it, when it is ended. */
export const operationRequestBodySchema = z.object({
  reason: z.string().min(1).max(reasonMax).optional(),
  for: z.number().min(1).max(orderForMaxS).optional(),
})
export type OperationRequestBody = z.infer<typeof operationRequestBodySchema>

/** An operation that stands for a pool of the fleet, for all proxies that there are and will be. */
export const standingOperationSchema = z.object({
  pool: z.string(),
  operation: z.enum(poolOperations),
  number: z.int().min(1),
  /** The fleet's version when it was given. */
  version: z.int().min(0),
  actor: z.string(),
  reason: z.string().nullable(),
  created_at: time,
  expires_at: time.nullable(),
})
export type StandingOperation = z.infer<typeof standingOperationSchema>
export const standingOperationsSchema = z.object({
  /** Number of the newest order; it rises with each. */
  number: z.int().min(0),
  operations: z.array(standingOperationSchema),
})
export const operationLogSchema = z.object({
  operations: z.array(
    z.object({
      pool: z.string(),
      operation: z.enum(poolOperations),
      actor: z.string(),
      reason: z.string().nullable(),
      at: time,
      expires_at: time.nullable(),
    }),
  ),
  next,
})
export type OperationLog = z.infer<typeof operationLogSchema>

/** `done`: complete. `under_way`: `servers` are still in use. `faulty`: the answer was not a proxy's; see `message`. */
const operationOutcomes = ['done', 'under_way', 'unknown_pool', 'unreachable', 'faulty'] as const
export const operationSchema = z.object({
  pool: z.string(),
  operation: z.enum(poolOperations),
  /** Number of the order, which also reaches the proxies that did not answer; null for an operation of the moment. */
  number: z.int().nullable().default(null),
  expires_at: time.nullable().default(null),
  proxies: z.array(
    z.object({
      id: z.string(),
      outcome: z.enum(operationOutcomes),
      /** Null when the proxy did not say. */
      paused: z.boolean().nullable(),
      servers: z.int().min(0).nullable(),
      message: z.string().nullable(),
    }),
  ),
})
export type OperationResult = z.infer<typeof operationSchema>

export const proxySchema = z.object({
  id: z.string(),
  state: proxyStateSchema,
  /** Why it is not `in_sync`, in words; empty if it is. */
  reasons: z.array(z.string()).default([]),
  /** Tells processes with the same id apart. */
  boot: z.string(),
  agent_version: z.string().nullable(),
  listen: z.string().nullable(),
  region: z.string().nullable(),
  hint_url: z.string().nullable(),
  /** Time of the last poll or report, by control's clock. */
  last_seen_at: time.nullable(),
  reported_at: time.nullable(),
  offered: positionSchema.nullable(),
  applied: positionSchema.nullable(),
  error: applyErrorSchema.nullable(),
  /** Number of pools that do not serve. */
  not_serving: z.int().default(0),
  /** Databases that are paused or disabled there, by any operator. */
  operated: z
    .object({ paused: z.array(z.string()), disabled: z.array(z.string()), suspended: z.boolean() })
    .default({ paused: [], disabled: [], suspended: false }),
  /** Keys that SET at the console has changed. */
  overridden: z.array(z.string()).default([]),
  /** Old servers that still finish a transaction. */
  draining_servers: z.int().default(0),
  needs_restart: z.array(z.string()),
  /** What is wrong with the proxy, apart from its pools. */
  problems: z.array(proxyProblemSchema).default([]),
  dropped_events: z.int(),
  engine_restarts: z.array(z.object({ at: time, reason: z.string() })),
  stats: z.object({ clients: z.int(), waiting: z.int(), servers: z.int() }).nullable(),
  /** What happened in the time of the last report. */
  window: windowSchema.nullable().default(null),
  process: processSchema.nullable().default(null),
})
export type Proxy = z.infer<typeof proxySchema>
export const proxiesSchema = z.object({ position: positionSchema, proxies: z.array(proxySchema) })
/** One proxy with its pools. */
export const proxyDetailSchema = proxySchema.extend({
  pools: z.array(poolReportSchema.loose()),
  /** Fields of its report that this release of control does not know. */
  other: z.record(z.string(), z.unknown()).default({}),
})
export type ProxyDetail = z.infer<typeof proxyDetailSchema>

export const disconnectsSchema = z.object({
  disconnects: z.array(receivedDisconnectSchema),
  next,
  /** Value of `follow` for a request that returns only later events, oldest first. */
  follow: z.string(),
})
export type Disconnects = z.infer<typeof disconnectsSchema>

export const disconnectSummarySchema = z.object({
  /** One line for each host, cause and minute, newest minute first. */
  summary: z.array(
    z.object({
      host: z.string(),
      port: z.int(),
      cause: z.string(),
      /** Start of the minute. */
      minute: time,
      count: z.int(),
      clients_hurt: z.int(),
    }),
  ),
})
export type DisconnectSummary = z.infer<typeof disconnectSummarySchema>

export const secretRequestSchema = z.object({ value: z.string().min(1) })
/** A reference to a secret in a document: `path` as in a problem, and the referenced version. */
const secretUse = z.object({ path: z.string(), version: z.int().min(1) })
export const secretWrittenSchema = z.object({
  name: z.string(),
  version: z.int().min(1),
  /** False when the newest version already has this value. */
  created: z.boolean(),
  /** References in the current configuration to an older version; writing the configuration again updates them. */
  older: z.array(secretUse),
})
export type SecretWritten = z.infer<typeof secretWrittenSchema>
export const secretsSchema = z.object({
  secrets: z.array(
    z.object({
      name: z.string(),
      /** The newest version. */
      version: z.int().min(1),
      kind: z.enum(['plain', 'md5', 'scram']),
      created_at: time,
      used_by: z.array(secretUse),
    }),
  ),
})
export type Secrets = z.infer<typeof secretsSchema>

export const tokenRequestSchema = z.object({ name: z.string().min(1).max(100) })
/** The only response that contains the token itself. */
export const tokenCreatedSchema = z.object({ id: z.string(), name: z.string(), token: z.string() })
export const tokensSchema = z.object({
  tokens: z.array(z.object({ id: z.string(), name: z.string(), created_at: time, revoked_at: time.nullable() })),
})
export type Tokens = z.infer<typeof tokensSchema>
