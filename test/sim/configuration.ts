/** Random configurations of a simulated fleet, and what each change must do to running pools. */
import { createHash } from 'node:crypto'

import { isOfServers } from '../../shared/config/effective.ts'
import { poolSettings } from '../../shared/config/settings.ts'
import type { GeneralSettings, PoolSettings } from '../../shared/config/settings.ts'
import type { PoolValues } from '../../shared/config/keys.ts'
import type { ApplyOutcome, ClientSecret, FleetSpec, HostSpec, PoolSpec } from '../../proxy/spec.ts'
import { verifierOf } from './scram.ts'
import type { Profile } from './profile.ts'
import type { Random } from './random.ts'

/** One (pool, user) in a version. */
export interface Wanted {
  readonly pool: string
  readonly user: string
  readonly database: string
  readonly serverUser: string
  readonly hosts: readonly HostSpec[]
  readonly values: Partial<PoolValues>
}

export type Version = ReadonlyMap<string, Wanted>

/** What a new version must do to the running pools, derived from the two versions alone. */
export type Plan = Pick<ApplyOutcome, 'added' | 'rebuilt' | 'retuned' | 'removed' | 'kept'>

export function poolKey(pool: string, user: string): string {
  return `${pool}/${user}`
}

function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex')
}

/** Addresses are not part of the hash, because they come from DNS. */
export function hashOf(wanted: Wanted): string {
  const hosts = wanted.hosts.map(({ host, port, role }) => ({ host, port, role }))
  return digest({ ...wanted, hosts })
}

export function connectHashOf(wanted: Wanted): string {
  const hosts = wanted.hosts.map(({ host, port, role }) => ({ host, port, role }))
  return digest({ ...wanted, hosts, user: null, values: null })
}

export function planOf(running: Version, desired: Version): Plan {
  const plan = { added: 0, rebuilt: 0, retuned: 0, removed: 0, kept: 0 }
  for (const [key, wanted] of desired) {
    const now = running.get(key)
    if (now === undefined) plan.added++
    else if (hashOf(now) === hashOf(wanted)) plan.kept++
    else if (connectHashOf(now) === connectHashOf(wanted)) plan.retuned++
    else plan.rebuilt++
  }
  for (const key of running.keys()) if (!desired.has(key)) plan.removed++
  return plan
}

export function specOf(
  version: Version,
  number: number,
  passwords: ReadonlyMap<string, string>,
  general: GeneralSettings,
): FleetSpec {
  return {
    position: { epoch: 1, version: number },
    general,
    generalValues: {},
    consoleUsers: [],
    pools: [...version.values()].map((wanted): PoolSpec => ({
      database: wanted.pool,
      user: wanted.user,
      hash: hashOf(wanted),
      connectHash: connectHashOf(wanted),
      serverDatabase: wanted.database,
      serverUser: wanted.serverUser,
      settings: settingsOf(wanted.values),
      hosts: wanted.hosts,
      clientSecret: secretOf(wanted.user, passwords.get(wanted.user) ?? ''),
      serverPassword: passwords.get(wanted.serverUser) ?? null,
    })),
  }
}

/** By their values, because most versions repeat most pools. */
const settings = new WeakMap<Partial<PoolValues>, PoolSettings>()

function settingsOf(values: Partial<PoolValues>): PoolSettings {
  let made = settings.get(values)
  if (made === undefined) {
    made = poolSettings(values)
    settings.set(values, made)
  }
  return made
}

function secretOf(user: string, password: string): ClientSecret {
  return {
    md5: `md5${createHash('md5').update(`${password}${user}`).digest('hex')}`,
    scram: verifierOf(password, user),
  }
}

/** The pools that clients connect to. */
export const poolNames = [
  { pool: 'app', user: 'web' },
  { pool: 'app', user: 'jobs' },
  { pool: 'ledger', user: 'web' },
] as const

/** Addresses of the PostgreSQL hosts, by the host name in the configuration. */
export const machines: Readonly<Record<string, readonly string[]>> = {
  db0: ['10.0.0.1', '10.0.0.2'],
  db1: ['10.0.0.3', '10.0.0.4'],
}

/** Users of a database with the same role share its servers, and say the same of them: the first by name decides. */
export function agreed(version: Version): Version {
  const firsts = new Map<string, Wanted>()
  for (const [, wanted] of [...version].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const role = roleKey(wanted)
    if (!firsts.has(role)) firsts.set(role, wanted)
  }
  return new Map(
    [...version].map(([key, wanted]) => {
      const { database, hosts, values } = firsts.get(roleKey(wanted))!
      const ofClients = Object.entries(wanted.values).filter(([name]) => !isOfServers(name))
      const ofServers = Object.entries(values).filter(([name]) => isOfServers(name))
      return [key, { ...wanted, database, hosts, values: Object.fromEntries([...ofServers, ...ofClients]) }]
    }),
  )
}

