import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { documentSchema, messageMax, rollbackRequestSchema, writtenSchema } from '../../shared/api.ts'
import { parseJson } from '../../shared/config/json.ts'
import { ConfigSyntaxError } from '../../shared/config/problems.ts'
import { parseToml } from '../../shared/config/text.ts'
import { ApiProblem, noSuchFleet } from '../api-problem.ts'
import { rollBack, writeConfig } from '../configure.ts'
import { parseIfMatch } from '../domain/preconditions.ts'
import { findFleet } from '../store/fleets.ts'
import { findVersion } from '../store/versions.ts'
import { documentJsonSchema } from './document-schema.ts'
import { fleetPath, json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const versionTag = { description: 'The version, for example "v3"', schema: { type: 'string' } } as const

const writeQuery = z.object({
  dry_run: z.enum(['true', 'false']).optional().openapi({ description: 'Check and plan only; store nothing' }),
  force: z.enum(['true', 'false']).optional().openapi({
    description: 'Proxies apply this version without trying its servers first; makes a version of equal content too',
  }),
})

const show = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/config',
  summary: 'The current configuration, in a form that can be written back',
  request: { params: fleetPath },
  responses: {
    200: {
      description: 'The document',
      headers: { ETag: versionTag },
      content: { 'application/json': { schema: documentSchema } },
    },
    304: { description: 'Unchanged since If-None-Match' },
    ...problems,
  },
})

const write = operatorRoute({
  method: 'put',
  path: '/v1/fleets/{fleet}/config',
  summary: 'Replace the configuration',
  description:
    'Creates a version, unless the content equals the current one. Literal passwords are moved ' +
    'into secrets. A success does not mean that proxies run the version: see their reports.',
  request: {
    params: fleetPath,
    query: writeQuery,
    headers: z.object({
      'if-match': z.string().optional().openapi({
        description: 'The version to replace: "v3", or "v0" for the first. Only a dry run may omit it',
      }),
      'flotilla-message': z
        .string()
        .optional()
        .openapi({
          description: `Comment for the list of versions, in percent-encoded UTF-8, at most ${messageMax} characters`,
        }),
    }),
    body: {
      required: true,
      content: {
        // A plain schema: the document is validated as a whole, with the paths of all problems.
        'application/json': { schema: documentJsonSchema },
        'application/toml': { schema: { type: 'string', description: 'The same tree in TOML' } },
      },
    },
  },
  responses: {
    200: json(writtenSchema, 'No changes, or a dry run'),
    201: json(writtenSchema, 'A new version'),
    ...problems,
  },
})

const rollback = operatorRoute({
  method: 'post',
  path: '/v1/fleets/{fleet}/rollback',
  summary: 'Create a version with the content of an older one',
  description:
    'Secrets keep the values in force, so that a rollback does not bring a rotated password back: see ' +
    '`kept_secrets` of the response. With `"secrets": "as_of"` they return to the values of that version.',
  request: {
    params: fleetPath,
    query: writeQuery,
    headers: z.object({
      'if-match': z
        .string()
        .optional()
        .openapi({ description: 'The version to replace, such as "v3"; any by default' }),
    }),
    body: { required: true, ...json(rollbackRequestSchema, 'The version to return to') },
  },
  responses: {
    200: json(writtenSchema, 'The current version already has this content, or a dry run'),
    201: json(writtenSchema, 'A new version'),
    ...problems,
  },
})

export function configRoutes(app: App, { host }: Control): void {
  app.openapi(show, async (c) => {
    const { fleet } = c.req.valid('param')
    const row = await findFleet(host.store, fleet)
    if (row === undefined) throw noSuchFleet()
    const version = await findVersion(host.store, fleet, row.version)
    if (version === undefined) throw new ApiProblem('not-found', 'the fleet has no configuration yet')
    const etag = `"v${version.version}"`
    if (c.req.header('if-none-match') === etag) return c.body(null, 304, { etag })
    return c.body(version.document, 200, { etag, 'content-type': 'application/json' })
  })

  app.openapi(write, async (c) => {
    const { fleet } = c.req.valid('param')
    const { dry_run: dry, force } = c.req.valid('query')
    const dryRun = dry === 'true'
    const ifMatch = readIfMatch(c.req.valid('header')['if-match'], dryRun)
    const message = readMessage(c.req.valid('header')['flotilla-message'])
    if ((await findFleet(host.store, fleet)) === undefined) throw noSuchFleet()
    const written = await writeConfig(host, fleet, {
      tree: await readTree(c),
      ifMatch,
      dryRun,
      force: force === 'true',
      message,
    })
    return c.json(written, written.created ? 201 : 200, { etag: `"v${written.version}"` })
  })

  app.openapi(rollback, async (c) => {
    const { to, message, secrets } = c.req.valid('json')
    const ifMatch = c.req.valid('header')['if-match']
    const written = await rollBack(host, c.req.valid('param').fleet, {
      to,
      ifMatch: ifMatch === undefined ? undefined : versionsOf(ifMatch),
      dryRun: c.req.valid('query').dry_run === 'true',
      force: c.req.valid('query').force === 'true',
      message: message ?? null,
      secrets: secrets ?? 'newest',
    })
    return c.json(written, written.created ? 201 : 200, { etag: `"v${written.version}"` })
  })
}

function readIfMatch(header: string | undefined, dryRun: boolean): number[] | undefined {
  if (header === undefined) {
    if (dryRun) return undefined
    throw new ApiProblem(
      'if-match-required',
      'If-Match is required, with the version to replace: "v3", or "v0" for the first',
    )
  }
  return versionsOf(header)
}

function versionsOf(ifMatch: string): number[] {
  const versions = parseIfMatch(ifMatch)
  if (versions !== undefined) return versions
  throw new ApiProblem('malformed', 'If-Match must contain a version, such as "v3" with the quotes')
}

function readMessage(header: string | undefined): string | null {
  if (header === undefined) return null
  let message = header
  try {
    message = decodeURIComponent(header)
  } catch {
    // Not percent-encoded: used as it is.
  }
  if (message.length <= messageMax) return message
  throw new ApiProblem('invalid', `the message exceeds ${messageMax} characters`)
}

async function readTree(c: Context): Promise<unknown> {
  const type = c.req.header('content-type')?.split(';', 1)[0]?.trim().toLowerCase()
  const parse = type === 'application/json' ? parseJson : type === 'application/toml' ? parseToml : undefined
  if (parse === undefined) {
    throw new ApiProblem('unsupported-media-type', 'the content type must be application/json or application/toml')
  }
  try {
    return parse(new TextDecoder('utf-8', { fatal: true }).decode(await c.req.arrayBuffer()))
  } catch (error) {
    if (error instanceof ConfigSyntaxError) {
      const { line, column, message } = error
      const errors = [{ path: `line ${line}, column ${column}`, message: message.slice(message.indexOf(': ') + 2) }]
      throw new ApiProblem('malformed', `invalid ${type!.slice('application/'.length).toUpperCase()}`, { errors })
    }
    if (error instanceof TypeError) throw new ApiProblem('malformed', 'the document is not UTF-8')
    throw error
  }
}
