/** Control and proxies as real processes, started from the command line as operators do. */
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { endOf, startFlotilla } from '../../cli/start/supervised.ts'
import { atEndOfFile } from './cleanup.ts'
import { freePort } from './free-port.ts'
import { tempFolder } from './temp-folder.ts'

const readyWithinMs = 30_000
/** Maximum wait at the end of a test file. */
const stopWithinMs = 5_000

/** A `flotilla …` process that can be ended in any way and started again with the same arguments. */
export class FlotillaProcess {
  /** Everything written to both outputs, over all runs. */
  readonly log: string[] = []
  readonly #name: string
  readonly #args: readonly string[]
  readonly #environment: Readonly<Record<string, string | undefined>>
  readonly #readyUrl: string
  readonly #onLine = new Set<() => void>()
  /** Directory of the sources that it is started from; undefined for this release. */
  release: string | undefined
  #child: ChildProcess | undefined

  constructor(how: {
    name: string
    args: readonly string[]
    environment: Readonly<Record<string, string | undefined>>
    readyUrl: string
    release?: string | undefined
  }) {
    this.#name = how.name
    this.release = how.release
    this.#args = how.args
    this.#environment = how.environment
    this.#readyUrl = how.readyUrl
    atEndOfFile(async () => {
      const impatience = setTimeout(() => this.signal('SIGKILL'), stopWithinMs)
      await this.stop()
      clearTimeout(impatience)
    })
  }

  /** Undefined while stopped. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Resolves when it is ready. @throws Failure with its last output if it exits before. */
  async start(): Promise<void> {
    this.#child = await startFlotilla({
      name: this.#name,
      args: this.#args,
      environment: { ...process.env, ...this.#environment },
      readyUrl: this.#readyUrl,
      readyWithinMs,
      ...(this.release === undefined ? {} : { program: join(this.release, 'cli/main.ts') }),
      onLine: (line) => {
        this.log.push(line)
        for (const check of this.#onLine) check()
      },
    })
  }

  /** Resolves when a line of its log matches, including earlier lines. */
  async logged(pattern: RegExp): Promise<string> {
    for (;;) {
      const line = this.log.find((one) => pattern.test(one))
      if (line !== undefined) return line
      await new Promise<void>((resolve) => {
        const check = () => {
          this.#onLine.delete(check)
          resolve()
        }
        this.#onLine.add(check)
      })
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  /** Sends SIGTERM, or another signal, and waits for the exit. Returns the exit code, or the signal that ended it. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    const child = this.#child
    if (child === undefined) return null
    child.kill(signal)
    return this.ended()
  }

  /** Waits for its exit, whatever the cause. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    const child = this.#child
    if (child === undefined) return null
    await endOf(child)
    if (this.#child === child) this.#child = undefined
    return child.exitCode ?? child.signalCode
  }

  async kill9(): Promise<void> {
    await this.stop('SIGKILL')
  }
}

export interface ControlOptions {
  /** Directory of its SQLite file and key; a new one by default. */
  readonly folder?: string
  readonly port?: number
  readonly token?: string
  readonly environment?: Readonly<Record<string, string>>
  /** Directory of the sources of another release. */
  readonly release?: string
}

/** A running control plane. */
export class ControlProcess extends FlotillaProcess {
  readonly url: string
  readonly port: number
  /** The operator's token. */
  readonly token: string
  readonly folder: string

  constructor(how: {
    folder: string
    port: number
    token: string
    environment: Readonly<Record<string, string>>
    release?: string | undefined
  }) {
    const url = `http://127.0.0.1:${how.port}`
    super({
      name: 'control',
      args: ['control', '--host', '127.0.0.1', '--port', String(how.port), '--data', how.folder],
      environment: { ...how.environment, FLOTILLA_TOKEN: how.token },
      readyUrl: `${url}/readyz`,
      release: how.release,
    })
    this.url = url
    this.port = how.port
    this.token = how.token
    this.folder = how.folder
  }

  /** A call of its API as the operator; `body` is sent as JSON. */
  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<{ status: number; headers: Headers; body: unknown }> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) }
  }

  /** A token for proxies of `fleet`, which is created if missing. */
  async proxyToken(fleet: string): Promise<string> {
    await this.call('PUT', `/v1/fleets/${fleet}`)
    const { status, body } = await this.call('POST', `/v1/fleets/${fleet}/tokens`, { name: 'test' })
    if (status !== 201) throw new Error(`no token: ${status} ${JSON.stringify(body)}`)
    return (body as { token: string }).token
  }

  /** Makes `document` the current configuration, whatever is current. Returns the new version. */
  async apply(fleet: string, document: unknown): Promise<number> {
    const { body: now } = await this.call('GET', `/v1/fleets/${fleet}`)
    const { version } = now as { version: number }
    const answer = await this.call('PUT', `/v1/fleets/${fleet}/config`, document, { 'if-match': `"v${version}"` })
    if (answer.status > 201) throw new Error(`not applied: ${answer.status} ${JSON.stringify(answer.body)}`)
    return (answer.body as { version: number }).version
  }
}