function roleKey({ pool, serverUser }: Wanted): string {
  return `${pool} as ${serverUser}`
}

/** Makes random versions, each from the previous one. */
export class Configurer {
  readonly #random: Random
  readonly #profile: Profile
  readonly #dns = new Map<string, readonly string[]>()

  constructor(random: Random, profile: Profile) {
    this.#random = random
    this.#profile = profile
    for (const [name, addresses] of Object.entries(machines)) this.#dns.set(name, addresses.slice(0, 1))
  }

  first(): Version {
    return agreed(new Map(poolNames.map((name) => [poolKey(name.pool, name.user), this.#wanted(name)])))
  }

  /** Changes one pool, repeats the version, or returns to any earlier one. */
  next(versions: readonly Version[]): Version {
    const random = this.#random
    const running = versions.at(-1) ?? this.first()
    if (random.chance(0.4)) return this.#resolved(random.pick(versions))
    if (random.chance(0.1)) return this.#resolved(running)
    const next = new Map(running)
    const name = random.pick(poolNames)
    const key = poolKey(name.pool, name.user)
    const now = next.get(key)
    if (now === undefined) next.set(key, this.#wanted(name))
    else if (random.chance(0.15)) next.delete(key)
    else if (random.chance(0.5)) next.set(key, { ...now, values: this.#values() })
    else next.set(key, { ...this.#wanted(name), values: now.values })
    return agreed(this.#resolved(next))
  }

  /** Gives a host name other addresses. */
  move(): { name: string; addresses: readonly string[] } {
    const name = this.#random.pick(Object.keys(machines))
    const all = machines[name] ?? []
    const some = all.filter(() => this.#random.chance(0.6))
    const addresses = some.length === 0 ? all : some
    this.#dns.set(name, addresses)
    return { name, addresses }
  }

  #wanted({ pool, user }: { pool: string; user: string }): Wanted {
    const random = this.#random
    return {
      pool,
      user,
      database: random.pick(['main', 'other']),
      serverUser: random.chance(this.#profile.sharesServers ? 0.3 : 0.7) ? user : 'app_rw',
      hosts: this.#hosts(random.pick(Object.keys(machines)), random.chance(0.2)),
      values: this.#values(),
    }
  }

  #hosts(name: string, replica: boolean): HostSpec[] {
    const hosts: HostSpec[] = [{ host: name, port: 5432, role: 'primary', addresses: this.#dns.get(name) ?? [] }]
    const other = Object.keys(machines).find((candidate) => candidate !== name)
    if (replica && other !== undefined) {
      hosts.push({ host: other, port: 5432, role: 'replica', addresses: this.#dns.get(other) ?? [] })
    }
    return hosts
  }

  /** Values whose change keeps the servers. */
  #values(): Partial<PoolValues> {
    const random = this.#random
    const { mode, slow, preparedMax, sharesServers, strict } = this.#profile
    const size = random.integer(1, 4)
    return {
      pool_mode: mode === 'mixed' ? random.pick(['transaction', 'session'] as const) : mode,
      pool_size: size,
      ...(strict ? { isolation: 'strict' as const } : {}),
      max_prepared_statements: preparedMax === 0 ? 0 : random.pick([preparedMax, 3, 200]),
      min_pool_size: random.chance(0.7) ? 0 : random.integer(0, size + 1),
      auth_type: random.weighted({ trust: 4, md5: 1, 'scram-sha-256': 2 }),
      connect_timeout: slow ? '5s' : random.pick(['5s', '500ms']),
      ...(random.chance(0.2) ? { reserve_pool_size: random.integer(1, 2), reserve_pool_timeout: '300ms' } : {}),
      ...(mode === 'transaction' && random.chance(0.2)
        ? {
            max_db_connections: random.integer(1, 3),
            // Clients of different pools take turns, and each turn costs a login, which may be slow.
            query_wait_timeout: random.pick(['2m', '0s']),
          }
        : // Clients who share few servers wait for the slow transactions and logins of others.
          { query_wait_timeout: random.pick(slow && sharesServers ? ['2m', '2m', '0s'] : ['2m', '5s', '0s']) }),
      idle_timeout: random.pick(['10m', '2s', '0s']),
      server_lifetime: random.pick(['1h', '3s', '0s']),
      tcp_keepalives_idle: random.pick(['5s', '1s']),
      tcp_keepalives_interval: random.pick(['5s', '1s']),
      tcp_keepalives_count: random.pick([5, 2]),
      tcp_user_timeout: random.pick(['30s', '3s']),
    }
  }

  /** With the current addresses of the host names. */
  #resolved(version: Version): Version {
    const resolve = (host: HostSpec): HostSpec => ({ ...host, addresses: this.#dns.get(host.host) ?? host.addresses })
    return new Map([...version].map(([key, wanted]) => [key, { ...wanted, hosts: wanted.hosts.map(resolve) }]))
  }
}
