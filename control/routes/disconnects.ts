import { z } from '@hono/zod-openapi'
import { disconnectsSchema, disconnectSummarySchema } from '../../shared/api.ts'
import type { ReceivedDisconnect } from '../../shared/disconnect.ts'
import { noSuchFleet } from '../api-problem.ts'
import { arrivals, countDisconnects, newestArrival, pageDisconnects } from '../store/disconnects.ts'
import type { DisconnectFilter, DisconnectRow } from '../store/disconnects.ts'
import { findFleet } from '../store/fleets.ts'
import { fleetPath, json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const pageDefault = 100
const pageMax = 1000
const summaryMax = 1000

const filters = z.object({
  pool: z.string().optional(),
  host: z.string().optional(),
  cause: z.string().min(1).max(64).optional(),
  proxy: z.string().optional(),
  since: z.iso.datetime({ offset: true }).optional(),
})

const list = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/disconnects',
  summary: 'Lost server connections, newest first',
  description: 'With `follow` of an earlier response: only events that arrived later, oldest first.',
  request: {
    params: fleetPath,
    query: filters.extend({
      cursor: z
        .string()
        .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z~\d{1,15}$/)
        .optional(),
      follow: z
        .string()
        .regex(/^\d{1,15}$/)
        .optional(),
      limit: z.coerce.number().int().min(1).max(pageMax).default(pageDefault),
    }),
  },
  responses: { 200: json(disconnectsSchema, 'A page'), ...problems },
})

const summary = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/disconnects/summary',
  summary: 'Numbers of lost server connections by host, cause and minute, newest minute first',
  request: { params: fleetPath, query: filters },
  responses: { 200: json(disconnectSummarySchema, `At most ${summaryMax} lines`), ...problems },
})

export function disconnectRoutes(app: App, { host }: Control): void {
  app.openapi(list, async (c) => {
    const { fleet } = c.req.valid('param')
    const { cursor, follow, limit, ...given } = c.req.valid('query')
    if ((await findFleet(host.store, fleet)) === undefined) throw noSuchFleet()
    const filter = filterOf(given)
    if (follow !== undefined) {
      const rows = await arrivals(host.store, fleet, filter, Number(follow), limit)
      const disconnects = rows.map(shown)
      return c.json({ disconnects, next: null, follow: String(rows.at(-1)?.n ?? follow) }, 200)
    }
    const until = await newestArrival(host.store, fleet)
    const rows = await pageDisconnects(host.store, fleet, filter, { until, cursor: readCursor(cursor), limit })
    const last = rows.at(-1)
    const next = rows.length === limit && last !== undefined ? `${last.at}~${last.n}` : null
    return c.json({ disconnects: rows.map(shown), next, follow: String(until) }, 200)
  })

  app.openapi(summary, async (c) => {
    const { fleet } = c.req.valid('param')
    if ((await findFleet(host.store, fleet)) === undefined) throw noSuchFleet()
    const counts = await countDisconnects(host.store, fleet, filterOf(c.req.valid('query')), summaryMax)
    return c.json({ summary: counts.map((line) => ({ ...line, minute: `${line.minute}:00Z` })) }, 200)
  })
}

/** Normalizes the spelling of times. */
function filterOf(given: z.infer<typeof filters>): DisconnectFilter {
  return { ...given, since: given.since === undefined ? undefined : new Date(given.since).toISOString() }
}

function readCursor(cursor: string | undefined): { at: string; n: number } | undefined {
  if (cursor === undefined) return undefined
  const [at, n] = cursor.split('~')
  return { at: at!, n: Number(n) }
}

function shown({ n: _n, fleet: _fleet, arrival: _arrival, other, ...event }: DisconnectRow): ReceivedDisconnect {
  // Fields of a later release stand beside the known ones, and replace none.
  return other === null ? event : { ...(JSON.parse(other) as object), ...event }
}
