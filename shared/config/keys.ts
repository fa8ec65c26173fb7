/**
 * Every configuration key, once. Validation, defaults, the two hashes, the console's SHOW CONFIG, the API schema and
 * the documentation are read from this table; adding a key is adding a line.
 *
 * `class` says what a change costs (DESIGN "Configuration"):
 *   connect  it takes part in a server connection's identity: new servers are made and old ones drain (rebuild)
 *   live     the running pool takes the value and keeps its servers (retune)
 *   process  read once when the process starts; a change is reported as `needs_restart`
 */

export type KeyClass = 'connect' | 'live' | 'process'

interface Common {
  readonly class: KeyClass
  readonly help: string
}

export type KeySpec =
  | (Common & { readonly type: 'integer'; readonly default: number; readonly min: number; readonly max: number })
  /** `default`, `min` and `max` are durations as people write them: "5s", "250ms", "10m". */
  | (Common & { readonly type: 'duration'; readonly default: string; readonly min: string; readonly max: string })
  | (Common & { readonly type: 'choice'; readonly default: string; readonly choices: readonly string[] })
  /** "" is a value only where it is the default, or where the key says so: it stands for none. */
  | (Common & {
      readonly type: 'string'
      readonly default: string
      readonly maxLength: number
      readonly mayBeEmpty?: true
    })

/** `[general]`: the proxy processes themselves. */
export const generalKeys = {
  listen_host: {
    type: 'string',
    default: '0.0.0.0',
    maxLength: 255,
    class: 'process',
    help: 'address the proxy listens on; a proxy started with --listen-host keeps its own',
  },
  listen_port: {
    type: 'integer',
    default: 6432,
    min: 0,
    max: 65535,
    class: 'process',
    help: 'port the proxy listens on; a proxy started with --listen-port keeps its own',
  },
  unix_socket_dir: {
    type: 'string',
    default: '',
    maxLength: 90,
    class: 'process',
    help: 'folder on the proxies in which clients are also served by a Unix socket, .s.PGSQL.<listen_port>; "" serves none',
  },
  unix_socket_mode: {
    type: 'string',
    default: '0777',
    maxLength: 4,
    class: 'process',
    help: 'mode of the file of that socket, in octal: who may connect',
  },
  max_client_connections: {
    type: 'integer',
    default: 10000,
    min: 1,
    max: 1000000,
    class: 'live',
    help: 'clients one proxy serves at a time; one more is refused with 53300',
  },
  client_login_timeout: {
    type: 'duration',
    default: '1m',
    min: '100ms',
    max: '1h',
    class: 'live',
    help: 'time a client has from connecting to the end of its login',
  },
  login_backoff_after: {
    type: 'integer',
    default: 5,
    min: 0,
    max: 1000,
    class: 'live',
    help: 'failed logins from one address from which on the answer to a failure is delayed, by 250 ms and twice as long each time; 0 never; a success is never delayed, and starts the count anew',
  },
  login_backoff_window: {
    type: 'duration',
    default: '1m',
    min: '1s',
    max: '24h',
    class: 'live',
    help: 'time without a failed login after which those of an address are forgotten',
  },
  login_backoff_max: {
    type: 'duration',
    default: '4s',
    min: '0ms',
    max: '1m',
    class: 'live',
    help: 'longest delay of the answer to a failed login',
  },
  client_tcp_keepalives_idle: {
    type: 'duration',
    default: '5s',
    min: '1s',
    max: '9h',
    class: 'live',
    help: 'idle time on a client connection before the first keepalive probe (TCP_KEEPIDLE)',
  },
  client_tcp_keepalives_interval: {
    type: 'duration',
    default: '5s',
    min: '1s',
    max: '9h',
    class: 'live',
    help: 'time between two keepalive probes to a client (TCP_KEEPINTVL)',
  },
  client_tcp_keepalives_count: {
    type: 'integer',
    default: 5,
    min: 1,
    max: 127,
    class: 'live',
    help: 'unanswered keepalive probes after which a client is given up (TCP_KEEPCNT)',
  },
  client_tcp_user_timeout: {
    type: 'duration',
    default: '30s',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time sent data to a client may stay unacknowledged (TCP_USER_TIMEOUT); 0 leaves it to the kernel',
  },
  dns_max_ttl: {
    type: 'duration',
    default: '15s',
    min: '1s',
    max: '24h',
    class: 'live',
    help: 'how long resolved server names are believed before they are looked up again',
  },
  cancel_wait_timeout: {
    type: 'duration',
    default: '10s',
    min: '10ms',
    max: '1h',
    class: 'live',
    help: 'time a server has to take a cancel request that is passed on to it',
  },
  suspend_timeout: {
    type: 'duration',
    default: '10s',
    min: '0ms',
    max: '1h',
    class: 'live',
    help: 'time that connections have to take what was sent to them after SUSPEND; those that do not are closed',
  },
  shutdown_timeout: {
    type: 'duration',
    default: '1m',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time that transactions in flight have to finish after SIGTERM',
  },
  poll_interval: {
    type: 'duration',
    default: '5s',
    min: '100ms',
    max: '1h',
    class: 'live',
    help: 'how often a proxy asks control for a newer version when nobody nudges it',
  },
  max_dynamic_pools: {
    type: 'integer',
    default: 1000,
    min: 1,
    max: 100000,
    class: 'live',
    help: 'pools one proxy makes for the users and databases that "*" stands for; one more takes the place of the longest unused, or is refused with 53300',
  },
  autodb_idle_timeout: {
    type: 'duration',
    default: '1h',
    min: '1s',
    max: '720h',
    class: 'live',
    help: 'time after which a pool that was made for "*" and has no clients is forgotten',
  },
  client_tls_sslmode: {
    type: 'choice',
    default: 'disable',
    choices: ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'],
    class: 'live',
    help: 'TLS of clients: not offered, offered (allow, prefer), required, or required with a certificate that client_tls_ca_file vouches for (verify-ca) and whose common name is the user (verify-full)',
  },
  client_tls_cert_file: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'live',
    help: 'path on the proxies of the certificate shown to clients, with its chain, in PEM; read again when it changes',
  },
  client_tls_key_file: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'live',
    help: 'path on the proxies of the private key of client_tls_cert_file, in PEM without a passphrase',
  },
  client_tls_ca_file: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'live',
    help: 'path on the proxies of the CA certificates that vouch for clients, in PEM',
  },
  client_tls_min_protocol: {
    type: 'choice',
    default: 'TLSv1.2',
    choices: ['TLSv1.2', 'TLSv1.3'],
    class: 'live',
    help: 'oldest version of TLS that clients may speak',
  },
  client_tls_ciphers: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'live',
    help: 'ciphers of TLS 1.2 for clients, as a list of OpenSSL; "" takes its default',
  },
  client_tls13_ciphers: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'live',
    help: 'ciphers of TLS 1.3 for clients, as a list of OpenSSL; "" takes its default',
  },
  client_plain_allowed: {
    type: 'choice',
    default: 'off',
    choices: ['on', 'off'],
    class: 'live',
    help: 'auth_type "plain" is asked of clients without TLS too, so that whoever is on the way reads their passwords',
  },
  auth_hba: {
    type: 'string',
    default: '',
    maxLength: 65536,
    class: 'live',
    help: 'rules in the syntax of pg_hba.conf for users with auth_type "hba": the first that matches says how they prove who they are',
  },
  auth_ident: {
    type: 'string',
    default: '',
    maxLength: 65536,
    class: 'live',
    help: 'user name maps in the syntax of pg_ident.conf, for certificates whose common name is not the user',
  },
} as const satisfies Record<string, KeySpec>

