import { z } from '@hono/zod-openapi'
import {
  operationLogSchema,
  operationRequestBodySchema,
  operationSchema,
  standingOperationsSchema,
} from '../../shared/api.ts'
import type { OperationLog, OperationResult, StandingOperation } from '../../shared/api.ts'
import { poolOperations, operations } from '../../shared/operations.ts'
import { nameSchema, operationRequestSchema } from '../../shared/wire.ts'
import type { OperationRequest } from '../../shared/wire.ts'
import { noSuchFleet } from '../api-problem.ts'
import { standing } from '../domain/orders.ts'
import { fleetProxies } from '../fleet-proxies.ts'
import type { OperationAnswer } from '../host.ts'
import { order } from '../orders.ts'
import type { Ordered } from '../orders.ts'
import { findFleet } from '../store/fleets.ts'
import { listOperationLog, listOrders } from '../store/orders.ts'
import type { OperationLogRow, OrderRow } from '../store/orders.ts'
import { listHintTargets, listRevoked } from '../store/proxies.ts'
import { configTopic } from '../topics.ts'
import { fleetPath, json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

type LoggedOperation = OperationLog['operations'][number]

const poolPath = z.object({ fleet: nameSchema, pool: operationRequestSchema.shape.pool })

const list = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/operations',
  summary: 'What operators have ordered for pools of the fleet and not ended',
  request: { params: fleetPath },
  responses: { 200: json(standingOperationsSchema, 'What stands, by pool'), ...problems },
})

const pageDefault = 100
const pageMax = 1000

const log = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/operations/log',
  summary: 'Operations on pools of the fleet, newest first',
  request: {
    params: fleetPath,
    query: z.object({
      cursor: z.coerce.number().int().min(1).optional(),
      limit: z.coerce.number().int().min(1).max(pageMax).default(pageDefault),
    }),
  },
  responses: { 200: json(operationLogSchema, 'A page'), ...problems },
})

export function operationRoutes(app: App, control: Control): void {
  const { host, hot } = control

  app.openapi(list, async (c) => {
    const { fleet } = c.req.valid('param')
    const offer = await hot.offer(fleet)
    if (offer === undefined) throw noSuchFleet()
    const rows = standing(await listOrders(host.store, fleet), host.nowMs())
    return c.json({ number: offer.order_number, operations: rows.map(shown) }, 200)
  })

  app.openapi(log, async (c) => {
    const { fleet } = c.req.valid('param')
    const { cursor, limit } = c.req.valid('query')
    if ((await findFleet(host.store, fleet)) === undefined) throw noSuchFleet()
    const rows = await listOperationLog(host.store, fleet, { before: cursor, limit })
    const last = rows.length === limit ? rows.at(-1) : undefined
    return c.json({ operations: rows.map(logged), next: last === undefined ? null : String(last.n) }, 200)
  })

  for (const operation of poolOperations) operationRoute(app, control, operation)
}

function shown({
  pool,
  operation,
  number,
  version,
  actor,
  reason,
  created_at,
  expires_at,
}: OrderRow): StandingOperation {
  return { pool, operation, number, version, actor, reason, created_at, expires_at }
}

function logged({ pool, operation, actor, reason, at, expires_at }: OperationLogRow): LoggedOperation {
  return { pool, operation, actor, reason, at, expires_at }
}

/** Repeating a call is harmless, and shows its progress. */
function operationRoute(app: App, control: Control, operation: OperationRequest['operation']): void {
  const { host, hot } = control
  const route = operatorRoute({
    method: 'post',
    path: `/v1/fleets/{fleet}/pools/{pool}/${operation}`,
    summary: `On all proxies, for one pool: ${operations[operation].help}`,
    ...(operations[operation].order === null ? {} : { description: ordered }),
    request: { params: poolPath, body: { required: false, ...json(operationRequestBodySchema, 'Why, and how long') } },
    responses: { 200: json(operationSchema, 'All proxies and their outcomes'), ...problems },
  })
  app.openapi(route, async (c) => {
    const { fleet, pool } = c.req.valid('param')
    const given = await order(host, hot, {
      fleet,
      pool,
      operation,
      actor: c.get('caller').kind,
      ...c.req.valid('json'),
    })
    // Proxies that control cannot reach poll now.
    if (given.order !== null) host.parking?.wake(configTopic(fleet))
    const proxies = await outcomes(control, { fleet, operation, pool }, given)
    const { number = null, expires_at = null } = given.order ?? {}
    return c.json({ pool, operation, number, expires_at, proxies }, 200)
  })
}

const ordered = 'Control stores it, and proxies that restart, join or cannot be reached now follow it too.'

async function outcomes(
  control: Control,
  request: OperationRequest,
  { epoch, order: row }: Ordered,
): Promise<OperationResult['proxies']> {
  const { host } = control
  const { fleet } = request
  const offer = await control.hot.offer(fleet)
  if (offer === undefined) throw noSuchFleet()
  const targets = new Map((await listHintTargets(host.store, fleet)).map((target) => [keyOf(target), target]))
  const revoked = new Set((await listRevoked(host.store, fleet)).map(keyOf))
  const sent =
    row === null
      ? request
      : {
          ...request,
          order: { epoch, number: row.number, version: row.version, expires_at: row.expires_at, reason: row.reason },
        }
  const unreachable = row === null ? null : 'follows at its next poll'
  const { processes } = await fleetProxies(control, fleet, offer)
  return await Promise.all(
    processes.map(async ({ row: { id, boot } }) => {
      const key = keyOf({ proxy: id, boot })
      const target = targets.get(key)
      if (revoked.has(key)) return { id, ...notReached('its token was revoked') }
      if (target === undefined) return { id, ...notReached(unreachable) }
      return { id, ...judged(await host.operations.send(target, sent), unreachable, row?.version ?? 0) }
    }),
  )
}

/** Names contain no spaces. */
function keyOf({ proxy, boot }: { readonly proxy: string; readonly boot: string }): string {
  return `${proxy} ${boot}`
}

const overtaken = 'a newer order holds there; if control was restored from a backup, raise its epoch'

type Judged = Omit<OperationResult['proxies'][number], 'id'>

function notReached(message: string | null): Judged {
  return { outcome: 'unreachable', paused: null, servers: null, message }
}

function judged(answer: OperationAnswer, unreachable: string | null, version: number): Judged {
  switch (answer.kind) {
    case 'unreachable':
      return notReached(unreachable)
    case 'faulty':
      return { outcome: 'faulty', paused: null, servers: null, message: answer.message }
    case 'answered': {
      const { known, paused, servers, order: taken } = answer.outcome
      if (!known) return { outcome: 'unknown_pool', paused, servers, message: null }
      if (taken === 'waits') {
        return { outcome: 'under_way', paused, servers, message: `waits until it runs v${version}` }
      }
      if (taken === 'overtaken') return { outcome: 'under_way', paused, servers, message: overtaken }
      return { outcome: servers === 0 ? 'done' : 'under_way', paused, servers, message: null }
    }
    default:
      return answer satisfies never
  }
}
