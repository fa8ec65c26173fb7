import { z } from '@hono/zod-openapi'
import { tokenCreatedSchema, tokenRequestSchema, tokensSchema } from '../../shared/api.ts'
import { sha256Hex } from '../../shared/hash.ts'
import { ApiProblem, noSuchFleet } from '../api-problem.ts'
import { toBase64 } from '../domain/base64.ts'
import { findFleet } from '../store/fleets.ts'
import { addToken, listTokens, revokeToken } from '../store/tokens.ts'
import { fleetPath, json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const create = operatorRoute({
  method: 'post',
  path: '/v1/fleets/{fleet}/tokens',
  summary: "Create a token for the fleet's proxies; it is shown only once",
  request: { params: fleetPath, body: { required: true, ...json(tokenRequestSchema, 'What it is for') } },
  responses: { 201: json(tokenCreatedSchema, 'The token'), ...problems },
})

const list = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/tokens',
  summary: 'The tokens of a fleet, including revoked ones',
  request: { params: fleetPath },
  responses: { 200: json(tokensSchema, 'All tokens, oldest first'), ...problems },
})

const revoke = operatorRoute({
  method: 'delete',
  path: '/v1/fleets/{fleet}/tokens/{id}',
  summary: 'Revoke a token permanently',
  request: { params: fleetPath.extend({ id: z.string() }) },
  responses: { 204: { description: 'The token is revoked' }, ...problems },
})

const tokenBytes = 32
const idBytes = 8
const tokenPrefix = 'flp_'
/** Base64 for URLs may begin with "-", which a command line would take for an option. */
const idPrefix = 'tok_'

export function tokenRoutes(app: App, { host }: Control): void {
  app.openapi(create, async (c) => {
    const { fleet } = c.req.valid('param')
    const { name } = c.req.valid('json')
    if ((await findFleet(host.store, fleet)) === undefined) throw noSuchFleet()
    const token = tokenPrefix + base64Url(host.random(tokenBytes))
    const id = idPrefix + base64Url(host.random(idBytes))
    const created_at = new Date(host.nowMs()).toISOString()
    await addToken(host.store, { id, fleet, name, created_at, revoked_at: null, sha256: sha256Hex(token) })
    return c.json({ id, name, token }, 201, { 'cache-control': 'no-store' })
  })

  app.openapi(list, async (c) => {
    const { fleet } = c.req.valid('param')
    if ((await findFleet(host.store, fleet)) === undefined) throw noSuchFleet()
    return c.json({ tokens: await listTokens(host.store, fleet) }, 200)
  })

  app.openapi(revoke, async (c) => {
    const { fleet, id } = c.req.valid('param')
    const found = await revokeToken(host.store, fleet, id, new Date(host.nowMs()).toISOString())
    if (!found) throw new ApiProblem('not-found', 'no such token in this fleet')
    return c.body(null, 204)
  })
}

/** Base64 for URLs (RFC 4648, 5), without padding. */
function base64Url(bytes: Uint8Array): string {
  return toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}
