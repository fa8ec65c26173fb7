import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { poolOperations } from '../../shared/operations.ts'
import type { Hint, OperationRequest, OperationOutcome } from '../../shared/wire.ts'
import { hintBodyBytesMax, isKnown, Repetitions, verifiedHint, verifiedOperation } from './hint.ts'
import type { HintHeaders } from './hint.ts'
import { reasonOf, type Log } from './log.ts'

export interface HttpOptions {
  readonly log: Log
  readonly now: () => Date
  /** The fleet of this proxy; null for one that runs without control and accepts no hints. */
  readonly fleet: string | null
  /** Sent by control at hello; null before. */
  readonly hintSecret: () => string | null
  readonly onHint: (hint: Hint) => void
  /** An operator's operation, sent by control. */
  readonly onControlOperation: (request: OperationRequest) => Promise<OperationOutcome>
  /** Token for operators who call this proxy directly; null disables these calls. */
  readonly token: string | null
  readonly onOperation: (operation: OperationRequest['operation'], pool: string) => Promise<OperationOutcome>
  /** Reloads the configuration; resolves with the reason if that fails. */
  readonly onReload: () => Promise<string | null>
  /** Why the proxy is not ready for clients; null if it is. */
  readonly notReady: () => string | null
  /** What else operators should know, a line each. */
  readonly notes: () => Promise<readonly string[]>
  readonly metrics: () => Promise<{ readonly contentType: string; readonly page: string }>
}

interface Answer {
  readonly status: number
  readonly contentType?: string
  readonly body: string
}

interface Given extends HttpOptions {
  readonly repetitions: Repetitions
}

type Handler = (request: IncomingMessage, given: Given) => Promise<Answer>

/** Handlers by method and path. */
const routes: Readonly<Record<string, Handler>> = {
  'POST /v1/hint': takeHint,
  'POST /v1/order': takeOperation,
  'POST /v1/reload': reload,
  'GET /livez': async () => await Promise.resolve({ status: 200, body: 'alive\n' }),
  'GET /readyz': async (_, { notReady, notes }) => {
    const reason = notReady()
    const lines = [reason ?? 'ready', ...(await notes())]
    return { status: reason === null ? 200 : 503, body: lines.map((line) => `${line}\n`).join('') }
  },
  'GET /metrics': async (_, { metrics }) => {
    const { contentType, page } = await metrics()
    return { status: 200, contentType, body: page }
  },
}

/** POST /v1/pools/{pool}/{operation} */
const poolPath = new RegExp(`^/v1/pools/([^/]+)/(${poolOperations.join('|')})$`)

const requestTimeoutMs = 10_000
const connectionsMax = 256

/**
 * The proxy's HTTP server: hints and operations from control, health checks, Prometheus metrics, and operations on this
 * proxy alone, which work without control.
 */
export class HttpServer {
  readonly #server: Server
  readonly #log: Log

  constructor(options: HttpOptions) {
    this.#log = options.log
    const given = { ...options, repetitions: new Repetitions() }
    this.#server = createServer(
      { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs },
      (request, response) => void respond(request, response, given),
    )
    this.#server.maxConnections = connectionsMax
  }

  /** Returns the actual port. Rejects if it cannot listen on the address. */
  async listen({ host, port }: { readonly host: string; readonly port: number }): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#server.once('error', reject)
    this.#server.listen({ host, port }, resolve)
    await promise
    this.#server.off('error', reject)
    this.#server.on('error', (error) => this.#log('error', 'HTTP server error', { reason: reasonOf(error) }))
    // A server that listens on TCP has such an address.
    return (this.#server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => resolve())
    this.#server.closeAllConnections()
    await promise
  }
}

async function respond(request: IncomingMessage, response: ServerResponse, options: Given): Promise<void> {
  const answer = await answerTo(request, options)
  const { status, contentType = 'text/plain; charset=utf-8', body } = answer
  // Do not read the rest of an incomplete request.
  if (!request.complete) response.setHeader('connection', 'close')
  response.writeHead(status, { 'content-type': contentType, 'content-length': Buffer.byteLength(body) })
  response.end(request.method === 'HEAD' ? undefined : body)
}

