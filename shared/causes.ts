/**
 * Why a server connection ended. The list is closed: every closed server has exactly one of these. `planned` ends are
 * counted; unplanned ones become disconnect events (DESIGN "Disconnects").
 */
export const causes = {
  keepalive_timeout: { planned: false, help: 'keepalive probes stayed unanswered on an idle connection' },
  user_timeout: { planned: false, help: 'sent data stayed unacknowledged for tcp_user_timeout' },
  reset: { planned: false, help: 'the peer reset the connection (ECONNRESET, EPIPE)' },
  closed: { planned: false, help: 'the peer closed the connection without a FATAL error' },
  unreachable: { planned: false, help: 'the network or host became unreachable' },
  terminated: { planned: false, help: 'the server sent a FATAL error; its SQLSTATE is recorded' },
  connect_refused: { planned: false, help: 'nothing listens at the address' },
  connect_timeout: { planned: false, help: 'connecting and logging in took longer than connect_timeout' },
  auth_failed: { planned: false, help: 'the server refused the login; its SQLSTATE is recorded' },
  tls_failed: { planned: false, help: 'the TLS handshake failed' },
  protocol_error: { planned: false, help: 'the server sent what the protocol does not allow' },
  health_check: { planned: false, help: 'it failed server_check_query, or did not answer it in time' },
  idle: { planned: true, help: 'unused for idle_timeout' },
  lifetime: { planned: true, help: 'older than server_lifetime' },
  drained: { planned: true, help: 'its pool was rebuilt, shrunk or removed, or its address left DNS' },
  reset_failed: { planned: true, help: 'the reset between two clients failed' },
  client_gone: { planned: true, help: 'its client left inside a transaction or a query' },
  query_timeout: { planned: true, help: 'a query ran longer than allowed' },
  transaction_timeout: { planned: true, help: 'a transaction was open, or idle, for longer than allowed' },
  evicted: { planned: true, help: 'it made room, unused, under a limit that pools share' },
  admin: { planned: true, help: 'an operator closed it' },
  shutdown: { planned: true, help: 'the proxy is shutting down' },
} as const satisfies Record<string, { planned: boolean; help: string }>

export type Cause = keyof typeof causes

export const causeNames = Object.keys(causes) as [Cause, ...Cause[]]

/** What a server was doing when it was lost. */
export const serverStates = ['login', 'idle', 'active', 'idle in transaction'] as const
export type ServerStateName = (typeof serverStates)[number]
