/** The configuration of a simulated fleet and its random changes, with what each change must do to a running pool. */
import { createHash } from 'node:crypto'

import { generalSettings, poolSettings } from '../../shared/config/settings.ts'
import type { PoolValues } from '../../shared/config/keys.ts'
import type { ApplyOutcome, ClientSecret, FleetSpec, HostSpec, PoolSpec } from '../../proxy/engine/messages.ts'
import type { Random } from './random.ts'

/** One (pool, user), as a version wants it. */
export interface Wanted {
  readonly pool: string
  readonly user: string
  readonly database: string
  readonly serverUser: string
  readonly hosts: readonly HostSpec[]
  readonly values: Partial<PoolValues>
}

export type Version = ReadonlyMap<string, Wanted>

/** What a new version does to the pools that run: read from the two versions alone. */
export type Plan = Pick<ApplyOutcome, 'added' | 'rebuilt' | 'retuned' | 'removed' | 'kept'>

export function poolKey(pool: string, user: string): string {
  return `${pool}/${user}`
}

function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex')
}

/** A pool's own server addresses are not part of its hash: they come from DNS. */
export function hashOf(wanted: Wanted): string {
  const hosts = wanted.hosts.map(({ host, port, role }) => ({ host, port, role }))
  return digest({ ...wanted, hosts })
}

export function connectHashOf(wanted: Wanted): string {
  const hosts = wanted.hosts.map(({ host, port, role }) => ({ host, port, role }))
  return digest({ ...wanted, hosts, values: null })
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

export function specOf(version: Version, number: number, passwords: ReadonlyMap<string, string>): FleetSpec {
  return {
    position: { epoch: 1, version: number },
    general: generalSettings({}),
    generalValues: {},
    consoleUsers: [],
    pools: [...version.values()].map((wanted): PoolSpec => ({
      pool: wanted.pool,
      user: wanted.user,
      hash: hashOf(wanted),
      connectHash: connectHashOf(wanted),
      database: wanted.database,
      serverUser: wanted.serverUser,
      settings: poolSettings(wanted.values),
      hosts: wanted.hosts,
      clientSecret: secretOf(wanted.user, passwords.get(wanted.user) ?? ''),
      serverPassword: passwords.get(wanted.serverUser) ?? null,
    })),
  }
}

function secretOf(user: string, password: string): ClientSecret {
  return { md5: `md5${createHash('md5').update(`${password}${user}`).digest('hex')}`, scram: null }
}

/** Values that keep the servers when they change. */
export function randomValues(random: Random, session: boolean): Partial<PoolValues> {
  const size = random.integer(1, 4)
  return {
    pool_mode: session ? 'session' : 'transaction',
    pool_size: size,
    min_pool_size: random.chance(0.7) ? 0 : random.integer(0, size + 1),
    auth_type: random.chance(0.7) ? 'trust' : 'md5',
    connect_timeout: random.pick(['5s', '500ms']),
    query_wait_timeout: random.pick(['2m', '5s', '0s']),
    idle_timeout: random.pick(['10m', '2s', '0s']),
    server_lifetime: random.pick(['1h', '3s', '0s']),
    tcp_keepalives_idle: random.pick(['5s', '1s']),
    tcp_keepalives_interval: random.pick(['5s', '1s']),
    tcp_keepalives_count: random.pick([5, 2]),
    tcp_user_timeout: random.pick(['30s', '3s']),
  }
}
