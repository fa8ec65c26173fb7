/** What a version has to show before it is applied: one attempt for each set of servers that it adds or replaces. */
import { createHash } from 'node:crypto'
import { changeOf } from '../../../shared/change.ts'
import { wildcard } from '../../../shared/config/wildcard.ts'
import type { FleetSpec, PoolSpec } from '../../spec.ts'
import { authKeyOf, looksUp } from '../auth/auth-query.ts'
import type { Pool } from '../pool/pool.ts'
import type { Pools } from '../pool/pools.ts'
import type { ServerSource } from '../pool/server-source.ts'
import { sharedKey, specFor, supplies, templatesOf } from '../pool/supply.ts'
import type { Supplied } from '../pool/supply.ts'
import { targetsOf } from '../pool/target.ts'

type SourceName = Pick<ServerSource, 'database' | 'serverUser' | 'key'>

/** What is tried with one configuration. */
export type Subject =
  | { readonly kind: 'login'; readonly spec: PoolSpec; readonly source: SourceName }
  /** A connection, with TLS: no more is known before a client comes. */
  | { readonly kind: 'reach'; readonly spec: PoolSpec }
  | { readonly kind: 'auth_query'; readonly spec: PoolSpec }

export interface Item {
  /** Of which the first is named to operators. */
  readonly pools: readonly { readonly database: string; readonly user: string }[]
  readonly subject: Subject
  /** What serves these pools now. */
  readonly running: readonly Subject[]
  /** Clients of the pools, here. */
  readonly clients: number
  /** Its first server will be used at once, or kept for a minimum. */
  readonly needsServer: boolean
}

/** The number of this worker, and what it runs. */
export interface Here {
  readonly pools: Pools
  readonly self: number
}

/** Those with the most clients first. */
export function planOf(here: Here, spec: FleetSpec): Item[] {
  const items = [...serverItems(here, spec), ...templateItems(here, spec), ...authItems(here, spec)]
  return items.sort((a, b) => b.clients - a.clients)
}

/** Attempts with the same identity show the same. */
export function identityOf(subject: Subject): string {
  const { kind, spec } = subject
  if (kind === 'auth_query') return JSON.stringify([kind, authKeyOf(spec)])
  const { settings, serverTls = null } = spec
  const where = targetsOf(spec).map(({ address, host }) => [address, host.host, host.port])
  const how = [settings.serverTlsSslmode, settings.serverTlsNegotiation, serverTls, settings.connectTimeoutMs]
  if (kind === 'reach') return JSON.stringify([kind, where, how])
  const { serverDatabase, serverUser, serverPassword } = spec
  const keys = settings.serverAuth === 'passthrough' ? [subject.source.database, subject.source.key] : null
  const credentials = [serverDatabase, serverUser, digestOf(serverPassword), keys]
  return JSON.stringify([kind, where, how, credentials, settings.serverMaxProtocolVersion])
}

function digestOf(password: string | null): string | null {
  return password === null ? null : createHash('sha256').update(password).digest('base64')
}

/** Sets of servers that the version adds or replaces, or that get pools from elsewhere. */
function serverItems(here: Here, version: FleetSpec): Item[] {
  return supplies(suppliedBy(here, version)).flatMap((supply): Item[] => {
    const [first] = supply.pools
    if (!isTriedHere(here, first.isMade, first.spec)) return []
    const source = here.pools.findSource(supply)
    const change = changeOf(source?.current?.spec, first.spec)
    const pools = supply.pools.map((pool) => here.pools.find(pool.database, pool.user))
    const moves = pools.some((pool) => pool !== null && pool.source !== null && pool.source !== source)
    if (change !== 'add' && change !== 'rebuild' && !moves) return []
    return [itemOf(here, supply.pools, loginSubject(here, supply, first.spec))]
  })
}

