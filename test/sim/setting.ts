/** What every simulated world has in common: who is there, and how long things take. */
import type { Checker } from './checker.ts'
import { machines } from './configuration.ts'
import type { Network } from './network.ts'
import { Postgres } from './postgres.ts'
import type { PostgresRules } from './postgres.ts'
import type { Random } from './random.ts'

export const proxy = { host: '10.1.0.1', port: 6432 }

export const passwords: ReadonlyMap<string, string> = new Map([
  ['web', 'web-password'],
  ['jobs', 'jobs-password'],
  ['app_rw', 'rw-password'],
])

/**
 * Time after which every broken connection has been noticed: keepalive probes, and a user time-out that begins when
 * something is sent to it just before they end.
 */
export const noticeMs = 75_000

/** Time in which everybody who waits must be served in a healthy world: retries, logins, and slow statements. */
export const patienceMs = 90_000

/** Time after which nothing is on its way any more, cancel requests included. */
export const settleMs = 12_000

export function startServers(
  network: Network,
  random: Random,
  checker: Checker,
  auth: PostgresRules['auth'],
): readonly Postgres[] {
  const hosts = Object.values(machines).flat()
  return hosts.map((host) => {
    const rules = { auth, passwords, workMsMax: random.pick([0.1, 3, 30]), bufferBytesMax: 8192 }
    return new Postgres(network, random, checker, { host, port: 5432 }, rules)
  })
}
