import type { Effects, Plan } from '../../shared/api.ts'
import { effectivePools } from '../../shared/config/effective.ts'
import { generalKeys } from '../../shared/config/keys.ts'
import type { KeyClass } from '../../shared/config/keys.ts'
import type { FleetDocument } from '../../shared/config/sections.ts'

/** Number of proxies that are named. */
const proxiesMax = 100

/** What operators may not expect of a version: `plan` is that of the change to `document`. */
export function effectsOf(document: FleetDocument, plan: Plan, proxies: readonly string[]): Effects {
  return {
    unused_replicas: unusedReplicas(document),
    needs_restart: plan.general.filter(isProcessKey).map((key) => ({ key, proxies: proxies.slice(0, proxiesMax) })),
    reconnects: reconnects(document, plan, proxies.length),
  }
}

/** With a primary, servers are opened to the primary alone. */
function unusedReplicas({ pools }: FleetDocument): Effects['unused_replicas'] {
  return Object.entries(pools).flatMap(([pool, { servers }]) => {
    if (!servers.some(({ role }) => role === 'primary')) return []
    return servers.filter(({ role }) => role === 'replica').map(({ host, port }) => ({ pool, host, port }))
  })
}

function isProcessKey(key: string): boolean {
  const classes: Readonly<Record<string, { readonly class: KeyClass } | undefined>> = generalKeys
  return classes[key]?.class === 'process'
}

/** Users whose servers log in as one role share them, so that they reconnect once. */
function reconnects(document: FleetDocument, { rebuilt }: Plan, proxies: number): Effects['reconnects'] {
  const names = new Set(rebuilt.map(({ pool, user }) => JSON.stringify([pool, user])))
  const sets = new Map<string, Effects['reconnects'][number]>()
  for (const { pool, user, server_user, server_auth, pool_size } of effectivePools(document)) {
    if (!names.has(JSON.stringify([pool, user]))) continue
    const role = server_auth === 'passthrough' ? user : server_user
    const key = JSON.stringify([pool, role])
    if (!sets.has(key)) sets.set(key, { pool, server_user: role, servers_max: pool_size * proxies })
  }
  return [...sets.values()]
}
