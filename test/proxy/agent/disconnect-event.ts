import type { Disconnect, EngineDisconnect } from '../../../shared/disconnect.ts'

/** A server connection that was lost, as the engine tells it. */
export const lostServer: EngineDisconnect = {
  pool: 'app',
  user: 'web',
  host: '10.0.0.1',
  port: 5432,
  role: 'primary',
  backend_pid: 42,
  cause: 'keepalive_timeout',
  errno: 'ETIMEDOUT',
  sqlstate: null,
  message: null,
  state: 'idle',
  connection_age_ms: 60_000,
  idle_ms: 31_000,
  client_hurt: false,
  pool_hash: '0'.repeat(64),
}

/** The same with an id, as it is reported. */
export function event(id: string): Disconnect {
  return { id, at: '2026-01-01T12:00:00.000Z', ...lostServer }
}
