/** Limits and time-outs that other poolers have (PgBouncer's names where ours differ) are keys that change in place. */
import { expect, test } from 'vitest'
import { generalKeys, poolKeys } from '../../../shared/config/keys.ts'
import type { KeySpec } from '../../../shared/config/keys.ts'

const keys: Readonly<Record<string, KeySpec>> = { ...generalKeys, ...poolKeys }

test.for([
  ['max_client_conn', 'max_client_connections'],
  ['max_db_client_connections', 'max_db_client_connections'],
  ['max_user_client_connections', 'max_user_client_connections'],
  ['max_db_connections', 'max_db_connections'],
  ['max_user_connections', 'max_user_connections'],
  ['pool_size', 'pool_size'],
  ['min_pool_size', 'min_pool_size'],
  ['reserve_pool_size', 'reserve_pool_size'],
  ['reserve_pool_timeout', 'reserve_pool_timeout'],
  ['client_login_timeout', 'client_login_timeout'],
  ['query_wait_timeout', 'query_wait_timeout'],
  ['query_wait_notify', 'query_wait_notify'],
  ['server_connect_timeout', 'connect_timeout'],
  ['server_login_retry', 'server_login_retry'],
  ['query_timeout', 'query_timeout'],
  ['idle_transaction_timeout', 'idle_transaction_timeout'],
  ['transaction_timeout', 'transaction_timeout'],
  ['client_idle_timeout', 'client_idle_timeout'],
  ['cancel_wait_timeout', 'cancel_wait_timeout'],
  ['server_idle_timeout', 'idle_timeout'],
  ['server_lifetime', 'server_lifetime'],
  ['server_check_query', 'server_check_query'],
  ['server_check_delay', 'server_check_delay'],
  ['suspend_timeout', 'suspend_timeout'],
  ['shutdown_timeout', 'shutdown_timeout'],
] as const)('%s is the live key %s', ([, key]) => {
  expect(keys[key]?.class).toBe('live')
})
