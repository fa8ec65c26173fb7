/**
 * What control and proxies say to each other, as zod schemas: the border where control's and the agent's input is
 * checked, and the source of the OpenAPI document. Field names are spelled as on the wire.
 */
import { z } from 'zod'
import { causeNames, serverStates } from './causes.ts'

const hash = z.string().regex(/^[0-9a-f]{64}$/)
const time = z.iso.datetime()

/** Names of fleets and proxies, safe in a path. */
export const nameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, {
  error: 'must be letters, digits, ".", "_" and "-", at most 63, a letter or digit first',
})

/** Request header by which a proxy says who polls; it only feeds "last seen". */
export const proxyHeader = 'Flotilla-Proxy'

/**
 * Response header of a 304 that ends a parked poll before its time: an operator wants every proxy to try again what
 * failed and to report now. It is the hint of a proxy that hints do not reach.
 */
export const askedHeader = 'Flotilla-Asked'

/** Orders configurations: `epoch` rises when the store was restored from a backup, `version` with each change. */
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

/** Numbers of proxies end here: as many fit into the process id of a cancel key (proxy/engine/cancel.ts). */
export const proxyNumberMax = 510

/** The proxies of a fleet, each with its number, to which the others pass on cancel requests for its clients. */
export const peersSchema = z.object({
  peers: z.array(
    z.object({
      proxy: nameSchema,
      /** Unique in the fleet, and the proxy's for as long as control knows it. */
      number: z.int().min(1).max(proxyNumberMax),
      address: peerAddressSchema.nullable(),
    }),
  ),
})
export type Peer = z.infer<typeof peersSchema>['peers'][number]

export const helloRequestSchema = z.object({
  /** Made anew at every start of the proxy process. */
  boot: z.string().min(1).max(64),
  agent_version: z.string().max(64),
  /** Where hints reach this proxy, for example "http://10.0.0.7:9930"; absent when it cannot be reached. */
  hint_url: z.url({ protocol: /^https?$/ }).optional(),
  listen: z.string().max(300),
  /** Where other proxies of the fleet reach its clients' listener; absent when they cannot. */
  peer: peerAddressSchema.optional(),
  region: z.string().max(64).optional(),
})
export type HelloRequest = z.infer<typeof helloRequestSchema>

export const helloResponseSchema = z.object({
  epoch: z.int().min(1),
  poll_interval_ms: z.int().min(10),
  /** Standard Webhooks secret ("whsec_" + base64) that signs the hints sent to this proxy. */
  hint_secret: z.string(),
  /**
   * Base64 of 32 secret bytes, the same for the whole fleet and for good: by them, users that do not exist look as if they
   * did, to whichever proxy they are asked for. What PostgreSQL keeps per cluster as its mock authentication nonce.
   */
  mock_key: z
    .string()
    .regex(/^[\w+/]{43}=$/)
    .optional(),
})
export type HelloResponse = z.infer<typeof helloResponseSchema>

/** The body of a hint: "look again, there is version ≥ `version`". It never carries configuration. */
export const hintSchema = z.object({
  fleet: nameSchema,
  epoch: z.int().min(1),
  version: z.int().min(0),
  reason: z.enum(['version', 'reload']),
})
export type Hint = z.infer<typeof hintSchema>

/** A lost server connection. `id` is made by the proxy, so that a repeated report is shown once. */
export const disconnectSchema = z.object({
  id: z.string().min(1).max(80),
  at: time,
  pool: z.string(),
  user: z.string(),
  host: z.string(),
  port: z.int(),
  role: z.enum(['primary', 'replica']),
  backend_pid: z.int().nullable(),
  cause: z.enum(causeNames),
  errno: z.string().max(32).nullable(),
  sqlstate: z.string().max(5).nullable(),
  message: z.string().max(500).nullable(),
  state: z.enum(serverStates),
  connection_age_ms: z.number().min(0),
  idle_ms: z.number().min(0),
  client_hurt: z.boolean(),
  pool_hash: hash,
})
export type Disconnect = z.infer<typeof disconnectSchema>

export const poolReportSchema = z.object({
  pool: z.string(),
  user: z.string(),
  /** What runs; null while the pool exists only as desired. */
  hash: hash.nullable(),
  desired_hash: hash.nullable(),
  state: z.enum(['running', 'draining', 'failed']),
  /** Old servers still finishing a transaction. */
  draining_servers: z.int().min(0),
  /** Of "*": pools that were made for databases and users it stands for. */
  dynamic_pools: z.int().min(0).optional(),
  code: z.string().nullable(),
  message: z.string().nullable(),
})
export type PoolReport = z.infer<typeof poolReportSchema>

export const reportSchema = z.object({
  boot: z.string().min(1).max(64),
  seq: z.int().min(1),
  /** The last manifest this proxy looked at, applied or refused; null before the first. */
  offered: positionSchema.nullable(),
  /** What its engine runs; null while it runs nothing. */
  applied: positionSchema.nullable(),
  /** Why `offered` is not `applied`; null when it is. */
  error: z
    .object({
      code: z.string(),
      message: z.string(),
      pool: z.string().nullable(),
      user: z.string().nullable(),
    })
    .nullable(),
  needs_restart: z.array(z.string()),
  pools: z.array(poolReportSchema),
  events: z.array(disconnectSchema).max(500),
  /** Events lost since the outbox overflowed, in total over this boot. */
  dropped_events: z.int().min(0),
  /** Why and when the engine's thread was started anew in this boot, newest last; empty when it never died. */
  engine_restarts: z.array(z.object({ at: time, reason: z.string().max(500) })).max(20),
  stats: z.object({ clients: z.int(), waiting: z.int(), servers: z.int() }),
})
export type Report = z.infer<typeof reportSchema>

export const reportResponseSchema = z.object({ ack: z.int(), poll_interval_ms: z.int().min(10) })
export type ReportResponse = z.infer<typeof reportResponseSchema>

/** The value of one version of a secret, for proxies only; never stored or cached on the way ("no-store"). */
export const secretValueSchema = z.object({ value: z.string() })

/** What control asks a proxy to do with a pool, on behalf of an operator; signed like a hint. */
export const operations = ['pause', 'resume', 'reconnect', 'disable', 'enable', 'kill'] as const
export const orderSchema = z.object({
  fleet: nameSchema,
  operation: z.enum(operations),
  pool: z.string().min(1).max(255),
})
export type Order = z.infer<typeof orderSchema>

/** What the proxy has done: `servers` still have to end before it is complete. */
export const orderOutcomeSchema = z.object({ known: z.boolean(), paused: z.boolean(), servers: z.int().min(0) })
export type OrderOutcome = z.infer<typeof orderOutcomeSchema>
