import { z } from '@hono/zod-openapi'
import { ApiProblem } from '../api-problem.ts'
import type { Gauge } from '../host.ts'
import { readEpoch } from '../store/control-row.ts'
import { listFleets } from '../store/fleets.ts'
import { describeFleet } from './fleets.ts'
import { openRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const live = openRoute({
  method: 'get',
  path: '/livez',
  summary: 'Whether the process responds; performs no I/O',
  responses: { 200: { description: 'The process responds', content: { 'text/plain': { schema: z.string() } } } },
})

const ready = openRoute({
  method: 'get',
  path: '/readyz',
  summary: 'Whether the store can be read',
  responses: {
    200: { description: 'The store can be read', content: { 'text/plain': { schema: z.string() } } },
    ...problems,
  },
})

const metrics = openRoute({
  method: 'get',
  path: '/metrics',
  summary: 'Metrics in the Prometheus text format',
  responses: {
    200: { description: 'The metrics', content: { 'text/plain': { schema: z.string() } } },
    ...problems,
  },
})

export function healthRoutes(app: App, control: Control): void {
  const { host } = control

  app.openapi(live, (c) => c.text('ok\n', 200))

  app.openapi(ready, async (c) => {
    try {
      await readEpoch(host.store)
    } catch (error) {
      host.logError('could not read the store', error)
      throw new ApiProblem('unavailable', 'could not read the store')
    }
    const above = [...host.presence.above()].map(
      ([fleet, count]) => `the store is behind ${count} proxies of fleet ${fleet}: see flotilla epoch raise\n`,
    )
    return c.text(['ok\n', ...above].join(''), 200)
  })

  app.openapi(metrics, async (c) => {
    if (host.metrics === undefined) throw new ApiProblem('not-found', 'this host has no metrics')
    const { body, contentType } = await host.metrics.render(await gauges(control))
    return c.text(body, 200, { 'content-type': contentType })
  })
}

async function gauges(control: Control): Promise<Gauge[]> {
  const versions: Gauge['samples'][number][] = []
  const proxies: Gauge['samples'][number][] = []
  const orders: Gauge['samples'][number][] = []
  for (const row of await listFleets(control.host.store)) {
    const fleet = await describeFleet(control, row)
    versions.push({ labels: { fleet: fleet.name }, value: fleet.version })
    orders.push({ labels: { fleet: fleet.name }, value: fleet.orders })
    for (const [state, value] of Object.entries(fleet.proxies)) {
      proxies.push({ labels: { fleet: fleet.name, state }, value })
    }
  }
  return [
    { name: 'flotilla_control_fleet_version', help: 'current version of each fleet', samples: versions },
    {
      name: 'flotilla_control_epoch',
      help: 'epoch of the store',
      samples: [{ labels: {}, value: await readEpoch(control.host.store) }],
    },
    { name: 'flotilla_control_proxies', help: 'proxies of each fleet by state', samples: proxies },
    { name: 'flotilla_control_orders', help: 'pools of each fleet that are paused or disabled', samples: orders },
  ]
}
