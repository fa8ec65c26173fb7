import { secretKeys } from './credentials.ts'
import type { PasswordSource, Sources, WrittenUser } from './credentials.ts'
import type { FleetDocument, KnownSecrets, ServerSection } from './sections.ts'
import { generalValuesOf, usersOf } from './effective.ts'
import type { GeneralValues, PoolValues } from './keys.ts'
import { parseHba } from './hba.ts'
import { parseIdent } from './ident.ts'
import { asksForPassword, passwordKind } from './password.ts'
import type { PasswordKind } from './password.ts'
import { join } from './problems.ts'
import { checkSharedServers } from './shared-servers.ts'
import type { Problems } from './problems.ts'
import { wildcard } from './wildcard.ts'

/** Database names of the console. */
const reservedPools = ['pgbouncer', 'flotilla']

/**
 * Checks rules that involve several keys of a document. A pool that already has a problem is skipped, because most
 * further findings would be consequences of it.
 */
export function checkConsistency(document: FleetDocument, secrets: KnownSecrets, problems: Problems): void {
  if (Object.keys(document.pools).length === 0 && !problems.anyUnder('pools')) {
    problems.add('pools', 'must define at least one pool; an empty configuration never replaces a working one')
  }
  checkSecrets(document.defaults, 'defaults', secrets, problems)
  const general = checkGeneral(document, problems)
  for (const [name, pool] of Object.entries(document.pools)) {
    const path = join('pools', name)
    if (reservedPools.includes(name)) problems.add(path, 'is reserved for the console; choose another name')
    if (problems.anyUnder(path) || problems.anyUnder('defaults')) continue
    checkServers(pool.servers, join(path, 'servers'), problems)
    checkSecrets(pool, path, secrets, problems)
    checkUsers(document, name, { general, secrets, problems })
  }
  for (const section of ['admin_users', 'stats_users'] as const) {
    for (const [user, { password }] of Object.entries(document[section])) {
      checkSecret(password, join(join(join('', section), user), 'password'), secrets, problems)
    }
  }
  for (const user of Object.keys(document.stats_users)) {
    if (Object.hasOwn(document.admin_users, user)) {
      problems.add(join('stats_users', user), 'is also in admin_users; remove one of the two')
    }
  }
}

/** What users are checked against; undefined where `[general]` itself has a problem. */
interface General {
  readonly values: GeneralValues
  readonly identMaps: ReadonlySet<string>
}

function checkGeneral(document: FleetDocument, problems: Problems): General | undefined {
  if (problems.anyUnder('general')) return undefined
  const values = generalValuesOf(document)
  const ident = parseIdent(values.auth_ident)
  const general = { values, identMaps: new Set(ident.lines.map(({ map }) => map)) }
  checkClientTls(values, problems)
  checkUnixSocket(values, problems)
  checkHba(general, problems)
  for (const { line, message } of ident.faults) problems.add('general.auth_ident', `line ${line}: ${message}`)
  return problems.anyUnder('general') ? undefined : general
}

function checkServers(servers: readonly ServerSection[], path: string, problems: Problems): void {
  const primaries = servers.filter(({ role }) => role === 'primary')
  if (primaries.length > 1) {
    problems.add(path, `has ${primaries.length} primaries; set role = "replica" on all servers but one`)
  }
  const seen = new Set<string>()
  for (const [index, { host, port }] of servers.entries()) {
    const address = `${host.startsWith('/') ? host : host.toLowerCase()} ${port}`
    if (seen.has(address)) problems.add(`${path}[${index}]`, `duplicates ${host} port ${port}; remove one of the two`)
    seen.add(address)
  }
}

/** What a user is checked with. */
interface Checks {
  readonly general: General | undefined
  readonly secrets: KnownSecrets
  readonly problems: Problems
}

