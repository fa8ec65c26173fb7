/**
 * Errors of the HTTP API: RFC 9457 problem documents (`application/problem+json`). Every kind of trouble a caller can
 * meet is one line here; `type` is what programs compare, the rest is for people.
 */
import { z } from 'zod'

export const problemKinds = {
  malformed: { status: 400, title: 'The request cannot be read' },
  unauthenticated: { status: 401, title: 'A valid token is needed' },
  forbidden: { status: 403, title: 'This token may not do that' },
  'not-found': { status: 404, title: 'There is no such thing' },
  'stale-version': { status: 412, title: 'The configuration has changed meanwhile' },
  'too-large': { status: 413, title: 'The request is too large' },
  'unsupported-media-type': { status: 415, title: 'The content type is not understood' },
  invalid: { status: 422, title: 'The content cannot be used' },
  'if-match-required': { status: 428, title: 'Say which version is to be replaced' },
  internal: { status: 500, title: 'Control failed' },
  unavailable: { status: 503, title: 'Control is not ready' },
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
  /** Where the trouble is: keys of a configuration, fields of a body, or "line 3, column 7". */
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  /** With stale-version: the version that is current, for example "v4". */
  current: z.string().optional(),
})
export type ProblemDocument = z.infer<typeof problemSchema>

export const problemMediaType = 'application/problem+json'
