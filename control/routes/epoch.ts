import { epochRaisedSchema, epochRequestSchema, epochSchema } from '../../shared/api.ts'
import { ApiProblem } from '../api-problem.ts'
import { hintAll } from '../configure.ts'
import { epochJumpMax } from '../domain/epoch.ts'
import { readNeededEpoch } from '../fleet-proxies.ts'
import { raiseEpoch, readEpoch } from '../store/control-row.ts'
import { listFleets } from '../store/fleets.ts'
import { GuardFailed } from '../store/port.ts'
import { configTopic } from '../topics.ts'
import { json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const show = operatorRoute({
  method: 'get',
  path: '/v1/epoch',
  summary: 'The epoch of the store, and the one it needs if proxies are above it after a restore from a backup',
  responses: { 200: json(epochSchema, 'The epoch'), ...problems },
})

const raise = operatorRoute({
  method: 'post',
  path: '/v1/epoch',
  summary: 'Raise the epoch: all proxies take the current versions of this store, whatever they have run',
  request: { body: { required: true, ...json(epochRequestSchema, 'The new epoch') } },
  responses: { 200: json(epochRaisedSchema, 'The new epoch'), ...problems },
})

export function epochRoutes(app: App, control: Control): void {
  const { host } = control

  app.openapi(show, async (c) => {
    const epoch = await readEpoch(host.store)
    const { needed, above, ignored } = await readNeededEpoch(host.store, epoch, host.presence)
    return c.json({ epoch, needed, above: [...above], ignored: [...ignored] }, 200)
  })

  app.openapi(raise, async (c) => {
    const { to } = c.req.valid('json')
    const epoch = await readEpoch(host.store)
    if (to <= epoch || to > epoch + epochJumpMax) {
      const detail = `the epoch is ${epoch}: it can be raised to at most ${epoch + epochJumpMax}; nothing was stored`
      throw new ApiProblem('invalid', detail, { errors: [{ path: 'to', message: `must be above ${epoch}` }] })
    }
    try {
      await raiseEpoch(host.store, { from: epoch, to })
    } catch (error) {
      if (!(error instanceof GuardFailed)) throw error
      throw new ApiProblem('invalid', 'another operator has raised the epoch meanwhile; nothing was stored')
    }
    for (const { name, version } of await listFleets(host.store)) {
      host.parking?.wake(configTopic(name))
      await hintAll(host, name, version, 'version')
    }
    return c.json({ epoch: to, before: epoch }, 200)
  })
}