/** The pools that a version has, with those that were made for clients of "*" and stay. */
function* suppliedBy({ pools }: Here, version: FleetSpec): Generator<Supplied> {
  const configured = Map.groupBy(version.pools, ({ database }) => database)
  const find = (database: string, user: string): PoolSpec | undefined =>
    configured.get(database)?.find((spec) => spec.user === user)
  for (const spec of version.pools) {
    const { database, user } = spec
    if (!isWildcard(spec)) yield { database, user, spec, isMade: false }
  }
  for (const { database, user, template, spec } of pools.all()) {
    if (template === null || spec === null || find(database, user) !== undefined) continue
    const [templateSpec] = templatesOf({ database, user }, configured.has(database)).flatMap(
      (name) => find(name.database, name.user) ?? [],
    )
    if (templateSpec === undefined) continue
    yield { database, user, spec: specFor(templateSpec, { database, user }), isMade: true }
  }
}

/** Sections with "*", which have no servers themselves: as much as is known of those that their clients will get. */
function templateItems(here: Here, version: FleetSpec): Item[] {
  return version.pools.flatMap((spec): Item[] => {
    if (!isWildcard(spec) || !isTriedHere(here, false, spec)) return []
    const change = changeOf(here.pools.find(spec.database, spec.user)?.spec ?? undefined, spec)
    if (change !== 'add' && change !== 'rebuild') return []
    return [itemOf(here, [spec], templateSubject(here, spec))]
  })
}

/** Where auth_query will run in another way than now. */
function authItems(here: Here, version: FleetSpec): Item[] {
  if (here.self !== 0) return []
  const running = new Set<string>()
  for (const { spec, template } of here.pools.all()) {
    if (spec !== null && template === null && looksUp(spec)) running.add(authKeyOf(spec))
  }
  const asking = Map.groupBy(version.pools.filter(looksUp), authKeyOf)
  return [...asking]
    .filter(([key]) => !running.has(key))
    .flatMap(([, specs]): Item[] => {
      const [spec] = specs
      if (spec === undefined) return []
      return [itemOf(here, specs, { kind: 'auth_query', spec })]
    })
}

function itemOf(here: Here, names: Item['pools'], subject: Subject): Item {
  const pools = names.flatMap(({ database, user }) => here.pools.find(database, user) ?? [])
  const running = new Map<string, Subject>()
  for (const pool of pools) {
    const subject = runningSubject(here, pool)
    if (subject !== null) running.set(identityOf(subject), subject)
  }
  const clients = pools.reduce((sum, pool) => sum + pool.clientCount, 0)
  return {
    pools: names.map(({ database, user }) => ({ database, user })),
    subject,
    running: [...running.values()],
    clients,
    needsServer: clients > 0 || subject.spec.settings.minPoolSize > 0,
  }
}

/** Null for a pool that does not run. */
function runningSubject(here: Here, { spec, source }: Pool): Subject | null {
  if (spec === null) return null
  const current = source?.current?.spec
  if (source !== null && current !== undefined) return loginSubject(here, source, current)
  return templateSubject(here, spec)
}

function loginSubject({ pools }: Here, { database, serverUser, key }: SourceName, spec: PoolSpec): Subject {
  const keys = pools.findSource({ database, key })?.serverKeys ?? null
  const lacksKeys = spec.settings.serverAuth === 'passthrough' && spec.serverPassword === null && keys === null
  return lacksKeys ? { kind: 'reach', spec } : { kind: 'login', spec, source: { database, serverUser, key } }
}

function templateSubject(here: Here, spec: PoolSpec): Subject {
  const { database, serverDatabase, serverUser } = spec
  if (serverDatabase === wildcard || serverUser === wildcard) return { kind: 'reach', spec }
  return loginSubject(here, { database, serverUser, key: sharedKey(serverUser) }, spec)
}

function isWildcard({ database, user }: { readonly database: string; readonly user: string }): boolean {
  return database === wildcard || user === wildcard
}

/** One worker tries what several have. */
function isTriedHere({ self }: Here, isMade: boolean, { worker = 0 }: PoolSpec): boolean {
  return isMade || worker === self
}