async function answerTo(request: IncomingMessage, options: Given): Promise<Answer> {
  const path = request.url?.split('?', 1)[0] ?? ''
  const method = request.method === 'HEAD' ? 'GET' : request.method
  const [, pool, operation] = poolPath.exec(path) ?? []
  const handler =
    pool === undefined || method !== 'POST'
      ? routes[`${method} ${path}`]
      : async () => await operate(request, options, operation as OperationRequest['operation'], pool)
  if (handler === undefined) {
    const known = pool !== undefined || Object.keys(routes).some((route) => route.endsWith(` ${path}`))
    return known ? { status: 405, body: 'method not allowed\n' } : { status: 404, body: 'not found\n' }
  }
  try {
    return await handler(request, options)
  } catch (error) {
    options.log('error', 'request failed', { path, reason: reasonOf(error) })
    return { status: 500, body: 'internal error\n' }
  }
}

async function takeOperation(request: IncomingMessage, given: Given): Promise<Answer> {
  const body = await readBody(request)
  if (body === undefined) return { status: 413, body: 'the request is too long\n' }
  const secret = given.hintSecret()
  const headers = signatureOf(request)
  const sent = secret === null ? undefined : verifiedOperation(headers, body, secret, given.now())
  if (sent === undefined || headers.id === undefined) return { status: 401, body: 'invalid signature\n' }
  if (sent.fleet !== given.fleet) return { status: 409, body: 'this proxy belongs to another fleet\n' }
  if (!given.repetitions.isFirst(headers.id, given.now())) return { status: 409, body: 'repeated message\n' }
  if (!isKnown(sent)) {
    return { status: 501, body: `this proxy is too old for the operation ${JSON.stringify(sent.operation)}\n` }
  }
  const outcome = await given.onControlOperation(sent)
  return { status: 200, contentType: 'application/json', body: JSON.stringify(outcome) }
}

async function operate(
  request: IncomingMessage,
  given: Given,
  operation: OperationRequest['operation'],
  encoded: string,
): Promise<Answer> {
  const refusal = refusalOf(request, given)
  if (refusal !== null) return refusal
  const pool = decoded(encoded)
  if (pool === null) return { status: 400, body: 'the pool name is not percent-encoded UTF-8\n' }
  const outcome = await given.onOperation(operation, pool)
  return { status: outcome.known ? 200 : 404, contentType: 'application/json', body: JSON.stringify(outcome) }
}

async function reload(request: IncomingMessage, given: Given): Promise<Answer> {
  const refusal = refusalOf(request, given)
  if (refusal !== null) return refusal
  const error = await given.onReload()
  return error === null ? { status: 200, body: 'reloaded\n' } : { status: 503, body: `${error}\n` }
}

/** Null for a caller with this proxy's token. */
function refusalOf({ headers }: IncomingMessage, { token }: Given): Answer | null {
  if (token === null) return { status: 403, body: 'this proxy was started without --http-token\n' }
  const [, given] = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '') ?? []
  if (given !== undefined && timingSafeEqual(digest(given), digest(token))) return null
  return { status: 401, body: "this proxy's token is required: authorization: Bearer …\n" }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function decoded(encoded: string): string | null {
  try {
    return decodeURIComponent(encoded)
  } catch {
    return null
  }
}

function signatureOf({ headers }: IncomingMessage): HintHeaders {
  return {
    id: single(headers['webhook-id']),
    timestamp: single(headers['webhook-timestamp']),
    signature: single(headers['webhook-signature']),
  }
}

async function takeHint(request: IncomingMessage, options: Given): Promise<Answer> {
  const body = await readBody(request)
  if (body === undefined) return { status: 413, body: 'the request is too long\n' }
  const secret = options.hintSecret()
  const headers = signatureOf(request)
  const hint = secret === null ? undefined : verifiedHint(headers, body, secret, options.now())
  if (hint === undefined) return { status: 401, body: 'invalid signature\n' }
  if (hint.fleet !== options.fleet) return { status: 409, body: 'this proxy belongs to another fleet\n' }
  options.onHint(hint)
  return { status: 202, body: '' }
}

/** Undefined if it is too long; the rest is not read. */
async function readBody(request: IncomingMessage): Promise<Uint8Array | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>()
  const chunks: Buffer[] = []
  let length = 0
  request.on('data', (chunk: Buffer) => {
    length += chunk.length
    if (length <= hintBodyBytesMax) {
      chunks.push(chunk)
      return
    }
    request.pause()
    resolve(undefined)
  })
  request.on('end', () => resolve(Buffer.concat(chunks)))
  request.on('error', reject)
  return await promise
}

function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header
}
