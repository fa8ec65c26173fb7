import { z } from '@hono/zod-openapi'
import { operationSchema } from '../../shared/api.ts'
import type { OperationResult } from '../../shared/api.ts'
import { poolOperations, operations } from '../../shared/operations.ts'
import { nameSchema, operationRequestSchema } from '../../shared/wire.ts'
import { noSuchFleet } from '../api-problem.ts'
import { fleetProxies } from '../fleet-proxies.ts'
import type { OperationAnswer } from '../host.ts'
import { listHintTargets } from '../store/proxies.ts'
import { json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const poolPath = z.object({ fleet: nameSchema, pool: operationRequestSchema.shape.pool })

/** Repeating a call is harmless, and shows its progress. */
export function operationRoutes(app: App, control: Control): void {
  const { host, hot } = control

  for (const operation of poolOperations) {
    const route = operatorRoute({
      method: 'post',
      path: `/v1/fleets/{fleet}/pools/{pool}/${operation}`,
      summary: `On all proxies, for one pool: ${operations[operation].help}`,
      request: { params: poolPath },
      responses: { 200: json(operationSchema, 'All proxies and their outcomes'), ...problems },
    })
    app.openapi(route, async (c) => {
      const { fleet, pool } = c.req.valid('param')
      const offer = await hot.offer(fleet)
      if (offer === undefined) throw noSuchFleet()
      const targets = new Map((await listHintTargets(host.store, fleet)).map((target) => [keyOf(target), target]))
      const { processes } = await fleetProxies(control, fleet, offer)
      const proxies = await Promise.all(
        processes.map(async ({ row: { id, boot } }) => {
          const target = targets.get(keyOf({ proxy: id, boot }))
          if (target === undefined) return { id, ...unreachable }
          return { id, ...judged(await host.operations.send(target, { fleet, operation, pool })) }
        }),
      )
      return c.json({ pool, operation, proxies }, 200)
    })
  }
}

/** Names contain no spaces. */
function keyOf({ proxy, boot }: { readonly proxy: string; readonly boot: string }): string {
  return `${proxy} ${boot}`
}

type Judged = Omit<OperationResult['proxies'][number], 'id'>

const unreachable: Judged = { outcome: 'unreachable', paused: null, servers: null, message: null }

function judged(answer: OperationAnswer): Judged {
  switch (answer.kind) {
    case 'unreachable':
      return unreachable
    case 'faulty':
      return { outcome: 'faulty', paused: null, servers: null, message: answer.message }
    case 'answered': {
      const { known, paused, servers } = answer.outcome
      if (!known) return { outcome: 'unknown_pool', paused, servers, message: null }
      return { outcome: servers === 0 ? 'done' : 'under_way', paused, servers, message: null }
    }
    default:
      return answer satisfies never
  }
}
