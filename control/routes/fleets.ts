import { fleetSchema, fleetsSchema, proxyStates } from '../../shared/api.ts'
import type { Fleet, ProxyState } from '../../shared/api.ts'
import { generalSettings } from '../../shared/config/settings.ts'
import { noSuchFleet } from '../api-problem.ts'
import { describeProxy } from '../domain/proxy-view.ts'
import { standing } from '../domain/orders.ts'
import type { ControlHost } from '../host.ts'
import { readEpoch } from '../store/control-row.ts'
import { createFleet, findFleet, listFleets } from '../store/fleets.ts'
import type { FleetRow } from '../store/fleets.ts'
import { listOrders } from '../store/orders.ts'
import { listProxies } from '../store/proxies.ts'
import { fleetPath, json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const list = operatorRoute({
  method: 'get',
  path: '/v1/fleets',
  summary: 'List fleets',
  responses: { 200: json(fleetsSchema, 'All fleets by name'), ...problems },
})

const create = operatorRoute({
  method: 'put',
  path: '/v1/fleets/{fleet}',
  summary: 'Create a fleet, unless it exists',
  request: { params: fleetPath },
  responses: {
    200: json(fleetSchema, 'It exists and is unchanged'),
    201: json(fleetSchema, 'Made'),
    ...problems,
  },
})

const show = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}',
  summary: 'Show a fleet: its current version and the number of proxies by state',
  request: { params: fleetPath },
  responses: { 200: json(fleetSchema, 'The fleet'), ...problems },
})

export function fleetRoutes(app: App, { host }: Control): void {
  app.openapi(list, async (c) => {
    const fleets: Fleet[] = []
    for (const row of await listFleets(host.store)) fleets.push(await describeFleet(host, row))
    return c.json({ fleets }, 200)
  })

  app.openapi(create, async (c) => {
    const name = c.req.valid('param').fleet
    const created = await createFleet(host.store, {
      name,
      created_at: new Date(host.nowMs()).toISOString(),
      poll_interval_ms: generalSettings({}).pollIntervalMs,
    })
    return c.json(await fleetNamed(host, name), created ? 201 : 200)
  })

  app.openapi(show, async (c) => c.json(await fleetNamed(host, c.req.valid('param').fleet), 200))
}

async function fleetNamed(host: ControlHost, name: string): Promise<Fleet> {
  const row = await findFleet(host.store, name)
  if (row === undefined) throw noSuchFleet()
  return await describeFleet(host, row)
}

export async function describeFleet(host: ControlHost, row: FleetRow): Promise<Fleet> {
  const epoch = await readEpoch(host.store)
  // All states are listed, also those with a count of zero.
  const counts = Object.fromEntries(proxyStates.map((state) => [state, 0])) as Record<ProxyState, number>
  for (const proxy of await listProxies(host.store, row.name)) {
    const presenceMs = host.presence.lastSeenMs(row.name, proxy.id)
    const clock = { nowMs: host.nowMs(), pollIntervalMs: row.poll_interval_ms, presenceMs }
    counts[describeProxy(proxy, { epoch, version: row.version }, clock).state] += 1
  }
  const { name, created_at, version, content_hash } = row
  const orders = standing(await listOrders(host.store, name), host.nowMs()).length
  return { name, created_at, epoch, version, content_hash, proxies: counts, orders }
}
