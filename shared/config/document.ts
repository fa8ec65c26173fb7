/**
 * The configuration document of a fleet: its shape, and how a tree parsed from TOML or JSON becomes one. The result is the
 * normal form that is stored, compared and returned: all sections, durations in canonical spelling, no unknown keys.
 *
 *   [general]                any general key
 *   [defaults]               any pool key, the credentials of credentials.ts that say so
 *   [pools.NAME]             database, servers, any credential, any pool key
 *   [pools.NAME.users.USER]  any credential, any pool key
 *
 * NAME "*" stands for databases without a section of their own, USER "*" for users of a database without one.
 *
 *   [admin_users.NAME] [stats_users.NAME]  password, or auth_type = "trust"
 */
import { checkConsistency } from './consistency.ts'
import { credentialEntries, credentials } from './credentials.ts'
import type { Credentials, CredentialSpec, PasswordSource } from './credentials.ts'
import { generalKeys, poolKeys } from './keys.ts'
import type { GeneralValues, KeySpec, PoolValues } from './keys.ts'
import { nearest } from './nearest.ts'
import { passwordFault } from './password.ts'
import { join, Problems } from './problems.ts'
import type {
  ConsoleSection,
  DefaultsSection,
  FleetDocument,
  KnownSecrets,
  PoolSection,
  ServerSection,
  UserSection,
} from './sections.ts'
import { checkValue, shown } from './value.ts'

export const noSecrets: KnownSecrets = {
  find: () => undefined,
  remedy: 'secrets are kept by control; without it, use the password itself or { env = "NAME" }',
}

/** PostgreSQL's NAMEDATALEN - 1. */
const nameBytesMax = 63
const hostLengthMax = 255
/** Leaves room for the name of the socket in a sockaddr_un. */
const folderLengthMax = 90
const serversMax = 64
const usersMax = 20_000

/** Property names of every JavaScript object; as a role or database they are a mistake or an attack. */
const refusedNames = ['__proto__', 'constructor', 'prototype']

const environmentName = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/
export const secretNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/

type Tree = Record<string, unknown>

/** Throws a ConfigError with all problems found. */
export function readDocument(tree: unknown, secrets: KnownSecrets): FleetDocument {
  const problems = new Problems()
  const document = readSections(tree, problems)
  checkConsistency(document, secrets, problems)
  problems.throwIfAny()
  return document
}

function readSections(tree: unknown, problems: Problems): FleetDocument {
  const document: FleetDocument = { general: {}, defaults: {}, pools: {}, admin_users: {}, stats_users: {} }
  const root = readTable(tree, '', problems)
  if (root === undefined) return document
  const sections = Object.keys(document)
  for (const key of Object.keys(root)) {
    if (!sections.includes(key)) unknownKey('', key, sections, problems)
  }
  document.general = readKeys<GeneralValues>(root['general'], 'general', generalKeys, problems)
  document.defaults = readDefaults(readTable(root['defaults'] ?? {}, 'defaults', problems) ?? {}, problems)
  document.pools = readNamed(root['pools'], 'pools', problems, readPool)
  document.admin_users = readNamed(root['admin_users'], 'admin_users', problems, readConsoleUser)
  document.stats_users = readNamed(root['stats_users'], 'stats_users', problems, readConsoleUser)

  const users = Object.values(document.pools).reduce((sum, pool) => sum + Object.keys(pool.users).length, 0)
  if (users > usersMax) problems.add('pools', `has ${users} users in total; the maximum is ${usersMax}`)
  return document
}

/** A section that contains keys of one table only. */
function readKeys<Values>(
  given: unknown,
  path: string,
  keys: Record<string, KeySpec>,
  problems: Problems,
): Partial<Values> {
  const table = readTable(given ?? {}, path, problems)
  return table === undefined ? {} : takeKeys<Values>(table, path, keys, [], problems)
}

/** Checks the keys of `table` that are in `keys`; a key that is neither in `keys` nor in `others` is a problem. */
function takeKeys<Values>(
  table: Tree,
  path: string,
  keys: Record<string, KeySpec>,
  others: readonly string[],
  problems: Problems,
): Partial<Values> {
  const values: Record<string, string | number> = {}
  for (const [key, given] of Object.entries(table)) {
    if (others.includes(key)) continue
    if (!Object.hasOwn(keys, key)) {
      unknownKey(path, key, [...Object.keys(keys), ...others], problems)
      continue
    }
    const checked = checkValue(keys[key]!, given)
    if ('fault' in checked) problems.add(join(path, key), checked.fault)
    else values[key] = checked.value
  }
  // `Values` is derived from the table `keys`, which the values were checked against.
  return values as Partial<Values>
}

