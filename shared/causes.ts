/**
 * Why a server connection ended. Every closed server has exactly one of these causes. Planned ends are counted; unplanned
 * ones become disconnect events.
 */
export const causes = {
  keepalive_timeout: { planned: false, help: 'keepalive probes on an idle connection were not answered' },
  user_timeout: { planned: false, help: 'sent data was not acknowledged within tcp_user_timeout' },
  reset: { planned: false, help: 'the peer reset the connection (ECONNRESET, EPIPE)' },
  closed: { planned: false, help: 'the peer closed the connection without a FATAL error' },
  unreachable: { planned: false, help: 'the network or host became unreachable' },
  terminated: { planned: false, help: 'the server sent a FATAL error; its SQLSTATE is recorded' },
  connect_refused: { planned: false, help: 'the connection was refused (ECONNREFUSED)' },
  connect_timeout: { planned: false, help: 'connection and login took longer than connect_timeout' },
  auth_failed: { planned: false, help: 'the server rejected the login; its SQLSTATE is recorded' },
  tls_failed: { planned: false, help: 'the TLS handshake failed' },
  protocol_error: { planned: false, help: 'the server violated the protocol' },
  health_check: { planned: false, help: 'server_check_query failed or timed out' },
  reset_failed: { planned: false, help: 'server_reset_query, or another reset between two clients, failed' },
  idle: { planned: true, help: 'idle for longer than idle_timeout' },
  lifetime: { planned: true, help: 'older than server_lifetime' },
  drained: { planned: true, help: 'its pool was rebuilt, shrunk or removed, or its address disappeared from DNS' },
  client_gone: { planned: true, help: 'its client disconnected during a transaction or a query' },
  query_timeout: { planned: true, help: 'a query exceeded query_timeout' },
  transaction_timeout: {
    planned: true,
    help: 'a transaction exceeded transaction_timeout or idle_transaction_timeout',
  },
  evicted: { planned: true, help: 'idle, and closed to make room under a shared limit' },
  admin: { planned: true, help: 'an operator closed it' },
  shutdown: { planned: true, help: 'the proxy is shutting down' },
} as const satisfies Record<string, { planned: boolean; help: string }>

export type Cause = keyof typeof causes

/** State of a server when it was lost. */
export type ServerStateName = 'login' | 'idle' | 'active' | 'idle in transaction'
