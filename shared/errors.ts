/**
 * SQLSTATEs of Flotilla's own errors, by the condition names of the PostgreSQL manual, appendix A "PostgreSQL Error
 * Codes". Errors of PostgreSQL keep theirs.
 */
export const sqlstates = {
  connection_failure: '08006',
  sqlclient_unable_to_establish_sqlconnection: '08001',
  protocol_violation: '08P01',
  feature_not_supported: '0A000',
  invalid_authorization_specification: '28000',
  invalid_password: '28P01',
  idle_in_transaction_session_timeout: '25P03',
  transaction_timeout: '25P04',
  invalid_sql_statement_name: '26000',
  invalid_parameter_value: '22023',
  invalid_catalog_name: '3D000',
  syntax_error: '42601',
  undefined_object: '42704',
  insufficient_privilege: '42501',
  too_many_connections: '53300',
  out_of_memory: '53200',
  program_limit_exceeded: '54000',
  object_not_in_prerequisite_state: '55000',
  query_canceled: '57014',
  admin_shutdown: '57P01',
  cannot_connect_now: '57P03',
  idle_session_timeout: '57P05',
  config_file_error: 'F0000',
  internal_error: 'XX000',
} as const

export type Condition = keyof typeof sqlstates

/** An error sent to a client or operator. The message may be read by strangers; `cause` goes to the log only. */
export class SqlError extends Error {
  readonly sqlstate: string
  constructor(condition: Condition, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'SqlError'
    this.sqlstate = sqlstates[condition]
  }
}
