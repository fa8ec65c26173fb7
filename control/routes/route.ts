import { createRoute, z } from '@hono/zod-openapi'
import type { OpenAPIHono, RouteConfig } from '@hono/zod-openapi'
import { problemMediaType, problemSchema } from '../../shared/problem.ts'
import { nameSchema } from '../../shared/wire.ts'
import { operatorOnly, proxyOnly } from '../authentication.ts'
import type { AppEnv } from '../authentication.ts'
import type { ControlHost } from '../host.ts'
import type { HotReads } from '../store/hot.ts'

export type App = OpenAPIHono<AppEnv>

/** What the handlers work with. */
export interface Control {
  readonly host: ControlHost
  readonly hot: HotReads
}

type Description = Omit<RouteConfig, 'security' | 'middleware'>

/** A route that only the operator may call. */
export function operatorRoute<const Route extends Description>(route: Route) {
  return createRoute({ ...route, security: [{ operator: [] }], middleware: [operatorOnly] as const })
}

/** A route that only proxies of the fleet in its path may call. */
export function proxyRoute<const Route extends Description>(route: Route) {
  return createRoute({ ...route, security: [{ proxy: [] }], middleware: [proxyOnly] as const })
}

/** A route that needs no token. */
export function openRoute<const Route extends Description>(route: Route) {
  return createRoute({ ...route, security: [] })
}

export function json<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { description, content: { 'application/json': { schema } } }
}

/** JSON that is answered as the bytes it was stored as: only the description knows its schema. */
export function jsonBytes(schema: z.ZodType, description: string) {
  const content: Record<string, { schema: z.ZodType }> = { 'application/json': { schema } }
  return { description, content }
}

/** The problems of RFC 9457, in every route's description. */
export const problems = {
  default: { description: 'A problem document', content: { [problemMediaType]: { schema: problemSchema } } },
} as const

export const fleetPath = z.object({ fleet: nameSchema })
