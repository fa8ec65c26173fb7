import { z } from '@hono/zod-openapi'
import { diffSchema, versionDocumentSchema, versionsSchema } from '../../shared/api.ts'
import { ApiProblem, noSuchFleet } from '../api-problem.ts'
import { diffTrees } from '../../shared/config/diff.ts'
import { planOf } from '../domain/plan.ts'
import type { ControlHost } from '../host.ts'
import { plannedRow } from '../manifests.ts'
import { findFleet } from '../store/fleets.ts'
import { findVersion, listVersions } from '../store/versions.ts'
import type { VersionRow } from '../store/versions.ts'
import { fleetPath, json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const number = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const versionPath = fleetPath.extend({ version: number.min(1) })

const pageDefault = 50
const pageMax = 500

const list = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/versions',
  summary: 'The versions of a fleet, newest first',
  request: {
    params: fleetPath,
    query: z.object({
      cursor: number.optional(),
      limit: z.coerce.number().int().min(1).max(pageMax).default(pageDefault),
    }),
  },
  responses: { 200: json(versionsSchema, 'A page'), ...problems },
})

const show = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/versions/{version}',
  summary: 'A version with its document',
  request: { params: versionPath },
  responses: { 200: json(versionDocumentSchema, 'The version'), ...problems },
})

const diff = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/versions/{version}/diff',
  summary: 'The changes from version `against` (default: the one before; 0: empty) to this one',
  request: { params: versionPath, query: z.object({ against: number.optional() }) },
  responses: { 200: json(diffSchema, 'Changes in the document, and their effects on pools'), ...problems },
})

export function versionRoutes(app: App, { host }: Control): void {
  app.openapi(list, async (c) => {
    const { fleet } = c.req.valid('param')
    const { cursor, limit } = c.req.valid('query')
    if ((await findFleet(host.store, fleet)) === undefined) throw noSuchFleet()
    const versions = await listVersions(host.store, fleet, { before: cursor, limit })
    const last = versions.at(-1)
    const more = versions.length === limit && last !== undefined && last.version > 1
    return c.json({ versions, next: more ? String(last.version) : null }, 200)
  })

  app.openapi(show, async (c) => {
    const { fleet, version } = c.req.valid('param')
    const { document, created_at, message, rollback_of, forced, content_hash, pools } = await existing(
      host,
      fleet,
      version,
    )
    const tree = JSON.parse(document) as Record<string, unknown>
    return c.json(
      { version, created_at, message, rollback_of, forced: forced === true, content_hash, pools, document: tree },
      200,
    )
  })

  app.openapi(diff, async (c) => {
    const { fleet, version } = c.req.valid('param')
    const from = c.req.valid('query').against ?? version - 1
    const now = await existing(host, fleet, version)
    const before = from === 0 ? undefined : await existing(host, fleet, from)
    const changes = diffTrees(before === undefined ? {} : JSON.parse(before.document), JSON.parse(now.document))
    const plan = planOf(before && (await plannedRow(host.store, before)), await plannedRow(host.store, now))
    return c.json({ from, to: version, changes, plan }, 200)
  })
}

async function existing(host: ControlHost, fleet: string, version: number): Promise<VersionRow> {
  const row = await findVersion(host.store, fleet, version)
  if (row !== undefined) return row
  if ((await findFleet(host.store, fleet)) === undefined) throw noSuchFleet()
  throw new ApiProblem('not-found', `no such version: ${version}`)
}
