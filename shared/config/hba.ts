/**
 * Client authentication rules in the syntax of pg_hba.conf (manual, "The pg_hba.conf File"):
 *
 *   local                      DATABASE  USER                   METHOD  [OPTIONS]
 *   host | hostssl | hostnossl DATABASE  USER  ADDRESS [MASK]   METHOD  [OPTIONS]
 *
 * Anything that needs the server's catalog, network interfaces or DNS is rejected: samerole, +role, samenet, host names.
 */
import { matches, readLines, readPattern } from './hba-text.ts'
import type { Field, LineFault, NamePattern, TextLine, Word } from './hba-text.ts'
import { contains, maskedNetwork, networkOf, parseIp } from './network.ts'
import type { IpAddress, Network } from './network.ts'

const types = ['local', 'host', 'hostssl', 'hostnossl'] as const

/** PostgreSQL's names; `password` is "plain" in auth_type. */
const methods = ['trust', 'reject', 'password', 'md5', 'scram-sha-256', 'cert'] as const
export type HbaMethod = (typeof methods)[number]

type DatabasePattern =
  NamePattern | { readonly kind: 'all' } | { readonly kind: 'sameuser' } | { readonly kind: 'replication' }
type UserPattern = NamePattern | { readonly kind: 'all' }

export interface HbaRule {
  readonly line: number
  readonly type: (typeof types)[number]
  readonly databases: readonly DatabasePattern[]
  readonly users: readonly UserPattern[]
  /** Null for every address. */
  readonly network: Network | null
  readonly method: HbaMethod
  /** User name map for the common name of the certificate. */
  readonly map: string | null
  /** Required of the client's certificate, whatever the method. */
  readonly clientcert: 'verify-ca' | 'verify-full' | null
}

/** A connection before authentication. */
export interface Arrival {
  readonly database: string
  readonly user: string
  /** Null for a Unix socket. */
  readonly address: IpAddress | null
  readonly tls: boolean
  readonly replication: boolean
}

export function firstMatch(rules: readonly HbaRule[], arrival: Arrival): HbaRule | undefined {
  return rules.find(
    (rule) =>
      connectsAs(rule.type, arrival) &&
      rule.databases.some((pattern) => isDatabase(pattern, arrival)) &&
      rule.users.some((pattern) => pattern.kind === 'all' || matches(pattern, arrival.user)) &&
      (rule.network === null || (arrival.address !== null && contains(rule.network, arrival.address))),
  )
}

function connectsAs(type: HbaRule['type'], { address, tls }: Arrival): boolean {
  if (type === 'local') return address === null
  return address !== null && (type === 'host' || tls === (type === 'hostssl'))
}

/** Replication connections match the keyword `replication` only, not `all`. */
function isDatabase(pattern: DatabasePattern, { database, user, replication }: Arrival): boolean {
  if (pattern.kind === 'replication') return replication
  if (replication) return false
  switch (pattern.kind) {
    case 'all':
      return true
    case 'sameuser':
      return database === user
    case 'name':
    case 'regex':
      return matches(pattern, database)
    default:
      return pattern satisfies never
  }
}

export function parseHba(text: string): { readonly rules: readonly HbaRule[]; readonly faults: readonly LineFault[] } {
  const { lines, faults } = readLines(text)
  const found = [...faults]
  const rules: HbaRule[] = []
  for (const line of lines) {
    const rule = readRule(line)
    if (typeof rule === 'string') found.push({ line: line.number, message: rule })
    else rules.push(rule)
  }
  return { rules, faults: found.sort((a, b) => a.line - b.line) }
}

/** Returns a message if the line is invalid. */
function readRule({ number, fields }: TextLine): HbaRule | string {
  const rest = [...fields]
  const type = types.find((known) => known === wordOf(rest[0]))
  if (type === undefined) return `must begin with one of ${types.join(', ')}; got ${shown(rest[0])}`
  rest.shift()
  const databases = readList(rest.shift(), 'a database', readDatabase)
  if (typeof databases === 'string') return databases
  const users = readList(rest.shift(), 'a user', readUser)
  if (typeof users === 'string') return users
  const network = type === 'local' ? null : readAddress(rest)
  if (typeof network === 'string') return network
  const word = wordOf(rest.shift())
  const method = methods.find((known) => known === word)
  if (method === undefined) {
    return `must have a method, one of ${methods.join(', ')}; got ${word === undefined ? 'nothing' : `"${word}"`}`
  }
  const options = readOptions(rest, method)
  if (typeof options === 'string') return options
  const { map, clientcert } = options
  if ((method === 'cert' || clientcert !== null) && type !== 'hostssl') {
    return `${method === 'cert' ? 'cert' : 'clientcert'} requires a hostssl line`
  }
  return { line: number, type, databases, users, network, method, map, clientcert }
}

