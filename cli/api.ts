/**
 * A call of control's HTTP API. The response is validated against a schema; errors become a Failure that says what to
 * do.
 */
import { readFileSync } from 'node:fs'
import type { z } from 'zod'
import { problemMediaType, problemSchema, problemType } from '../shared/problem.ts'
import type { ProblemDocument } from '../shared/problem.ts'
import type { OptionSpecs } from './arguments.ts'
import type { Surroundings } from './command.ts'
import { Failure } from './failure.ts'

/** File in which `npm start` stores the operator's token. */
const startedToken = '.flotilla/token'

/** Options of all commands that call control. */
export const apiOptions = {
  url: { type: 'string', value: 'URL', help: 'URL of control (FLOTILLA_URL, http://127.0.0.1:8080)' },
  token: { type: 'string', value: 'TOKEN', help: `operator token (FLOTILLA_TOKEN, or the file ${startedToken})` },
  fleet: { type: 'string', value: 'NAME', help: 'fleet name (FLOTILLA_FLEET, demo)' },
  json: { type: 'boolean', help: "print control's response as JSON" },
} as const satisfies OptionSpecs

export interface ApiSettings {
  readonly url: string | undefined
  readonly token: string | undefined
  readonly fleet: string | undefined
}

export interface Request {
  readonly method?: 'GET' | 'PUT' | 'POST' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON unless it is a string, whose type is given in `headers`. */
  readonly body?: unknown
}

/** Control answered with a problem document. */
export class Refusal extends Failure {
  readonly problem: ProblemDocument
  constructor(problem: ProblemDocument) {
    super(describe(problem))
    this.name = 'Refusal'
    this.problem = problem
  }
}

export class Api {
  readonly fleet: string
  readonly #url: string
  readonly #token: string
  readonly #stop: AbortSignal

  constructor(settings: ApiSettings, { environment, stop }: Pick<Surroundings, 'environment' | 'stop'>) {
    this.#stop = stop
    this.fleet = settings.fleet ?? environment['FLOTILLA_FLEET'] ?? 'demo'
    this.#url = (settings.url ?? environment['FLOTILLA_URL'] ?? 'http://127.0.0.1:8080').replace(/\/+$/, '')
    const url = URL.parse(this.#url)
    if (url === null || !/^https?:$/.test(url.protocol)) {
      throw new Failure(`"${this.#url}" is not a valid URL: use one like http://127.0.0.1:8080`)
    }
    const isHere = ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname)
    const token = settings.token ?? environment['FLOTILLA_TOKEN'] ?? (isHere ? tokenOfStart() : undefined)
    if (token === undefined || token === '') {
      throw new Failure(
        `no token: set --token or FLOTILLA_TOKEN, or run this in the directory in which \`npm start\` stored ${startedToken}`,
      )
    }
    this.#token = token
  }

  /** `path` below the fleet: `api.inFleet(versionsSchema, '/versions')`. */
  inFleet<Schema extends z.ZodType>(schema: Schema, path: string, request?: Request): Promise<z.infer<Schema>> {
    return this.call(schema, `/v1/fleets/${encodeURIComponent(this.fleet)}${path}`, request)
  }

  /**
   * @throws Refusal if control answers with a problem.
   * @throws Failure if control cannot be reached or its response is invalid.
   */
  async call<Schema extends z.ZodType>(schema: Schema, path: string, request: Request = {}): Promise<z.infer<Schema>> {
    const response = await this.#send(path, request)
    const type = response.headers.get('content-type')?.split(';')[0]
    const text = await response.text()
    if (type === problemMediaType) {
      const problem = problemSchema.safeParse(parseJson(text))
      if (problem.success) throw new Refusal(problem.data)
    }
    const unexpected = `unexpected response (status ${response.status}) from ${this.#url}${path}`
    if (!response.ok) throw new Failure(`${unexpected}: is it a control plane?`)
    const answer = schema.safeParse(response.status === 204 ? undefined : parseJson(text))
    if (!answer.success) throw new Failure(`${unexpected}: do control and this program have the same version?`)
    return answer.data
  }

  async #send(path: string, request: Request): Promise<Response> {
    const { method = 'GET', headers = {}, body } = request
    const isText = typeof body === 'string'
    try {
      return await fetch(`${this.#url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${this.#token}`,
          ...(body === undefined || isText ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: isText ? body : JSON.stringify(body) }),
        signal: this.#stop,
      })
    } catch (cause) {
      if (this.#stop.aborted) throw new Failure('stopped', { cause })
      throw new Failure(`could not connect to control at ${this.#url} (${reason(cause)}): is it running? see --url`, {
        cause,
      })
    }
  }
}

function tokenOfStart(): string | undefined {
  try {
    return readFileSync(startedToken, 'utf8').trim()
  } catch {
    return undefined
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** fetch hides the system's error code in `cause`. */
function reason(error: unknown): string {
  const { cause } = error as { cause?: { code?: string } }
  return cause?.code ?? (error as Error).message
}

/** The problem as text: what happened, where, and what to do. */
function describe(problem: ProblemDocument): string {
  const where = (problem.errors ?? []).map(({ path, message }) => `\n  ${path}: ${message}`).join('')
  return `${problem.detail}${where}${remedy(problem)}`
}

function remedy({ type, current }: ProblemDocument): string {
  switch (type) {
    case problemType('unauthenticated'):
      return '\n  set the correct token with --token or FLOTILLA_TOKEN'
    case problemType('stale-version'):
      return current === undefined ? '' : `\n  see \`flotilla show ${current.slice(1)}\`, then apply again`
    default:
      return ''
  }
}