/** A table whose keys are names of databases or users. */
function readNamed<Section>(
  given: unknown,
  path: string,
  problems: Problems,
  read: (table: Tree, path: string, problems: Problems) => Section,
): Record<string, Section> {
  const sections: Record<string, Section> = {}
  const named = readTable(given ?? {}, path, problems)
  for (const [name, entry] of Object.entries(named ?? {})) {
    const fault = nameFault(name)
    if (fault !== undefined) {
      problems.add(join(path, name), fault)
      continue
    }
    const table = readTable(entry, join(path, name), problems)
    if (table !== undefined) sections[name] = read(table, join(path, name), problems)
  }
  return sections
}

function readDefaults(table: Tree, problems: Problems): DefaultsSection {
  const specs = Object.fromEntries(credentialEntries().filter(([, { inDefaults }]) => inDefaults === true))
  return {
    ...takeKeys<PoolValues>(table, 'defaults', poolKeys, Object.keys(specs), problems),
    ...readCredentials(table, specs, 'defaults', problems),
  }
}

function readPool(table: Tree, path: string, problems: Problems): PoolSection {
  const pool: PoolSection = {
    ...takeKeys<PoolValues>(
      table,
      path,
      poolKeys,
      ['database', 'servers', 'users', ...Object.keys(credentials)],
      problems,
    ),
    ...readCredentials(table, credentials, path, problems),
    servers: readServers(table['servers'], join(path, 'servers'), problems),
    users: readNamed(table['users'], join(path, 'users'), problems, readUser),
  }
  const database = readName(table, 'database', path, problems)
  if (database !== undefined) pool.database = database
  return pool
}

function readUser(table: Tree, path: string, problems: Problems): UserSection {
  return {
    ...takeKeys<PoolValues>(table, path, poolKeys, Object.keys(credentials), problems),
    ...readCredentials(table, credentials, path, problems),
  }
}

function readCredentials(
  table: Tree,
  specs: Readonly<Record<string, CredentialSpec>>,
  path: string,
  problems: Problems,
): Credentials {
  const found: Record<string, PasswordSource> = {}
  for (const [key, spec] of Object.entries(specs)) {
    const value = readCredential(table, key, spec, path, problems)
    if (value === undefined) continue
    found[key] = value
    const { beside } = spec
    if (beside !== undefined && table[beside.key] === undefined) problems.add(join(path, key), beside.fault)
  }
  // The keys and types of values are those of the table, which `Credentials` is derived from.
  return found
}

function readCredential(
  table: Tree,
  key: string,
  { type, mayBeEmpty }: CredentialSpec,
  path: string,
  problems: Problems,
): PasswordSource | undefined {
  switch (type) {
    case 'secret':
      return readPassword(table, key, path, problems, mayBeEmpty)
    case 'name':
      return readName(table, key, path, problems)
    case 'time':
      return readTime(table, key, path, problems)
    default:
      return type satisfies never
  }
}

function readConsoleUser(table: Tree, path: string, problems: Problems): ConsoleSection {
  for (const key of Object.keys(table)) {
    if (key !== 'password' && key !== 'auth_type') unknownKey(path, key, ['password', 'auth_type'], problems)
  }
  const section: ConsoleSection = {}
  const password = readPassword(table, 'password', path, problems)
  if (password !== undefined) section.password = password
  const authType = table['auth_type']
  if (authType === 'trust') section.auth_type = 'trust'
  else if (authType !== undefined) problems.add(join(path, 'auth_type'), `must be "trust"; got ${shown(authType)}`)
  if ((table['password'] === undefined) === (authType === undefined)) {
    problems.add(path, 'must have either password or auth_type = "trust"')
  }
  return section
}

const serverKeys = ['host', 'port', 'role']

function readServers(given: unknown, path: string, problems: Problems): ServerSection[] {
  if (!Array.isArray(given) || given.length === 0) {
    problems.add(
      path,
      'must list at least one server, such as servers = [{ host = "10.0.0.1", port = 5432, role = "primary" }]',
    )
    return []
  }
  if (given.length > serversMax) {
    problems.add(path, `has ${given.length} servers; the maximum is ${serversMax}`)
    return []
  }
  const servers: ServerSection[] = []
  for (const [index, entry] of given.entries()) {
    const server = readServer(entry, `${path}[${index}]`, problems)
    if (server !== undefined) servers.push(server)
  }
  return servers
}

function readServer(given: unknown, path: string, problems: Problems): ServerSection | undefined {
  const table = readTable(given, path, problems)
  if (table === undefined) return undefined
  for (const key of Object.keys(table)) {
    if (!serverKeys.includes(key)) unknownKey(path, key, serverKeys, problems)
  }
  const host = table['host']
  const port = checkValue(serverPort, table['port'] ?? serverPort.default)
  const role = checkValue(serverRole, table['role'] ?? serverRole.default)
  const fault = hostFault(host)
  if (fault !== undefined) problems.add(join(path, 'host'), fault)
  if ('fault' in port) problems.add(join(path, 'port'), port.fault)
  if ('fault' in role) problems.add(join(path, 'role'), role.fault)
  if (fault !== undefined || 'fault' in port || 'fault' in role) return undefined
  // Checked above.
  return { host: host as string, port: port.value as number, role: role.value as ServerSection['role'] }
}