/** Keys that every pool inherits: `[defaults]` ← `[pools.NAME]` ← `[pools.NAME.users.USER]`. */
export const poolKeys = {
  pool_mode: {
    type: 'choice',
    default: 'transaction',
    choices: ['session', 'transaction', 'statement'],
    class: 'live',
    help: 'when a server goes back to the pool: after the client leaves, after each transaction, or after each statement, and then transaction blocks are refused',
  },
  pool_size: {
    type: 'integer',
    default: 20,
    min: 1,
    max: 100000,
    class: 'live',
    help: 'server connections this pool may hold',
  },
  max_prepared_statements: {
    type: 'integer',
    default: 200,
    min: 0,
    max: 10000,
    class: 'live',
    help: 'prepared statements kept on a server in transaction mode, least recently used first out; 0 passes names as they are',
  },
  track_extra_parameters: {
    type: 'string',
    default: '',
    maxLength: 1000,
    class: 'live',
    help: 'further run-time parameters that follow a client in transaction mode, comma-separated; only those PostgreSQL reports can',
  },
  pin_on_session_state: {
    type: 'choice',
    default: 'on',
    choices: ['on', 'off'],
    class: 'live',
    help: 'in transaction mode a client keeps its server while it listens or has advisory locks, temporary tables, WITH HOLD cursors or SQL-level prepared statements; off leaves them on the server',
  },
  server_reset_query: {
    type: 'string',
    default: 'DISCARD ALL',
    maxLength: 1000,
    mayBeEmpty: true,
    class: 'live',
    help: 'what resets a server after a session; empty resets nothing',
  },
  min_pool_size: {
    type: 'integer',
    default: 0,
    min: 0,
    max: 100000,
    class: 'live',
    help: 'server connections kept open even without clients; never more than pool_size',
  },
  reserve_pool_size: {
    type: 'integer',
    default: 0,
    min: 0,
    max: 100000,
    class: 'live',
    help: 'further server connections for a client that has waited for reserve_pool_timeout; 0 none',
  },
  reserve_pool_timeout: {
    type: 'duration',
    default: '5s',
    min: '1ms',
    max: '24h',
    class: 'live',
    help: 'time a client waits before reserve_pool_size is drawn on',
  },
  max_db_client_connections: {
    type: 'integer',
    default: 0,
    min: 0,
    max: 1000000,
    class: 'live',
    help: 'clients of this pool, all its users together, that one proxy serves; one more is refused with 53300; 0 no limit',
  },
  max_user_client_connections: {
    type: 'integer',
    default: 0,
    min: 0,
    max: 1000000,
    class: 'live',
    help: 'clients of this user, in all pools together, that one proxy serves; one more is refused with 53300; 0 no limit',
  },
  max_db_connections: {
    type: 'integer',
    default: 0,
    min: 0,
    max: 100000,
    class: 'live',
    help: 'server connections of this pool, all its users together, at which none is opened; 0 no limit',
  },
  max_user_connections: {
    type: 'integer',
    default: 0,
    min: 0,
    max: 100000,
    class: 'live',
    help: 'server connections of this user, in all pools together, at which none is opened; 0 no limit',
  },
  max_replication_connections: {
    type: 'integer',
    default: 10,
    min: 0,
    max: 100000,
    class: 'live',
    help: 'replication connections of this pool on one proxy, each with a server of its own beside pool_size; one more is refused with 53300; 0 allows none',
  },
  max_address_connections: {
    type: 'integer',
    default: 0,
    min: 0,
    max: 100000,
    class: 'live',
    help: 'server connections to one address and port, of all pools together, at which none is opened; 0 no limit',
  },
  auth_type: {
    type: 'choice',
    default: 'scram-sha-256',
    choices: ['trust', 'plain', 'md5', 'scram-sha-256', 'cert', 'hba'],
    class: 'live',
    help: 'how a client proves who it is: not at all, by its password in clear (over TLS), by md5 (SCRAM where only a verifier is known), by SCRAM, by the common name of its certificate, or as auth_hba says',
  },
  auth_ident_map: {
    type: 'string',
    default: '',
    maxLength: 63,
    class: 'live',
    help: 'map of auth_ident that leads from the common name of a certificate to the user; "" takes the name itself',
  },
  auth_user: {
    type: 'string',
    default: '',
    maxLength: 63,
    class: 'live',
    help: 'role that auth_query runs as, for users without a password here; empty asks no server',
  },
  auth_query: {
    type: 'string',
    default:
      'SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())',
    maxLength: 4000,
    class: 'live',
    help: 'SQL that gives name and verifier (md5 or SCRAM-SHA-256) of the user $1; runs with search_path = pg_catalog, so it must name schemas',
  },
  auth_database: {
    type: 'string',
    default: '',
    maxLength: 63,
    class: 'live',
    help: 'database that auth_query runs in; empty is the one of the pool',
  },
  auth_query_timeout: {
    type: 'duration',
    default: '5s',
    min: '10ms',
    max: '1h',
    class: 'live',
    help: 'time an auth_query has, with the connection to the server, before the login is refused',
  },
  auth_query_cache_ttl: {
    type: 'duration',
    default: '0ms',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time the answers of auth_query are believed; an old password is too, for as long; 0 asks at each login',
  },
  server_auth: {
    type: 'choice',
    default: 'password',
    choices: ['password', 'passthrough'],
    class: 'connect',
    help: 'how the proxy logs in to servers: with a password it knows, or with the keys that the client has proven itself by (passthrough), where only a verifier is known',
  },
  connect_timeout: {
    type: 'duration',
    default: '5s',
    min: '10ms',
    max: '1h',
    class: 'live',
    help: 'time to connect and log in to a server',
  },
  query_wait_timeout: {
    type: 'duration',
    default: '2m',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time a client waits for a server before it is disconnected with query_wait_timeout; 0 waits for ever',
  },
  query_wait_notify: {
    type: 'duration',
    default: '5s',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time a client waits for a server before it is told so by a NOTICE; 0 never',
  },
  query_timeout: {
    type: 'duration',
    default: '0ms',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time a query may run before it is canceled and its client disconnected; 0 no limit',
  },
  transaction_timeout: {
    type: 'duration',
    default: '0ms',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time a transaction may be open before its client is disconnected; 0 no limit',
  },
  idle_transaction_timeout: {
    type: 'duration',
    default: '0ms',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time a client may rest inside a transaction before it is disconnected; 0 no limit',
  },
  client_idle_timeout: {
    type: 'duration',
    default: '0ms',
    min: '0ms',
    max: '720h',
    class: 'live',
    help: 'time a client may rest between transactions before it is disconnected; 0 no limit',
  },
  server_login_retry: {
    type: 'duration',
    default: '5s',
    min: '10ms',
    max: '1h',
    class: 'live',
    help: 'longest pause between two attempts to log in to a server that fails',
  },
  server_check_query: {
    type: 'string',
    default: '',
    maxLength: 1000,
    class: 'live',
    help: 'what an unused server is asked, such as SELECT 1; one that fails or does not answer within connect_timeout is closed; empty asks nothing',
  },
  server_check_delay: {
    type: 'duration',
    default: '30s',
    min: '100ms',
    max: '24h',
    class: 'live',
    help: 'time since a server was last heard of after which it is asked server_check_query',
  },
  idle_timeout: {
    type: 'duration',
    default: '10m',
    min: '0ms',
    max: '720h',
    class: 'live',
    help: 'time after which an unused server above min_pool_size is closed; 0 never',
  },
  server_lifetime: {
    type: 'duration',
    default: '1h',
    min: '0ms',
    max: '720h',
    class: 'live',
    help: 'age at which a server is closed as soon as it is unused; 0 never',
  },
  tcp_keepalives_idle: {
    type: 'duration',
    default: '5s',
    min: '1s',
    max: '9h',
    class: 'live',
    help: 'idle time on a server connection before the first keepalive probe (TCP_KEEPIDLE)',
  },
  tcp_keepalives_interval: {
    type: 'duration',
    default: '5s',
    min: '1s',
    max: '9h',
    class: 'live',
    help: 'time between two keepalive probes to a server (TCP_KEEPINTVL)',
  },
  tcp_keepalives_count: {
    type: 'integer',
    default: 5,
    min: 1,
    max: 127,
    class: 'live',
    help: 'unanswered keepalive probes after which a server is dead (TCP_KEEPCNT)',
  },
  tcp_user_timeout: {
    type: 'duration',
    default: '30s',
    min: '0ms',
    max: '24h',
    class: 'live',
    help: 'time sent data may stay unacknowledged before a server is dead (TCP_USER_TIMEOUT); 0 leaves it to the kernel',
  },
  server_max_protocol_version: {
    type: 'choice',
    default: '3.0',
    choices: ['3.0', '3.2'],
    class: 'connect',
    help: 'newest version of the protocol that servers are asked for; 3.2 gives longer cancel keys, and a server that knows only older ones is spoken to in its own; some that are not PostgreSQL refuse to be asked',
  },
  server_tls_sslmode: {
    type: 'choice',
    default: 'disable',
    choices: ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'],
    class: 'connect',
    help: 'TLS to servers: never, when a server refuses plaintext (allow), when it can (prefer), always, always with a certificate that server_tls_ca_file vouches for (verify-ca) and that is for the host (verify-full)',
  },
  server_tls_negotiation: {
    type: 'choice',
    default: 'postgres',
    choices: ['postgres', 'direct'],
    class: 'connect',
    help: 'how TLS to servers begins: asked for by an SSLRequest, or at once, which saves a round trip and needs PostgreSQL 17',
  },
  server_tls_ca_file: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'connect',
    help: 'path on the proxies of the CA certificates that vouch for servers, in PEM; read again when it changes',
  },
  server_tls_cert_file: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'connect',
    help: 'path on the proxies of the certificate shown to servers that ask for one, in PEM',
  },
  server_tls_key_file: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'connect',
    help: 'path on the proxies of the private key of server_tls_cert_file, in PEM without a passphrase',
  },
  server_tls_min_protocol: {
    type: 'choice',
    default: 'TLSv1.2',
    choices: ['TLSv1.2', 'TLSv1.3'],
    class: 'connect',
    help: 'oldest version of TLS that servers may speak',
  },
  server_tls_ciphers: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'connect',
    help: 'ciphers of TLS 1.2 to servers, as a list of OpenSSL; "" takes its default',
  },
  server_tls13_ciphers: {
    type: 'string',
    default: '',
    maxLength: 4096,
    class: 'connect',
    help: 'ciphers of TLS 1.3 to servers, as a list of OpenSSL; "" takes its default',
  },
} as const satisfies Record<string, KeySpec>

export type GeneralKey = keyof typeof generalKeys
export type PoolKey = keyof typeof poolKeys

/** The value a key has in documents and bodies: integers are numbers, all else is a string. */
type ValueOf<Spec extends KeySpec> = Spec extends { type: 'integer' }
  ? number
  : Spec extends { type: 'choice'; choices: readonly (infer Choice)[] }
    ? Choice
    : string

export type GeneralValues = { [Key in GeneralKey]: ValueOf<(typeof generalKeys)[Key]> }
export type PoolValues = { [Key in PoolKey]: ValueOf<(typeof poolKeys)[Key]> }
