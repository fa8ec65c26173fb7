import { describe, expect, test } from 'vitest'
import { noSecrets, readDocument } from '../../../shared/config/document.ts'
import type { KnownSecrets, PoolSection } from '../../../shared/config/sections.ts'
import { ConfigError, ConfigSyntaxError } from '../../../shared/config/problems.ts'
import { parseToml } from '../../../shared/config/text.ts'

const scramVerifier =
  'SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='
const md5Hash = 'md5a3556571e93b0d20722ba62be61e8c2d'

const valid = `
[general]
max_client_connections = 500
[defaults]
query_wait_timeout = "120s"
[pools.app]
servers = [{ host = "10.0.0.1", role = "primary" }, { host = "10.0.0.2", port = 6000, role = "replica" }]
[pools.app.users.web]
password = "geheim"
pool_size = 40
[admin_users.ops]
password = { env = "OPS_PASSWORD" }
[stats_users.monitor]
auth_type = "trust"
`

/** Every problem as "path: message", in the order found. */
function problemsOf(text: string, secrets: KnownSecrets = noSecrets): string[] {
  try {
    readDocument(parseToml(text), secrets)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ path, message }) => `${path}: ${message}`)
    throw error
  }
  return []
}

/** The document of one pool `app` with one user `web`, with lines added to the pool and to the user. */
/** Lines of `[general]`. */
const clientTls = ['sslmode = "prefer"', 'cert_file = "/c"', 'key_file = "/k"', 'ca_file = "/ca"']
  .map((line) => `client_tls_${line}\n`)
  .join('')

function pool(lines: { pool?: string; user?: string; defaults?: string; servers?: string }): string {
  return `
[defaults]
${lines.defaults ?? ''}
[pools.app]
servers = ${lines.servers ?? '[{ host = "db" }]'}
${lines.pool ?? ''}
[pools.app.users.web]
${lines.user ?? 'password = "geheim"'}
`
}

test('a valid document comes out with every section and durations in their one spelling', () => {
  const document = readDocument(parseToml(valid), noSecrets)

  expect(document).toEqual({
    general: { max_client_connections: 500 },
    defaults: { query_wait_timeout: '2m' },
    pools: {
      app: {
        servers: [
          { host: '10.0.0.1', port: 5432, role: 'primary' },
          { host: '10.0.0.2', port: 6000, role: 'replica' },
        ],
        users: { web: { password: 'geheim', pool_size: 40 } },
      },
    },
    admin_users: { ops: { password: { env: 'OPS_PASSWORD' } } },
    stats_users: { monitor: { auth_type: 'trust' } },
  })
})

test('what comes out can be read again and stays the same', () => {
  const document = readDocument(parseToml(valid), noSecrets)

  expect(readDocument(JSON.parse(JSON.stringify(document)), noSecrets)).toEqual(document)
})

