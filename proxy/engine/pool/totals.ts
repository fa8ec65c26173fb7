import type { PoolTotals } from '../../snapshot.ts'

/** All counters at zero. */
export function noTotals(): PoolTotals {
  return {
    server_assignment_count: 0,
    xact_count: 0,
    query_count: 0,
    bytes_received: 0,
    bytes_sent: 0,
    xact_time: 0,
    query_time: 0,
    wait_time: 0,
    client_parse_count: 0,
    server_parse_count: 0,
    bind_count: 0,
    client_login_count: 0,
  }
}
