/**
 * A server connection that ended unplanned. Operators call it a disconnect: SHOW DISCONNECTS, `flotilla disconnects`,
 * GET …/disconnects, flotilla_disconnects_total. Its fields are the same in the engine's message, the outbox, the report,
 * the store's row and the API.
 */
import { z } from 'zod'
import { causeNames, serverStates } from './causes.ts'

/** Bounds of texts that come from servers and from the system. */
export const textLengths = { errno: 32, sqlstate: 5, message: 500 } as const

export const disconnectSchema = z.object({
  /** Made by the proxy, unique over all boots of all proxies, so that a repeated report is shown once. */
  id: z.string().min(1).max(80),
  at: z.iso.datetime(),
  pool: z.string(),
  user: z.string(),
  host: z.string(),
  port: z.int(),
  role: z.enum(['primary', 'replica']),
  backend_pid: z.int().nullable(),
  cause: z.enum(causeNames),
  errno: z.string().max(textLengths.errno).nullable(),
  sqlstate: z.string().max(textLengths.sqlstate).nullable(),
  message: z.string().max(textLengths.message).nullable(),
  state: z.enum(serverStates),
  connection_age_ms: z.number().min(0),
  idle_ms: z.number().min(0),
  client_hurt: z.boolean(),
  pool_hash: z.string().regex(/^[0-9a-f]{64}$/),
})
export type Disconnect = z.infer<typeof disconnectSchema>

/** What the engine says of it: the agent adds id and time of day, and cuts texts to their bounds. */
export type EngineDisconnect = Omit<Disconnect, 'id' | 'at'>

/** What control shows of it. */
export const receivedDisconnectSchema = disconnectSchema.extend({ proxy: z.string(), received_at: z.iso.datetime() })
export type ReceivedDisconnect = z.infer<typeof receivedDisconnectSchema>
