import type { Disconnect } from '../../../shared/disconnect.ts'

/** A server connection that was lost, with this id. */
export function event(id: string): Disconnect {
  return {
    id,
    at: '2026-01-01T12:00:00.000Z',
    pool: 'app',
    user: 'web',
    host: '10.0.0.1',
    port: 5432,
    role: 'primary',
    backend_pid: 1,
    cause: 'reset',
    errno: 'ECONNRESET',
    sqlstate: null,
    message: null,
    state: 'active',
    connection_age_ms: 1,
    idle_ms: 0,
    client_hurt: true,
    pool_hash: '0'.repeat(64),
  }
}
