/**
 * A server connection that ended unplanned. Operators call it a disconnect: SHOW DISCONNECTS, `flotilla disconnects`,
 * GET …/disconnects, flotilla_disconnects_total. Its fields are the same in the engine's message, the outbox, the report,
 * the store's row and the API.
 */
import { z } from 'zod'
import type { Cause, ServerStateName } from './causes.ts'

/** Bounds of texts that come from servers and from the system. */
export const textLengths = { errno: 32, sqlstate: 5, message: 500 } as const

/** A name of our own lists, such as a cause, or of the lists of a later release. */
const nameSchema = z.string().min(1).max(64)

export const disconnectSchema = z.object({
  /** Made by the proxy, unique over all boots of all proxies, so that a repeated report is shown once. */
  id: z.string().min(1).max(80),
  at: z.iso.datetime(),
  pool: z.string(),
  user: z.string(),
  host: z.string(),
  port: z.int(),
  role: nameSchema,
  backend_pid: z.int().nullable(),
  cause: nameSchema,
  errno: z.string().max(textLengths.errno).nullable(),
  sqlstate: z.string().max(textLengths.sqlstate).nullable(),
  message: z.string().max(textLengths.message).nullable(),
  state: nameSchema,
  connection_age_ms: z.number().min(0),
  idle_ms: z.number().min(0),
  client_hurt: z.boolean(),
  pool_hash: z.string().regex(/^[0-9a-f]{64}$/),
})
export type Disconnect = z.infer<typeof disconnectSchema>

/** With the fields of a later release, which are kept as they are. */
export const keptDisconnectSchema = disconnectSchema.loose()

/** What the engine says of it: the agent adds id and time of day, and cuts texts to their bounds. */
export type EngineDisconnect = Omit<Disconnect, 'id' | 'at' | 'role' | 'cause' | 'state'> & {
  readonly role: 'primary' | 'replica'
  readonly cause: Cause
  readonly state: ServerStateName
}

const otherBytesMax = 4096

/** The fields of an event that this release does not know, as JSON; null without any, or if they are too long. */
export function otherFields(event: Disconnect): string | null {
  const other = Object.entries(event).filter(([field]) => !Object.hasOwn(disconnectSchema.shape, field))
  const text = JSON.stringify(Object.fromEntries(other))
  return other.length === 0 || text.length > otherBytesMax ? null : text
}

/** What control shows of it. */
export const receivedDisconnectSchema = disconnectSchema
  .extend({ proxy: z.string(), received_at: z.iso.datetime() })
  .loose()
export type ReceivedDisconnect = z.infer<typeof receivedDisconnectSchema>