function checkUsers(document: FleetDocument, name: string, checks: Checks): void {
  const { secrets, problems } = checks
  const path = join(join('pools', name), 'users')
  const sections = Object.entries(document.pools[name]!.users)
  if (sections.length === 0) {
    problems.add(path, `must define at least one user, such as [${path}.web]`)
  }
  const resolve = usersOf(document, name)
  const written: WrittenUser[] = []
  for (const [user, section] of sections) {
    const ownPath = join(path, user)
    checkSecrets(section, ownPath, secrets, problems)
    const resolved = resolve(user)
    written.push(resolved)
    checkUser(name, resolved, ownPath, checks)
  }
  checkSharedServers(document, name, written, problems)
}

function checkUser(pool: string, user: WrittenUser, path: string, { general, secrets, problems }: Checks): void {
  const { values } = user
  if (values.min_pool_size > values.pool_size) {
    const sizes = `min_pool_size is ${values.min_pool_size} and pool_size is ${values.pool_size}`
    problems.add(join(path, 'min_pool_size'), `must not exceed pool_size: ${sizes}`)
  }
  checkLogin(user, path, secrets, problems)
  checkAuthQuery(pool, user, path, problems)
  checkServerTls(values, path, problems)
  if (general !== undefined) checkAuthType(general, values, path, problems)
}

function checkClientTls(values: GeneralValues, problems: Problems): void {
  const { client_tls_sslmode: mode } = values
  const need = (key: 'client_tls_cert_file' | 'client_tls_key_file' | 'client_tls_ca_file'): void => {
    if (values[key] === '') problems.add(join('general', key), `is required by client_tls_sslmode "${mode}"`)
  }
  if (mode === 'disable') return
  need('client_tls_cert_file')
  need('client_tls_key_file')
  if (mode === 'verify-ca' || mode === 'verify-full') need('client_tls_ca_file')
}

function checkUnixSocket({ unix_socket_dir: dir, unix_socket_mode: mode }: GeneralValues, problems: Problems): void {
  if (dir !== '' && !dir.startsWith('/')) {
    problems.add(join('general', 'unix_socket_dir'), 'must be an absolute path')
  }
  if (!/^[0-7]{3,4}$/.test(mode)) {
    problems.add(join('general', 'unix_socket_mode'), 'must be an octal file mode, such as "0770"')
  }
}

/** Whether clients can present certificates: a CA verifies them. */
function readsCertificates({ client_tls_sslmode: mode, client_tls_ca_file: ca }: GeneralValues): boolean {
  return mode !== 'disable' && ca !== ''
}

const certificateRemedy = 'set client_tls_sslmode and client_tls_ca_file'

/** Every line of the rules is valid, and every map they name exists. */
function checkHba({ values, identMaps }: General, problems: Problems): void {
  const hba = parseHba(values.auth_hba)
  for (const { line, message } of hba.faults) problems.add('general.auth_hba', `line ${line}: ${message}`)
  for (const { line, method, map, clientcert } of hba.rules) {
    if ((method === 'cert' || clientcert !== null) && !readsCertificates(values)) {
      problems.add('general.auth_hba', `line ${line}: requires client certificates; ${certificateRemedy}`)
    }
    if (map !== null && !identMaps.has(map))
      problems.add('general.auth_hba', `line ${line}: auth_ident has no map "${map}"`)
  }
}

/** Checks what `auth_type` and `auth_ident_map` require of `[general]`. */
function checkAuthType(
  { values: general, identMaps }: General,
  values: PoolValues,
  path: string,
  problems: Problems,
): void {
  const { auth_type: type, auth_ident_map: map } = values
  const at = join(path, 'auth_type')
  if (type === 'cert' && !readsCertificates(general)) {
    problems.add(at, `"cert" requires client certificates; ${certificateRemedy}`)
  }
  if (type === 'hba' && general.auth_hba === '') problems.add(at, '"hba" requires rules; set auth_hba in [general]')
  if (type === 'plain' && general.client_tls_sslmode === 'disable' && general.client_plain_allowed === 'off') {
    const remedy = 'set client_tls_sslmode, or client_plain_allowed = "on" on a trusted network'
    problems.add(at, `"plain" sends cleartext passwords and requires TLS; ${remedy}`)
  }
  if (map !== '' && !identMaps.has(map)) {
    problems.add(join(path, 'auth_ident_map'), `auth_ident has no map "${map}"`)
  }
}

