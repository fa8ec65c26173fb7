/**
 * Errors of the HTTP API: RFC 9457 problem documents (`application/problem+json`), one line per kind. Programs compare
 * `type`; the rest is for people.
 */
import { z } from 'zod'

export const problemKinds = {
  malformed: { status: 400, title: 'Malformed request' },
  unauthenticated: { status: 401, title: 'Authentication required' },
  forbidden: { status: 403, title: 'Permission denied' },
  'not-found': { status: 404, title: 'Not found' },
  'stale-version': { status: 412, title: 'The configuration has changed' },
  'too-large': { status: 413, title: 'Request too large' },
  'unsupported-media-type': { status: 415, title: 'Unsupported content type' },
  invalid: { status: 422, title: 'Invalid content' },
  'if-match-required': { status: 428, title: 'If-Match required' },
  internal: { status: 500, title: 'Internal error' },
  unavailable: { status: 503, title: 'Not ready' },
  'insufficient-storage': { status: 507, title: 'No disk space' },
} as const satisfies Record<string, { status: number; title: string }>

export type ProblemKind = keyof typeof problemKinds

const typePrefix = 'urn:flotilla:problem:'

export function problemType(kind: ProblemKind): string {
  return `${typePrefix}${kind}`
}

export const problemSchema = z.object({
  /** "urn:flotilla:problem:" and the kind. */
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  /** What each error concerns: a configuration key, a field of the body, or "line 3, column 7". */
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  /** With stale-version: the current version, for example "v4". */
  current: z.string().optional(),
})
export type ProblemDocument = z.infer<typeof problemSchema>

export const problemMediaType = 'application/problem+json'
