import { z } from '@hono/zod-openapi'
import { secretRequestSchema, secretsSchema, secretWrittenSchema } from '../../shared/api.ts'
import type { Secrets, SecretWritten } from '../../shared/api.ts'
import { secretNamePattern } from '../../shared/config/document.ts'
import { passwordFault, passwordKind } from '../../shared/config/password.ts'
import { ApiProblem, noSuchFleet } from '../api-problem.ts'
import { documentOf } from '../domain/version.ts'
import { listSecretUses } from '../domain/passwords.ts'
import type { SecretUse } from '../domain/passwords.ts'
import { secretEpoch, SecretIndex } from '../domain/secrets.ts'
import type { ControlHost } from '../host.ts'
import { readEpoch } from '../store/control-row.ts'
import { findFleet } from '../store/fleets.ts'
import { AlreadyThere } from '../store/port.ts'
import { addSecret, listSecrets } from '../store/secrets.ts'
import { findVersion } from '../store/versions.ts'
import { fleetPath, json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const list = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/secrets',
  summary: 'The secrets of a fleet, without values, and their uses in the configuration',
  request: { params: fleetPath },
  responses: { 200: json(secretsSchema, 'All secrets by name'), ...problems },
})

const write = operatorRoute({
  method: 'put',
  path: '/v1/fleets/{fleet}/secrets/{name}',
  summary: 'Set the value of a secret; only proxies can read it back',
  description: 'Creates a version, unless the newest has this value. Configurations written later use it.',
  request: {
    params: fleetPath.extend({ name: z.string() }),
    body: { required: true, ...json(secretRequestSchema, 'The value') },
  },
  responses: {
    200: json(secretWrittenSchema, 'The newest version already has this value'),
    201: json(secretWrittenSchema, 'A new version'),
    ...problems,
  },
})

export function secretRoutes(app: App, { host }: Control): void {
  app.openapi(list, async (c) => {
    const { fleet } = c.req.valid('param')
    const uses = await currentUses(host, fleet)
    const newest = new Map<string, Secrets['secrets'][number]>()
    for (const { name, version, kind, created_at } of await listSecrets(host.store, fleet)) {
      newest.set(name, { name, version, kind, created_at, used_by: [] })
    }
    for (const { name, path, version } of uses) newest.get(name)?.used_by.push({ path, version })
    return c.json({ secrets: [...newest.values()] }, 200)
  })

  app.openapi(write, async (c) => {
    const { fleet, name } = c.req.valid('param')
    const { value } = c.req.valid('json')
    const errors = [
      ...(secretNamePattern.test(name)
        ? []
        : [{ path: 'name', message: 'must consist of at most 255 letters, digits, ".", "_" and "-"' }]),
      ...[passwordFault(value)].filter((fault) => fault !== undefined).map((message) => ({ path: 'value', message })),
    ]
    if (errors.length > 0) throw new ApiProblem('invalid', 'invalid secret', { errors })
    const uses = await currentUses(host, fleet)
    const { version, created } = await keep(host, fleet, name, value)
    const older: SecretWritten['older'] = uses
      .filter((use) => use.name === name && use.version < version)
      .map(({ path, version }) => ({ path, version }))
    return c.json({ name, version, created, older }, created ? 201 : 200)
  })
}

async function keep(
  host: ControlHost,
  fleet: string,
  name: string,
  value: string,
): Promise<{ version: number; created: boolean }> {
  for (;;) {
    const newest = new SecretIndex(await listSecrets(host.store, fleet)).find(name)
    const digest = host.sealing.digest(fleet, name, value)
    if (newest?.digest === digest) return { version: newest.version, created: false }
    const version = (newest?.version ?? 0) + 1
    const sealed = await host.sealing.seal(value, { fleet, name, version })
    const created_at = new Date(host.nowMs()).toISOString()
    const epoch = secretEpoch(await readEpoch(host.store))
    try {
      const kind = passwordKind(value)
      await addSecret(host.store, { fleet, name, version, created_at, kind, sealed, digest, epoch })
      return { version, created: true }
    } catch (error) {
      // Another writer used this number; the next round sees its value.
      if (!(error instanceof AlreadyThere)) throw error
    }
  }
}

/** Uses of secrets in the current configuration. */
async function currentUses(host: ControlHost, fleet: string): Promise<SecretUse[]> {
  const row = await findFleet(host.store, fleet)
  if (row === undefined) throw noSuchFleet()
  const version = await findVersion(host.store, fleet, row.version)
  return version === undefined ? [] : listSecretUses(documentOf(version))
}
