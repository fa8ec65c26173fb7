/** What all simulated worlds have in common: hosts, users and deadlines. */
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
 * Time until every broken connection is noticed: keepalive probes, and then TCP_USER_TIMEOUT when something is sent
 * just before they give up.
 */
export const noticeMs = 75_000

/** Longest time until every waiting client is served in a healthy world: retries, logins and slow statements. */
export const servedWithinMs = 90_000

/** Time until nothing is in flight, cancel requests included. */
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
