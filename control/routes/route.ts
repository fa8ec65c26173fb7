import { createRoute, z } from '@hono/zod-openapi'
import type { OpenAPIHono, RouteConfig } from '@hono/zod-openapi'
import { problemMediaType, problemSchema } from '../../shared/problem.ts'
import { nameSchema } from '../../shared/wire.ts'
import { operatorOnly, proxyOnly } from '../authentication.ts'
import type { AppEnv } from '../authentication.ts'
import type { ControlHost } from '../host.ts'
import type { MissingManifests } from '../manifests.ts'
import type { HotReads } from '../store/poll-reads.ts'

export type App = OpenAPIHono<AppEnv>

/** What handlers work with. */
export interface Control {
  readonly host: ControlHost
  readonly hot: HotReads
  readonly missingManifests: MissingManifests
}

type Description = Omit<RouteConfig, 'security' | 'middleware'>

/** A route for the operator only. */
export function operatorRoute<const Route extends Description>(route: Route) {
  return createRoute({ ...route, security: [{ operator: [] }], middleware: [operatorOnly] as const })
}

/** A route for proxies of the fleet in its path only. */
export function proxyRoute<const Route extends Description>(route: Route) {
  return createRoute({ ...route, security: [{ proxy: [] }], middleware: [proxyOnly] as const })
}

/** A route without authentication. */
export function openRoute<const Route extends Description>(route: Route) {
  return createRoute({ ...route, security: [] })
}

export function json<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { description, content: { 'application/json': { schema } } }
}

/** JSON sent as the stored bytes; the schema is used for the description only. */
export function jsonBytes(schema: z.ZodType, description: string) {
  const content: Record<string, { schema: z.ZodType }> = { 'application/json': { schema } }
  return { description, content }
}

/** RFC 9457 problems, in the description of every route. */
export const problems = {
  default: { description: 'A problem document', content: { [problemMediaType]: { schema: problemSchema } } },
} as const

export const fleetPath = z.object({ fleet: nameSchema })
