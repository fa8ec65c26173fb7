import type { LostServer } from '../engine/messages.ts'
import type { Disconnect } from '../../shared/wire.ts'

/** The bounds of wire.ts, for texts that come from servers and the system. */
const messageLengthMax = 500
const errnoLengthMax = 32
const sqlstateLength = 5

/** A lost server as control is told. `id` is unique over all boots of all proxies. */
export function disconnectOf(lost: LostServer, id: string, at: Date): Disconnect {
  return {
    id,
    at: at.toISOString(),
    pool: lost.pool,
    user: lost.user,
    host: lost.host,
    port: lost.port,
    role: lost.role,
    backend_pid: lost.backendPid,
    cause: lost.cause,
    errno: lost.errno?.slice(0, errnoLengthMax) ?? null,
    sqlstate: lost.sqlstate?.slice(0, sqlstateLength) ?? null,
    message: lost.message?.slice(0, messageLengthMax) ?? null,
    state: lost.state,
    connection_age_ms: Math.max(0, lost.connectionAgeMs),
    idle_ms: Math.max(0, lost.idleMs),
    client_hurt: lost.clientHurt,
    pool_hash: lost.poolHash,
  }
}
