import { problemKinds, problemMediaType, problemType } from '../shared/problem.ts'
import type { ProblemDocument, ProblemKind } from '../shared/problem.ts'

interface About {
  readonly errors?: readonly { readonly path: string; readonly message: string }[]
  /** With stale-version. */
  readonly current?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** An error of the caller, sent as a problem document. */
export class ApiProblem extends Error {
  readonly kind: ProblemKind
  readonly about: About
  constructor(kind: ProblemKind, detail: string, about: About = {}) {
    super(detail)
    this.name = 'ApiProblem'
    this.kind = kind
    this.about = about
  }

  /** RFC 9457. */
  response(): Response {
    const { status, title } = problemKinds[this.kind]
    const { errors, current, headers } = this.about
    const body: ProblemDocument = {
      type: problemType(this.kind),
      title,
      status,
      detail: this.message,
      ...(errors === undefined ? {} : { errors: [...errors] }),
      ...(current === undefined ? {} : { current }),
    }
    return new Response(JSON.stringify(body), { status, headers: { 'content-type': problemMediaType, ...headers } })
  }
}

export function noSuchFleet(): ApiProblem {
  return new ApiProblem('not-found', 'no such fleet, or the token is for another one')
}