/** As in libpq, a host that begins with "/" is the directory of a Unix socket. */
function socketFolderFault(folder: string): string | undefined {
  if (folder.length <= folderLengthMax && /^[\w ./~@:+=-]+$/.test(folder)) return undefined
  return `must be a directory of at most ${folderLengthMax} ASCII characters without quotes; got ${shown(folder)}`
}

const serverPort = { type: 'integer', default: 5432, min: 1, max: 65535, class: 'connect', help: '' } as const
const serverRole = {
  type: 'choice',
  default: 'primary',
  choices: ['primary', 'replica'],
  class: 'connect',
  help: '',
} as const

function hostFault(host: unknown): string | undefined {
  if (typeof host !== 'string' || host === '') return 'must be a host name or an IP address'
  if (host.startsWith('/')) return socketFolderFault(host)
  if (host.length > hostLengthMax || !/^[A-Za-z0-9._:%-]+$/.test(host)) {
    return `must be a host name or an IP address, without brackets or port; got ${shown(host)}`
  }
  return undefined
}

function readPassword(
  table: Tree,
  key: string,
  parent: string,
  problems: Problems,
  mayBeEmpty = false,
): PasswordSource | undefined {
  const given = table[key]
  const path = join(parent, key)
  if (given === undefined) return undefined
  if (typeof given === 'string') {
    const fault = given === '' && !mayBeEmpty ? 'must not be empty' : passwordFault(given)
    if (fault !== undefined) problems.add(path, fault)
    return given
  }
  const form = 'must be a string, { env = "NAME" } or { secret = "name" }'
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    problems.add(path, form)
    return undefined
  }
  const { env, secret, version, ...rest } = given as Tree
  const extra = Object.keys(rest)[0]
  if (extra !== undefined) {
    unknownKey(path, extra, ['env', 'secret', 'version'], problems)
    return undefined
  }
  if (typeof env === 'string' && secret === undefined && version === undefined) {
    if (environmentName.test(env)) return { env }
    problems.add(join(path, 'env'), 'must be the name of an environment variable (letters, digits and _)')
    return undefined
  }
  if (typeof secret !== 'string' || env !== undefined) {
    problems.add(path, form)
    return undefined
  }
  if (!secretNamePattern.test(secret)) {
    problems.add(join(path, 'secret'), 'must be the name of a secret (letters, digits, ".", "_" and "-")')
    return undefined
  }
  if (version === undefined) return { secret }
  if (typeof version === 'number' && Number.isSafeInteger(version) && version >= 1) return { secret, version }
  problems.add(join(path, 'version'), `must be a version number; got ${shown(version)}`)
  return undefined
}

const timePattern = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/

/** A time in canonical spelling. TOML has a type for it; JSON uses strings. */
function readTime(table: Tree, key: string, parent: string, problems: Problems): string | undefined {
  const given = table[key]
  if (given === undefined) return undefined
  // smol-toml prints a date without offset without one, so that it fails the pattern.
  const text = given instanceof Date ? given.toISOString() : given
  const ms = typeof text === 'string' && timePattern.test(text) ? Date.parse(text) : NaN
  if (!Number.isNaN(ms)) return new Date(ms).toISOString()
  problems.add(join(parent, key), 'must be a time with an offset (RFC 3339), such as "2030-01-31T18:00:00Z"')
  return undefined
}

/** The role or database name under `key`, if present. */
function readName(table: Tree, key: string, parent: string, problems: Problems): string | undefined {
  const given = table[key]
  if (given === undefined) return undefined
  const fault = typeof given === 'string' ? nameFault(given) : `must be a string; got ${shown(given)}`
  if (fault !== undefined) problems.add(join(parent, key), fault)
  return typeof given === 'string' ? given : undefined
}

function nameFault(name: string): string | undefined {
  if (name === '') return 'must not be empty'
  if (name.includes('\0') || !name.isWellFormed()) return 'must not contain NUL or invalid Unicode'
  if (new TextEncoder().encode(name).length > nameBytesMax) {
    return `exceeds ${nameBytesMax} bytes, PostgreSQL's limit for names`
  }
  if (refusedNames.includes(name)) return 'is not allowed as a name; choose another name'
  return undefined
}

function readTable(given: unknown, path: string, problems: Problems): Tree | undefined {
  const plain = typeof given === 'object' && given !== null && !Array.isArray(given) && !(given instanceof Date)
  if (plain) return given as Tree
  problems.add(path, `must be a table; got ${shown(given)}`)
  return undefined
}

function unknownKey(path: string, key: string, known: readonly string[], problems: Problems): void {
  const meant = nearest(key, known)
  problems.add(
    join(path, key),
    meant === undefined ? 'is not a known key' : `is not a known key; did you mean ${meant}?`,
  )
}
