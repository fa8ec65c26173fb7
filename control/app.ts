/**
 * The HTTP API of control. It runs on every host that Hono runs on: whatever it needs from the host is an argument, and
 * it keeps no state between requests except prepared reads.
 */
import { OpenAPIHono } from '@hono/zod-openapi'
import { bodyLimit } from 'hono/body-limit'
import { HTTPException } from 'hono/http-exception'
import { ApiProblem } from './api-problem.ts'
import { authenticate } from './authentication.ts'
import type { AppEnv } from './authentication.ts'
import type { ControlHost } from './host.ts'
import { configRoutes } from './routes/config.ts'
import { disconnectRoutes } from './routes/disconnects.ts'
import { epochRoutes } from './routes/epoch.ts'
import { fleetRoutes } from './routes/fleets.ts'
import { healthRoutes } from './routes/health.ts'
import { manifestRoutes } from './routes/manifest.ts'
import { proxyRoutes } from './routes/proxies.ts'
import { reloadRoutes } from './routes/reload.ts'
import { operationRoutes } from './routes/operations.ts'
import type { App } from './routes/route.ts'
import { secretRoutes } from './routes/secrets.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { versionRoutes } from './routes/versions.ts'
import { StoreBusy, StoreFull } from './store/port.ts'
import { MissingManifests } from './manifests.ts'
import { prepareHotReads } from './store/poll-reads.ts'

const bodyBytesMax = 4 * 1024 * 1024
const retryAfterS = 1

export function createApp(host: ControlHost): App {
  const { store } = host
  const hot = prepareHotReads(store)
  const control = { host, hot, missingManifests: new MissingManifests(store) }
  const app: App = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })
  app.onError((error) => answerTo(error, host).response())
  app.notFound(() => new ApiProblem('not-found', 'no such path and method').response())

  healthRoutes(app, control)
  describe(app)
  app.use('/v1/*', authenticate(host, hot))
  app.use('/v1/*', bodyLimit({ maxSize: bodyBytesMax, onError: tooLarge }))
  manifestRoutes(app, control)
  proxyRoutes(app, control)
  fleetRoutes(app, control)
  configRoutes(app, control)
  versionRoutes(app, control)
  reloadRoutes(app, control)
  operationRoutes(app, control)
  disconnectRoutes(app, control)
  epochRoutes(app, control)
  secretRoutes(app, control)
  tokenRoutes(app, control)
  return app
}

/** `/openapi.json`, generated from the routes. */
function describe(app: App): void {
  for (const [name, description] of [
    ['operator', "The operator's token"],
    ['proxy', 'A token for the proxies of one fleet'],
  ] as const) {
    app.openAPIRegistry.registerComponent('securitySchemes', name, { type: 'http', scheme: 'bearer', description })
  }
  app.doc31('/openapi.json', {
    openapi: '3.1.0',
    info: { title: 'Flotilla control', version: '1', description: 'Run a fleet of PostgreSQL poolers from one place.' },
  })
}

function tooLarge(): never {
  throw new ApiProblem('too-large', `the request exceeds ${bodyBytesMax} bytes`)
}

interface Invalid {
  readonly success: boolean
  readonly target: string
  readonly error?: { readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[] }
}

/** Errors of a route's schemas. Their messages contain types and bounds, never values. */
function refuseInvalid(result: Invalid): void {
  if (result.success || result.error === undefined) return
  const errors = result.error.issues.map(({ path, message }) => ({ path: path.map(String).join('.'), message }))
  if (result.target === 'param') throw new ApiProblem('not-found', 'invalid name', { errors })
  throw new ApiProblem('invalid', `invalid ${result.target} of the request`, { errors })
}

function answerTo(error: Error, host: ControlHost): ApiProblem {
  if (error instanceof ApiProblem) return error
  if (error instanceof HTTPException && error.status === 400) {
    return new ApiProblem('malformed', 'the body is not valid JSON')
  }
  if (error instanceof StoreBusy) {
    host.metrics?.count('store_failures', 'busy')
    return new ApiProblem('unavailable', `${error.message}; nothing was stored, try again`, {
      headers: { 'retry-after': String(retryAfterS) },
    })
  }
  host.logError('request failed', error)
  if (error instanceof StoreFull) {
    host.metrics?.count('store_failures', 'full')
    return new ApiProblem('insufficient-storage', `${error.message}; nothing was stored`)
  }
  return new ApiProblem('internal', "internal error; see control's log")
}