export async function startControl(options: ControlOptions = {}): Promise<ControlProcess> {
  const control = new ControlProcess({
    folder: options.folder ?? (await tempFolder()),
    port: options.port ?? (await freePort()),
    token: options.token ?? 'the-operator-of-the-tests',
    environment: options.environment ?? {},
    release: options.release,
  })
  await control.start()
  return control
}

export interface ProxyOptions {
  readonly id?: string
  readonly port?: number
  readonly httpPort?: number
  /** Its state directory; a new one by default. */
  readonly state?: string
  /** False: it gives control no address for hints. "blocked": the address does not respond. */
  readonly hints?: boolean | 'blocked'
  readonly environment?: Readonly<Record<string, string>>
  /** Directory of the sources of another release. */
  readonly release?: string
}

/** A running proxy: clients connect to `host`:`port`. */
export class ProxyProcess extends FlotillaProcess {
  readonly host = '127.0.0.1'
  readonly port: number
  /** URL of /readyz, /metrics and hints. */
  readonly httpUrl: string
  readonly state: string | undefined

  constructor(how: {
    name: string
    source: readonly string[]
    port: number
    httpPort: number
    state: string | undefined
    environment: Readonly<Record<string, string>>
    release?: string | undefined
  }) {
    super({
      name: how.name,
      args: [
        ['proxy', ...how.source],
        ['--listen-host', '127.0.0.1', '--listen-port', String(how.port)],
        ['--http-host', '127.0.0.1', '--http-port', String(how.httpPort)],
      ].flat(),
      environment: how.environment,
      readyUrl: `http://127.0.0.1:${how.httpPort}/readyz`,
      release: how.release,
    })
    this.port = how.port
    this.httpUrl = `http://127.0.0.1:${how.httpPort}`
    this.state = how.state
  }

  /** "postgresql://user:password@127.0.0.1:port/database" */
  url(user: string, password: string | undefined, database: string): string {
    const secret = password === undefined ? '' : `:${encodeURIComponent(password)}`
    return `postgresql://${encodeURIComponent(user)}${secret}@${this.host}:${this.port}/${database}`
  }
}

/** A proxy of a fleet, ready when it runs a configuration: apply one first. */
export async function startProxy(
  from: { control: Pick<ControlProcess, 'url'>; fleet: string; token: string },
  options: ProxyOptions = {},
): Promise<ProxyProcess> {
  const { id = 'proxy-1', hints = true, environment = {} } = options
  const httpPort = options.httpPort ?? (await freePort())
  const state = options.state ?? join(await tempFolder(), id)
  const source = ['--control', from.control.url, '--fleet', from.fleet, '--id', id, '--state', state]
  if (hints !== false) {
    const hintPort = hints === 'blocked' ? await freePort() : httpPort
    source.push('--hint-url', `http://127.0.0.1:${hintPort}`)
  }
  const port = options.port ?? (await freePort())
  const proxy = new ProxyProcess({
    name: id,
    source,
    port,
    httpPort,
    state,
    environment: { ...environment, FLOTILLA_PROXY_TOKEN: from.token },
    release: options.release,
  })
  await proxy.start()
  return proxy
}

/** A proxy that runs from a file. */
export async function startProxyFromFile(
  file: string,
  options: Pick<ProxyOptions, 'port' | 'httpPort' | 'environment'> = {},
): Promise<ProxyProcess> {
  const proxy = new ProxyProcess({
    name: 'proxy',
    source: ['--config', file],
    port: options.port ?? (await freePort()),
    httpPort: options.httpPort ?? (await freePort()),
    state: undefined,
    environment: options.environment ?? {},
  })
  await proxy.start()
  return proxy
}