/** A CA file with a mode that does not verify certificates is a mistake: it would silently not be used. */
function checkServerTls(values: PoolValues, path: string, problems: Problems): void {
  const { server_tls_sslmode: mode, server_tls_ca_file: ca } = values
  const verifies = mode === 'verify-ca' || mode === 'verify-full'
  if (verifies && ca === '') {
    problems.add(join(path, 'server_tls_ca_file'), `is required by server_tls_sslmode "${mode}"`)
  }
  if (!verifies && ca !== '') {
    const remedy = 'set server_tls_sslmode to "verify-full" or "verify-ca", or remove the file'
    problems.add(join(path, 'server_tls_ca_file'), `is not used with server_tls_sslmode "${mode}"; ${remedy}`)
  }
  if ((values.server_tls_cert_file === '') !== (values.server_tls_key_file === '')) {
    problems.add(join(path, 'server_tls_cert_file'), 'and server_tls_key_file must be set together')
  }
  if (values.server_tls_negotiation === 'direct' && !verifies && mode !== 'require') {
    const remedy = 'set server_tls_sslmode to "require", "verify-ca" or "verify-full"'
    problems.add(
      join(path, 'server_tls_negotiation'),
      `"direct" cannot be used with a mode that allows plaintext; ${remedy}`,
    )
  }
}

/** Clients can authenticate, and the proxy has a credential for the servers. */
function checkLogin(user: WrittenUser, path: string, secrets: KnownSecrets, problems: Problems): void {
  const { values } = user
  const { auth_type: authType } = values
  const { password, server_password: serverPassword, server_user: serverUser = user.user } = user.sources
  const kind = kindOf(password, secrets)
  const looksUp = values.auth_user !== '' && password === undefined && authType !== 'trust' && authType !== 'cert'
  if (password === undefined && asksForPassword(authType) && !looksUp && user.user !== wildcard) {
    problems.add(join(path, 'password'), `is required by auth_type "${authType}"; set it, or auth_type = "trust"`)
  }
  if (kind === 'md5' && authType === 'scram-sha-256') {
    const remedy = 'set auth_type = "md5", or use the password itself or a SCRAM-SHA-256 verifier'
    problems.add(join(path, 'password'), `is an md5 hash, which scram-sha-256 cannot use; ${remedy}`)
  }
  checkRotation(user, path, secrets, problems)
  if (values.server_auth === 'passthrough') {
    checkPassthrough({ authType, serverPassword, isOwnRole: serverUser === user.user }, path, problems)
    return
  }
  const remedy =
    'set server_password to the password itself, or to "" if the servers trust this role, or set server_auth = "passthrough"'
  if (serverPassword === undefined && looksUp) {
    problems.add(
      join(path, 'server_password'),
      `is required: auth_query returns a verifier, which cannot log in to a server; ${remedy}`,
    )
  }
  const serverKind = kindOf(serverPassword, secrets)
  if (serverPassword !== undefined && serverKind !== undefined && serverKind !== 'plain') {
    problems.add(join(path, 'server_password'), `is a verifier, which cannot log in to a server; ${remedy}`)
  }
  if (serverPassword === undefined && kind !== undefined && kind !== 'plain') {
    problems.add(
      join(path, 'server_password'),
      `is required: the client's password is a verifier, which cannot log in to a server; ${remedy}`,
    )
  }
}

/** One exchange must work for both passwords, whichever the client has. */
function checkRotation(
  { values, sources }: WrittenUser,
  path: string,
  secrets: KnownSecrets,
  problems: Problems,
): void {
  const { password, previous_password: previous } = sources
  const fault = rotationFault(values.auth_type, kindOf(password, secrets), kindOf(previous, secrets))
  if (fault !== undefined) problems.add(join(path, 'previous_password'), fault)
}

