import { fleetSchema, fleetsSchema } from '../../shared/api.ts'
import type { Fleet, ProxyState } from '../../shared/api.ts'
import { generalSettings } from '../../shared/config/settings.ts'
import { noSuchFleet } from '../api-problem.ts'
import { judge } from '../domain/proxy-view.ts'
import { standing } from '../domain/orders.ts'
import { fleetProxies } from '../fleet-proxies.ts'
import { readEpoch } from '../store/control-row.ts'
import { createFleet, findFleet, listFleets } from '../store/fleets.ts'
import type { FleetRow } from '../store/fleets.ts'
import { listOrders } from '../store/orders.ts'
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

export function fleetRoutes(app: App, control: Control): void {
  const { host } = control

  app.openapi(list, async (c) => {
    const fleets: Fleet[] = []
    for (const row of await listFleets(host.store)) fleets.push(await describeFleet(control, row))
    return c.json({ fleets }, 200)
  })

  app.openapi(create, async (c) => {
    const name = c.req.valid('param').fleet
    const created = await createFleet(host.store, {
      name,
      created_at: new Date(host.nowMs()).toISOString(),
      poll_interval_ms: generalSettings({}).pollIntervalMs,
    })
    return c.json(await fleetNamed(control, name), created ? 201 : 200)
  })

  app.openapi(show, async (c) => c.json(await fleetNamed(control, c.req.valid('param').fleet), 200))
}

/** Also where there is none: the command line of release 0.1.0 needs these, and knows no others. */
const alwaysCounted = ['in_sync', 'applying', 'failed', 'behind', 'offline'] as const satisfies ProxyState[]

async function fleetNamed(control: Control, name: string): Promise<Fleet> {
  const row = await findFleet(control.host.store, name)
  if (row === undefined) throw noSuchFleet()
  return await describeFleet(control, row)
}

export async function describeFleet(control: Control, row: FleetRow): Promise<Fleet> {
  const { name, created_at, version, content_hash, manifest_hash, poll_interval_ms, order_number } = row
  const epoch = await readEpoch(control.host.store)
  const offer = { epoch, version, manifest_hash, poll_interval_ms, order_number }
  const { processes, desired, contacts } = await fleetProxies(control, name, offer)
  const counts: Fleet['proxies'] = Object.fromEntries(alwaysCounted.map((state) => [state, 0]))
  for (const process of processes) {
    const { state } = judge(process, desired(process), contacts)
    counts[state] = (counts[state] ?? 0) + 1
  }
  const orders = standing(await listOrders(control.host.store, name), control.host.nowMs()).length
  return { name, created_at, epoch, version, content_hash, proxies: counts, orders }
}
