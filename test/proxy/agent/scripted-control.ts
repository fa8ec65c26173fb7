import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { bodyIn, generalIn } from '../../../shared/config/body-format.ts'
import { effectiveGeneral, effectivePools } from '../../../shared/config/effective.ts'
import { readDocument } from '../../../shared/config/document.ts'
import type { BodyFormat } from '../../../shared/config/formats.ts'
import { parseToml } from '../../../shared/config/text.ts'
import { poolHashes } from '../../../shared/hash.ts'
import { reportNowHeader } from '../../../shared/wire.ts'
import type { Manifest, Report } from '../../../shared/wire.ts'
import { atEndOfFile } from '../../support/cleanup.ts'

export interface Asked {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
  readonly atMs: number
}

interface Scripted {
  readonly status: number
  readonly headers?: Record<string, string>
  readonly body?: unknown
}

export const hintSecret = `whsec_${Buffer.from('a secret that signs hints').toString('base64')}`

/** A control plane by script: it offers what a test says and records the requests. */
export class ScriptedControl {
  readonly asked: Asked[] = []
  readonly reports: Report[] = []
  readonly secrets = new Map<string, string>()
  readonly bodies = new Map<string, unknown>()
  pollIntervalMs = 60_000
  /** As answered to hello; undefined as from release 0.1.0. */
  bodyFormat: number | undefined
  /** Of the fleet; undefined as from a control that knows of none. */
  mockKey: string | undefined = Buffer.alloc(32, 5).toString('base64')
  /** Whether `Prefer: wait` is honoured. */
  parks = false
  /** Answers for the next requests to a path that ends so; each is used once. */
  readonly #scripts: { ending: string; answer: Scripted | 'hang up' | 'be silent' }[] = []
  readonly #holds: { ending: string; wait: () => Promise<void> }[] = []
  readonly #parked: ((isAsked: boolean) => void)[] = []
  #server: Server | undefined
  #port = 0
  #manifest: Manifest | undefined
  #etag = ''

  async start(): Promise<void> {
    this.#server = createServer((request, response) => void this.#respond(request, response))
    await new Promise<void>((resolve) => this.#server?.listen(this.#port, '127.0.0.1', resolve))
    this.#port = (this.#server.address() as AddressInfo).port
    atEndOfFile(async () => await this.stop())
  }

  /** Ends all connections; `start` takes the same port again. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Offers a document as version `version`, in the format of release 0.1.0 unless given. */
  offer(version: number, toml: string, epoch = 1, format: BodyFormat = 1): Manifest {
    const tree = parseToml(toml)
    const known = (name: string, asked: number | undefined) => ({ version: asked ?? 1, kind: 'plain' as const, name })
    const document = readDocument(tree, { find: known, remedy: '' })
    const pools = effectivePools(document).map((body) => {
      const hashes = poolHashes(body, format)
      this.bodies.set(hashes.hash, bodyIn(format, body))
      return { pool: body.pool, user: body.user, ...hashes }
    })
    const { settings, console_users } = generalIn(format, effectiveGeneral(document))
    const general = { settings, console_users: [...console_users] }
    const named = format === 1 ? {} : { body_format: format }
    return this.offerManifest({ epoch, version, ...named, pools, general })
  }

  offerManifest(manifest: Manifest, etagEnd = ''): Manifest {
    this.#manifest = manifest
    const format = manifest.body_format === undefined ? '' : `.f${manifest.body_format}`
    this.#etag = `"e${manifest.epoch}.v${manifest.version}${format}${etagEnd}"`
    for (const answer of this.#parked.splice(0)) answer(false)
    return manifest
  }

  /** Ends every parked poll, as a reload does. */
  askParked(): void {
    for (const answer of this.#parked.splice(0)) answer(true)
  }

  get parkedCount(): number {
    return this.#parked.length
  }

  /** Holds the next request to a path that ends so until `release`, and answers it as ever then. */
  hold(ending: string): { readonly isAsked: boolean; readonly release: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>()
    const held = { isAsked: false, release: resolve }
    this.#holds.push({
      ending,
      wait: async () => {
        held.isAsked = true
        await promise
      },
    })
    return held
  }

  /** The next request to a path that ends so is answered thus. */
  next(ending: string, answer: Scripted | 'hang up' | 'be silent'): void {
    this.#scripts.push({ ending, answer })
  }

  askedFor(ending: string): Asked[] {
    return this.asked.filter(({ path }) => path.endsWith(ending))
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Queries are for the proxy's own protection only.
    const [path = ''] = (request.url ?? '').split('?')
    let body = ''
    for await (const chunk of request) body += String(chunk)
    this.asked.push({ method: request.method ?? '', path, headers: request.headers, body, atMs: performance.now() })
    const hold = this.#holds.findIndex(({ ending }) => path.endsWith(ending))
    if (hold >= 0) await this.#holds.splice(hold, 1)[0]?.wait()
    const index = this.#scripts.findIndex(({ ending }) => path.endsWith(ending))
    const [script] = index < 0 ? [] : this.#scripts.splice(index, 1)
    if (script?.answer === 'be silent') return
    if (script?.answer === 'hang up') {
      request.socket.destroy()
      return
    }
    const answer = script?.answer ?? (await this.#answer(request, path, body))
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers })
    response.end(answer.body === undefined ? undefined : JSON.stringify(answer.body))
  }

  async #answer(request: IncomingMessage, path: string, body: string): Promise<Scripted> {
    const parts = path.split('/').slice(4)
    switch (parts[0]) {
      case 'manifest':
        return await this.#answerManifest(request)
      case 'pools':
        return this.#found(this.bodies.get(parts[1] ?? ''))
      case 'secrets': {
        const value = this.secrets.get(`${parts[1]}@${parts[2]}`)
        return this.#found(value === undefined ? undefined : { value })
      }
      case 'proxies':
        return parts[2] === 'hello' ? this.#answerHello() : this.#answerReport(body)
      default:
        return { status: 404 }
    }
  }

  async #answerManifest(request: IncomingMessage): Promise<Scripted> {
    const isKnown = (): boolean => request.headers['if-none-match'] === this.#etag
    if (this.parks && isKnown() && request.headers['prefer'] !== undefined) {
      const { promise, resolve } = Promise.withResolvers<boolean>()
      this.#parked.push(resolve)
      const asked = (await promise) ? { [reportNowHeader]: 'reload' } : {}
      if (isKnown()) return { status: 304, headers: { etag: this.#etag, ...asked } }
    }
    if (this.#manifest === undefined) return { status: 404, body: { title: 'no version yet' } }
    if (isKnown()) return { status: 304, headers: { etag: this.#etag } }
    return { status: 200, headers: { etag: this.#etag }, body: this.#manifest }
  }

  #answerHello(): Scripted {
    return {
      status: 200,
      body: {
        epoch: 1,
        poll_interval_ms: this.pollIntervalMs,
        body_format: this.bodyFormat,
        hint_secret: hintSecret,
        mock_key: this.mockKey,
      },
    }
  }

  #answerReport(body: string): Scripted {
    const report = JSON.parse(body) as Report
    this.reports.push(report)
    return { status: 200, body: { ack: report.seq, poll_interval_ms: this.pollIntervalMs } }
  }

  #found(body: unknown): Scripted {
    return body === undefined ? { status: 404, body: { title: 'no such thing' } } : { status: 200, body }
  }
}