function rotationFault(
  authType: PoolValues['auth_type'],
  kind: PasswordKind | undefined,
  previous: PasswordKind | undefined,
): string | undefined {
  const remedy = 'use the password itself for one of the two'
  if (authType === 'plain') return undefined
  if (previous === 'md5' && authType === 'scram-sha-256')
    return `is an md5 hash, which scram-sha-256 cannot use; ${remedy}`
  if (kind === 'scram' && previous === 'scram') {
    return `and password are verifiers with different salts, and a client is challenged with one salt; ${remedy}`
  }
  if ((kind === 'md5' && previous === 'scram') || (kind === 'scram' && previous === 'md5')) {
    return `and password are an md5 hash and a SCRAM verifier, and a client is challenged for one of them; ${remedy}`
  }
  return undefined
}

/** Keys that a client has proven open servers for the same role only. */
function checkPassthrough(
  login: { authType: string; serverPassword: PasswordSource | undefined; isOwnRole: boolean },
  path: string,
  problems: Problems,
): void {
  if (login.serverPassword !== undefined) {
    problems.add(
      join(path, 'server_password'),
      'cannot be used with server_auth = "passthrough"; remove one of the two',
    )
  }
  if (!login.isOwnRole) {
    const remedy = 'remove it, or set server_password and server_auth = "password"'
    problems.add(join(path, 'server_user'), `must be the client's user with server_auth = "passthrough"; ${remedy}`)
  }
  if (login.authType === 'trust' || login.authType === 'cert') {
    problems.add(
      join(path, 'server_auth'),
      `"passthrough" cannot be used with auth_type = "${login.authType}", with which clients prove no password`,
    )
  }
}

function checkAuthQuery(pool: string, { user, values, sources }: WrittenUser, path: string, problems: Problems): void {
  if (user === wildcard) {
    if (sources['password'] !== undefined) {
      problems.add(join(path, 'password'), 'must not be set for "*", which is for users known to auth_query')
    }
    if (values.auth_type === 'trust' || values.auth_type === 'cert') {
      const reason = 'for "*", because unknown users would be admitted'
      problems.add(join(path, 'auth_type'), `must not be "${values.auth_type}" ${reason}`)
    }
    if (values.auth_user === '')
      problems.add(join(path, 'auth_user'), 'is required for "*", which is for users known to auth_query')
  }
  if (values.auth_user === '') return
  if (!values.auth_query.includes('$1')) problems.add(join(path, 'auth_query'), 'must contain $1 for the user name')
  if (pool === wildcard && values.auth_database === '') {
    const reason = 'otherwise clients would choose the database in which auth_query runs'
    problems.add(join(path, 'auth_database'), `is required for [pools."*"]: ${reason}`)
  }
}

/** Undefined without a password, and for one that only the proxy can read. */
function kindOf(source: PasswordSource | undefined, secrets: KnownSecrets): PasswordKind | undefined {
  if (source === undefined || source === '') return undefined
  if (typeof source === 'string') return passwordKind(source)
  return 'secret' in source ? secrets.find(source.secret, source.version)?.kind : undefined
}

function checkSecrets(section: object, path: string, secrets: KnownSecrets, problems: Problems): void {
  for (const key of secretKeys()) {
    // Of type secret in the table, so a source where it is present.
    const source = (section as Sources)[key]
    checkSecret(source, join(path, key), secrets, problems)
  }
}

function checkSecret(
  source: PasswordSource | undefined,
  path: string,
  secrets: KnownSecrets,
  problems: Problems,
): void {
  if (source === undefined || typeof source === 'string' || !('secret' in source)) return
  if (secrets.find(source.secret, source.version) !== undefined) return
  const version = source.version === undefined ? '' : ` version ${source.version}`
  problems.add(path, `there is no secret "${source.secret}"${version}; ${secrets.remedy}`)
}