function readList<Pattern>(
  field: Field | undefined,
  what: string,
  read: (word: Word) => Pattern | string,
): Pattern[] | string {
  if (field === undefined) return `must have ${what}`
  const patterns: Pattern[] = []
  for (const word of field) {
    const pattern = read(word)
    if (typeof pattern === 'string') return pattern
    patterns.push(pattern)
  }
  return patterns
}

function readDatabase(word: Word): DatabasePattern | string {
  if (!word.quoted) {
    if (word.text === 'all' || word.text === 'sameuser' || word.text === 'replication') return { kind: word.text }
    if (word.text === 'samerole' || word.text === 'samegroup') return `${word.text} ${notKnown}`
    if (word.text.startsWith('@')) return noFiles
  }
  return readPattern(word)
}

function readUser(word: Word): UserPattern | string {
  if (!word.quoted) {
    if (word.text === 'all') return { kind: 'all' }
    if (word.text.startsWith('+')) return `role membership (+) ${notKnown}`
    if (word.text.startsWith('@')) return noFiles
  }
  return readPattern(word)
}

const notKnown = 'is not supported, because role membership is known to the servers only; list the names'
const noFiles = 'a file of names (@) is not supported; list the names, separated by commas'

/** Takes the address and its mask from `rest`. */
function readAddress(rest: Field[]): Network | null | string {
  const field = rest.shift()
  const text = wordOf(field)
  if (text === undefined) return `must have an address, such as 10.0.0.0/8, ::1/128 or all; got ${shown(field)}`
  if (text === 'all' && field?.[0]?.quoted !== true) return null
  if (text === 'samehost' || text === 'samenet') return `${text} is not supported; list the networks`
  const [host = '', length, ...more] = text.split('/')
  const address = parseIp(host)
  if (address === undefined)
    return `must have a network such as 10.0.0.0/8 as address; host names are not supported; got "${text}"`
  if (length !== undefined) {
    const network = /^\d{1,3}$/.test(length) && more.length === 0 ? networkOf(address, Number(length)) : undefined
    return (
      network ?? `"${text}" is not a network: the prefix length must be from 0 to ${address.family === 4 ? 32 : 128}`
    )
  }
  const mask = wordOf(rest.shift())
  const bits = mask === undefined ? undefined : parseIp(mask)
  if (bits === undefined) return `"${text}" must be followed by a prefix length, such as ${text}/32, or a mask`
  return maskedNetwork(address, bits) ?? `"${mask}" is not a valid mask for ${text}`
}

function readOptions(fields: readonly Field[], method: HbaMethod): Pick<HbaRule, 'map' | 'clientcert'> | string {
  let map: string | null = null
  let clientcert: HbaRule['clientcert'] = null
  for (const field of fields) {
    const text = wordOf(field)
    const equals = text?.indexOf('=') ?? -1
    if (text === undefined || equals === -1) return `must end with options such as map=NAME; got ${shown(field)}`
    const [name, value] = [text.slice(0, equals), text.slice(equals + 1)]
    if (name === 'map') {
      if (method !== 'cert') return 'map can be used with the method cert only'
      if (value === '') return 'map must have a value'
      map = value
    } else if (name === 'clientcert') {
      if (value !== 'verify-ca' && value !== 'verify-full') return 'clientcert must be verify-ca or verify-full'
      if (method === 'cert' && value !== 'verify-full') return 'clientcert must be verify-full with the method cert'
      clientcert = value
    } else return `unknown option "${name}"; the options are map and clientcert`
  }
  return { map, clientcert }
}

/** The word of a field that is not a list. */
function wordOf(field: Field | undefined): string | undefined {
  return field?.length === 1 ? field[0]?.text : undefined
}

function shown(field: Field | undefined): string {
  return field === undefined ? 'nothing' : `"${field.map(({ text }) => text).join(',')}"`
}