describe('one problem is one line with path and remedy:', () => {
  const cases: [string, string, RegExp][] = [
    [
      'an unknown key',
      pool({ user: 'password = "x"\npool_siz = 3' }),
      /^pools\.app\.users\.web\.pool_siz: .*did you mean pool_size\?$/,
    ],
    ['an unknown key far from all', pool({ pool: 'xyzzy = 3' }), /^pools\.app\.xyzzy: is not a known key$/],
    ['an unknown section', `${pool({})}\n[pool.x]\na = 1`, /^pool: is not a known key; did you mean pools\?$/],
    ['a pool key in general', `${pool({})}\n[general]\npool_size = 1`, /^general\.pool_size: is not a known key/],
    [
      'a duration without unit',
      pool({ defaults: 'connect_timeout = "5"' }),
      /^defaults\.connect_timeout: .*with a unit.*got "5"$/,
    ],
    [
      'a duration as number',
      pool({ defaults: 'connect_timeout = 5' }),
      /^defaults\.connect_timeout: .*with a unit.*got 5$/,
    ],
    ['a number as text', pool({ pool: 'pool_size = "5"' }), /^pools\.app\.pool_size: must be an integer; got "5"$/],
    ['a fraction', pool({ pool: 'pool_size = 1.5' }), /^pools\.app\.pool_size: must be an integer; got 1\.5$/],
    [
      'a number out of bounds',
      pool({ pool: 'pool_size = 0' }),
      /^pools\.app\.pool_size: must be between 1 and \d+; got 0$/,
    ],
    [
      'a duration out of bounds',
      pool({ pool: 'connect_timeout = "2h"' }),
      /^pools\.app\.connect_timeout: must be between/,
    ],
    [
      'a choice that is none',
      pool({ pool: 'pool_mode = "tx"' }),
      /^pools\.app\.pool_mode: must be one of .*"transaction"/,
    ],
    ['no servers', pool({ servers: '[]' }), /^pools\.app\.servers: must list at least one server/],
    [
      'two primaries',
      pool({ servers: '[{ host = "a" }, { host = "b" }]' }),
      /^pools\.app\.servers: has 2 primaries; set role = "replica"/,
    ],
    [
      'an address twice',
      pool({ servers: '[{ host = "db" }, { host = "DB", role = "replica" }]' }),
      /^pools\.app\.servers\[1\]: duplicates DB port 5432/,
    ],
    [
      'a port too high',
      pool({ servers: '[{ host = "db", port = 65536 }]' }),
      /^pools\.app\.servers\[0\]\.port: must be between/,
    ],
    [
      'two folders in one',
      pool({ servers: '[{ host = "/run,/tmp" }]' }),
      /^pools\.app\.servers\[0\]\.host: .*ASCII characters/,
    ],
    [
      'a long folder',
      pool({ servers: `[{ host = "/${'x'.repeat(90)}" }]` }),
      /^pools\.app\.servers\[0\]\.host: .*at most 90/,
    ],
    [
      'host and port in one',
      pool({ servers: '[{ host = "[::1]:5432" }]' }),
      /^pools\.app\.servers\[0\]\.host: .*without brackets or port/,
    ],
    ['no users', '[pools.app]\nservers = [{ host = "db" }]', /^pools\.app\.users: must define at least one user/],
    [
      'a socket folder that is no path',
      `[general]\nunix_socket_dir = "run"\n${pool({})}`,
      /^general\.unix_socket_dir: must be an absolute path/,
    ],
    [
      'a mode that is not octal',
      `[general]\nunix_socket_mode = "0789"\n${pool({})}`,
      /^general\.unix_socket_mode: must be an octal file mode/,
    ],
    ['no pools', '[general]', /^pools: must define at least one pool/],
    [
      'a minimum above the size',
      pool({ defaults: 'min_pool_size = 21' }),
      /^pools\.app\.users\.web\.min_pool_size: must not exceed pool_size.*is 21 and pool_size is 20/,
    ],
    [
      'the name of the console',
      pool({}).replaceAll('app', 'pgbouncer'),
      /^pools\.pgbouncer: is reserved for the console/,
    ],
    [
      'the alias of the console',
      pool({}).replaceAll('app', 'flotilla'),
      /^pools\.flotilla: is reserved for the console/,
    ],
    [
      'two verifiers',
      pool({ user: `password = "${scramVerifier}"\nprevious_password = "${scramVerifier}"\nserver_password = ""` }),
      /^pools\.app\.users\.web\.previous_password: and password are verifiers with different salts/,
    ],
    [
      'an md5 hash beside a verifier',
      pool({
        user: `auth_type = "md5"\npassword = "${scramVerifier}"\nprevious_password = "${md5Hash}"\nserver_password = ""`,
      }),
      /^pools\.app\.users\.web\.previous_password: and password are an md5 hash and a SCRAM verifier/,
    ],
    [
      'a former md5 hash for SCRAM',
      pool({ user: `password = "x"\nprevious_password = "${md5Hash}"` }),
      /^pools\.app\.users\.web\.previous_password: is an md5 hash, which scram-sha-256 cannot use/,
    ],
    [
      'a former password of nothing',
      pool({ pool: 'password = "x"', user: 'previous_password = "x"' }),
      /^pools\.app\.users\.web\.previous_password: requires password, which replaces it, in the same section$/,
    ],
    [
      'a time without a former password',
      pool({ user: 'password = "x"\nprevious_password_until = "2030-01-01T00:00:00Z"' }),
      /^pools\.app\.users\.web\.previous_password_until: requires previous_password$/,
    ],
    ...['"tomorrow"', '"2030-01-01"', '2030-01-01', '2030-01-01T00:00:00', '"2030-13-01T00:00:00Z"', '5'].map(
      (time): [string, string, RegExp] => [
        `a time like ${time}`,
        pool({ user: `password = "x"\nprevious_password = "y"\nprevious_password_until = ${time}` }),
        /^pools\.app\.users\.web\.previous_password_until: must be a time with an offset/,
      ],
    ),
    [
      'rules that cannot be used',
      `[general]\nauth_hba = """\n\nhost all all all trust\nhost all all all ldap\n"""\n${pool({})}`,
      /^general\.auth_hba: line 3: must have a method/,
    ],
    [
      'a map that cannot be used',
      `[general]\nauth_ident = "staff alice"\n${pool({})}`,
      /^general\.auth_ident: line 1: must have three fields/,
    ],
    [
      'a rule with a map that is not there',
      `[general]\nauth_hba = "hostssl all all all cert map=staff"\n${clientTls}${pool({})}`,
      /^general\.auth_hba: line 1: auth_ident has no map "staff"$/,
    ],
    [
      'a rule for certificates without a CA',
      `[general]\nauth_hba = "hostssl all all all md5 clientcert=verify-ca"\n${pool({})}`,
      /^general\.auth_hba: line 1: requires client certificates; set client_tls_sslmode and client_tls_ca_file$/,
    ],
    [
      'certificates without a CA',
      pool({ user: 'auth_type = "cert"' }),
      /^pools\.app\.users\.web\.auth_type: "cert" requires client certificates/,
    ],
    [
      'a map of a user that is not there',
      `[general]\n${clientTls}${pool({ user: 'auth_type = "cert"\nauth_ident_map = "staff"' })}`,
      /^pools\.app\.users\.web\.auth_ident_map: auth_ident has no map "staff"$/,
    ],
    [
      'no rules to go by',
      pool({ user: 'auth_type = "hba"' }),
      /^pools\.app\.users\.web\.auth_type: "hba" requires rules; set auth_hba in \[general\]$/,
    ],
    [
      'passwords in clear without TLS',
      pool({ user: 'password = "x"\nauth_type = "plain"' }),
      /^pools\.app\.users\.web\.auth_type: "plain" sends cleartext passwords and requires TLS/,
    ],
    [
      'no password',
      pool({ user: '' }),
      /^pools\.app\.users\.web\.password: is required by auth_type .*auth_type = "trust"$/,
    ],
    ['an empty password', pool({ user: 'password = ""' }), /^pools\.app\.users\.web\.password: must not be empty$/],
    [
      'a password that is a number',
      pool({ user: 'password = 5' }),
      /^pools\.app\.users\.web\.password: must be a string/,
    ],
    [
      'a verifier for the server',
      pool({ user: `password = "x"\nserver_password = "${scramVerifier}"` }),
      /^pools\.app\.users\.web\.server_password: is a verifier, which cannot log in/,
    ],
    [
      'a verifier and nothing for the server',
      pool({ user: `password = "${scramVerifier}"` }),
      /^pools\.app\.users\.web\.server_password: is required/,
    ],
    [
      'an md5 hash for SCRAM',
      pool({ user: `password = "${md5Hash}"\nserver_password = ""` }),
      /^pools\.app\.users\.web\.password: is an md5 hash, which scram-sha-256 cannot use/,
    ],
    [
      'a user that auth_query knows and nothing for the server',
      pool({ pool: 'auth_user = "asker"', user: '' }),
      /^pools\.app\.users\.web\.server_password: is required: auth_query returns a verifier/,
    ],
    [
      'an auth_query that does not ask for the user',
      pool({ pool: 'auth_user = "asker"\nauth_query = "SELECT 1"' }),
      /^pools\.app\.users\.web\.auth_query: must contain \$1/,
    ],
    [
      'an auth_password that is a secret without control',
      pool({ defaults: 'auth_password = { secret = "asker" }' }),
      /^defaults\.auth_password: there is no secret "asker"/,
    ],
    [
      'passthrough with a password for the server',
      pool({ user: 'password = "x"\nserver_password = "y"\nserver_auth = "passthrough"' }),
      /^pools\.app\.users\.web\.server_password: cannot be used with server_auth = "passthrough"/,
    ],
    [
      'passthrough as another role',
      pool({ user: 'password = "x"\nserver_user = "y"\nserver_auth = "passthrough"' }),
      /^pools\.app\.users\.web\.server_user: must be the client's user/,
    ],
    [
      'passthrough of nothing',
      pool({ user: 'auth_type = "trust"\nserver_auth = "passthrough"' }),
      /^pools\.app\.users\.web\.server_auth: "passthrough" cannot be used with auth_type = "trust"/,
    ],
    [
      '"*" without auth_query',
      pool({ user: 'server_password = ""' }).replace('web', '"*"'),
      /^pools\.app\.users\."\*"\.auth_user: is required/,
    ],
    [
      '"*" with a password for all users',
      pool({ pool: 'auth_user = "asker"' }).replace('web', '"*"'),
      /^pools\.app\.users\."\*"\.password: must not be set for "\*"/,
    ],
    [
      '"*" that trusts all users',
      pool({ pool: 'auth_user = "asker"\nauth_type = "trust"', user: '' }).replace('web', '"*"'),
      /^pools\.app\.users\."\*"\.auth_type: must not be "trust"/,
    ],
    [
      'an auth_query in any database a client names',
      pool({ pool: 'auth_user = "asker"' }).replaceAll('pools.app', 'pools."*"'),
      /^pools\."\*"\.users\.web\.auth_database: is required/,
    ],
    [
      'a broken verifier',
      pool({ user: 'password = "SCRAM-SHA-256$x"' }),
      /^pools\.app\.users\.web\.password: begins like a SCRAM/,
    ],
    [
      'a secret without control',
      pool({ user: 'password = { secret = "web" }' }),
      /^pools\.app\.users\.web\.password: there is no secret "web"; secrets are kept by control/,
    ],
    [
      'both env and secret',
      pool({ user: 'password = { secret = "web", env = "X" }' }),
      /^pools\.app\.users\.web\.password: must be a string, \{ env/,
    ],
    [
      'a secret version of zero',
      pool({ user: 'password = { secret = "web", version = 0 }' }),
      /^pools\.app\.users\.web\.password\.version: /,
    ],
    [
      'a bad environment variable',
      pool({ user: 'password = { env = "A B" }' }),
      /^pools\.app\.users\.web\.password\.env: /,
    ],
    ['a long name', pool({}).replaceAll('web', 'w'.repeat(64)), /^pools\.app\.users\.w+: exceeds 63 bytes/],
    [
      'a name with NUL',
      pool({}).replaceAll('.web', '."a\\u0000b"'),
      /^pools\.app\.users\."a\\u0000b": must not contain NUL/,
    ],
    [
      'a prototype name',
      pool({}).replaceAll('.web', '.__proto__'),
      /^pools\.app\.users\.__proto__: is not allowed as a name/,
    ],
    ['a constructor', pool({}).replaceAll('.app', '.constructor'), /^pools\.constructor: is not allowed as a name/],
    ['a prototype key', pool({ pool: '__proto__ = 1' }), /^pools\.app\.__proto__: is not a known key/],
    [
      'a dot in a name',
      pool({ user: 'password = "x"\npool_size = 0' }).replaceAll('.app', '."my.app"'),
      /^pools\."my\.app"\.users\.web\.pool_size: /,
    ],
    [
      'a console user with nothing',
      `${pool({})}\n[admin_users.ops]`,
      /^admin_users\.ops: must have either password or auth_type/,
    ],
    [
      'a console user twice',
      `${pool({})}\n[admin_users.ops]\nauth_type = "trust"\n[stats_users.ops]\nauth_type = "trust"`,
      /^stats_users\.ops: is also in admin_users/,
    ],
    [
      'TLS to clients without a certificate',
      `[general]\nclient_tls_sslmode = "require"\nclient_tls_key_file = "/k"\n${pool({})}`,
      /^general\.client_tls_cert_file: is required by client_tls_sslmode "require"$/,
    ],
    [
      'clients that are verified without a CA',
      `[general]\nclient_tls_sslmode = "verify-ca"\nclient_tls_cert_file = "/c"\nclient_tls_key_file = "/k"\n${pool({})}`,
      /^general\.client_tls_ca_file: is required/,
    ],
    [
      'servers that are verified without a CA',
      pool({ user: 'password = "x"\nserver_tls_sslmode = "verify-full"' }),
      /^pools\.app\.users\.web\.server_tls_ca_file: is required/,
    ],
    [
      'a CA that would not be looked at',
      pool({ user: 'password = "x"\nserver_tls_sslmode = "prefer"\nserver_tls_ca_file = "/ca"' }),
      /^pools\.app\.users\.web\.server_tls_ca_file: is not used with server_tls_sslmode "prefer"; set/,
    ],
    [
      'a certificate for servers without its key',
      pool({ user: 'password = "x"\nserver_tls_sslmode = "require"\nserver_tls_cert_file = "/c"' }),
      /^pools\.app\.users\.web\.server_tls_cert_file: and server_tls_key_file/,
    ],
    [
      'direct TLS that may be done without',
      pool({ user: 'password = "x"\nserver_tls_sslmode = "prefer"\nserver_tls_negotiation = "direct"' }),
      /^pools\.app\.users\.web\.server_tls_negotiation: "direct" cannot be used with/,
    ],
    ['a table that is a value', 'pools = 3', /^pools: must be a table; got 3$/],
    ['a date', pool({ pool: 'pool_size = 2020-01-01' }), /^pools\.app\.pool_size: must be an integer; got a date$/],
  ]
  test.each(cases)('%s', (_, text, expected) => {
    const problems = problemsOf(text)

    expect(problems).toHaveLength(1)
    expect(problems[0]).toMatch(expected)
  })
})

test('all problems are told in one go', () => {
  const text = `${pool({ defaults: 'conect_timeout = "5s"', user: 'password = "x"\npool_size = 0' })}
[pools.b]
servers = []`

  expect(problemsOf(text).map((problem) => problem.split(':')[0])).toEqual([
    'defaults.conect_timeout',
    'pools.app.users.web.pool_size',
    'pools.b.servers',
  ])
})

test('a verifier is enough where the server trusts the role or is shown another password', () => {
  expect(problemsOf(pool({ user: `password = "${scramVerifier}"\nserver_password = ""` }))).toEqual([])
  expect(problemsOf(pool({ user: `password = "${scramVerifier}"\nserver_password = "plain"` }))).toEqual([])
  expect(problemsOf(pool({ user: `auth_type = "md5"\npassword = "${md5Hash}"\nserver_password = ""` }))).toEqual([])
})

test('a verifier is enough with passthrough, and "*" with auth_query', () => {
  const passthrough = 'server_auth = "passthrough"'
  const asked = 'auth_user = "asker"\nauth_database = "postgres"'
  expect(problemsOf(pool({ user: `password = "${scramVerifier}"\n${passthrough}` }))).toEqual([])
  expect(problemsOf(pool({ pool: `${asked}\n${passthrough}`, user: '' }))).toEqual([])
  const all = pool({ defaults: `${asked}\n${passthrough}`, user: '' }).replace('users.web', 'users."*"')
  expect(problemsOf(all.replaceAll('pools.app', 'pools."*"'))).toEqual([])
})

test.for([
  ['trust', ''],
  ['cert', clientTls],
  ['hba', 'auth_hba = "host all all 10.0.0.0/8 trust"'],
])('%s needs no password', ([type, general]) => {
  expect(problemsOf(`[general]\n${general}\n${pool({ user: `auth_type = "${type}"` })}`)).toEqual([])
})

test.for(['2030-01-31T18:00:00+01:00', '"2030-01-31T17:00:00Z"', '"2030-01-31 17:00:00.000z"'])(
  'a time is stored in its one spelling: %s',
  (time) => {
    const text = pool({ user: `password = "x"\nprevious_password = "y"\nprevious_password_until = ${time}` })

    const { users } = readDocument(parseToml(text), noSecrets).pools['app'] as PoolSection
    expect(users['web']?.previous_password_until).toBe('2030-01-31T17:00:00.000Z')
  },
)

test('passwords in clear need TLS, or leave to do without', () => {
  const plain = pool({ user: 'auth_type = "plain"\npassword = "x"' })

  expect(problemsOf(`[general]\n${clientTls}\n${plain}`)).toEqual([])
  expect(problemsOf(`[general]\nclient_plain_allowed = "on"\n${plain}`)).toEqual([])
})

test('a secret of control is judged by what it holds', () => {
  const secrets: KnownSecrets = {
    find: (name, version) => (name === 'web' && (version ?? 1) === 1 ? { version: 1, kind: 'scram' } : undefined),
    remedy: 'make it first',
  }

  expect(problemsOf(pool({ user: 'password = { secret = "web" }' }), secrets)).toEqual([
    expect.stringMatching(/^pools\.app\.users\.web\.server_password: is required/),
  ])
  expect(problemsOf(pool({ user: 'password = { secret = "web" }\nserver_password = ""' }), secrets)).toEqual([])
  expect(problemsOf(pool({ user: 'password = { secret = "web", version = 2 }' }), secrets)).toEqual([
    'pools.app.users.web.password: there is no secret "web" version 2; make it first',
  ])
})

test('broken TOML names line and column and never quotes the text', () => {
  const text = '[pools.app.users.web]\npassword = "geheim"\npassword = "geheim2"\n'

  const error = thrown(() => parseToml(text))

  expect(error).toBeInstanceOf(ConfigSyntaxError)
  expect(error).toMatchObject({ line: 3, column: 1 })
  expect(String(error)).not.toContain('geheim')
})

test('a user given twice is a syntax error of TOML', () => {
  expect(thrown(() => parseToml('[pools.app.users.web]\n[pools.app.users.web]\n'))).toMatchObject({ line: 2 })
})

test('no problem quotes a password', () => {
  const text = pool({ user: `password = ["geheim"]\nserver_password = { geheim = "geheim" }` })

  const problems = problemsOf(text)

  expect(problems.length).toBeGreaterThan(0)
  expect(problems.filter((problem) => problem.includes('"geheim"'))).toEqual([])
})

test('text nested without end is refused', () => {
  expect(thrown(() => parseToml(`a = ${'['.repeat(100_000)}`))).toBeInstanceOf(ConfigSyntaxError)
})

test('a thousand problems are told as a hundred and a count', () => {
  const keys = Array.from({ length: 1000 }, (_, index) => `x${index} = 1`).join('\n')

  const problems = problemsOf(`${pool({})}\n[general]\n${keys}`)

  expect(problems).toHaveLength(101)
  expect(problems.at(-1)).toBe(': and 900 more problems')
})

function thrown(run: () => unknown): unknown {
  try {
    run()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}
