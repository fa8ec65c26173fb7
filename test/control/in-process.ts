/** Control's app on a real SQLite file, called without a network, with a clock that stands still until it is moved. */
import { randomBytes } from 'node:crypto'
import type { Fleet } from '../../shared/api.ts'
import type { Hint, Manifest, OperationRequest, OperationOutcome, PoolReport, Report } from '../../shared/wire.ts'
import { parseNetwork } from '../../shared/registered-address.ts'
import { createApp } from '../../control/app.ts'
import { createSealing } from '../../control/domain/sealing.ts'
import type { ControlHost } from '../../control/host.ts'
import { NodeMetrics } from '../../control/node/metrics.ts'
import { NodeParking } from '../../control/node/parking.ts'
import { NodePresence } from '../../control/node/presence.ts'
import { openSqliteStore } from '../../control/node/sqlite-store.ts'
import type { HintTarget } from '../../control/store/proxies.ts'
import { findVersion } from '../../control/store/versions.ts'
import { atEndOfFile } from '../support/cleanup.ts'
import { tempFolder } from '../support/temp-folder.ts'

export const operatorToken = 'the operator of the tests'.replaceAll(' ', '-')

export interface Answer<Body = unknown> {
  readonly status: number
  readonly headers: Headers
  /** Undefined when there is none. */
  readonly body: Body
  readonly text: string
}

export interface Call {
  /** The operator's unless given; null sends none. */
  readonly token?: string | null
  /** Sent as JSON. */
  readonly body?: unknown
  /** Sent as TOML. */
  readonly toml?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

export interface InProcessOptions {
  readonly folder?: string
  readonly parks?: boolean
  /** Where proxies may register to be reached, as operators write it. */
  readonly proxyNetworks?: readonly string[]
}

export class InProcessControl {
  readonly host: ControlHost
  readonly app: ReturnType<typeof createApp>
  readonly clock: { nowMs: number }
  /** Every hint sent, in order. */
  readonly operations: { target: HintTarget; request: OperationRequest }[] = []
  /** What proxies answer to operations, by id; the others do not. */
  readonly operationOutcomes = new Map<string, OperationOutcome>()
  readonly hints: { targets: readonly HintTarget[]; hint: Hint }[] = []
  /** Everything logged as control's own fault. */
  readonly faults: unknown[] = []
  readonly #parking = new NodeParking()

  constructor(store: ControlHost['store'], { parks = true, proxyNetworks }: InProcessOptions) {
    this.clock = { nowMs: Date.parse('2026-11-23T19:00:00.000Z') }
    this.host = {
      store,
      nowMs: () => this.clock.nowMs,
      random: randomBytes,
      sealing: createSealing(Buffer.alloc(32, 7), randomBytes),
      operatorToken,
      proxyNetworks: proxyNetworks?.map((text) => parseNetwork(text)!),
      presence: new NodePresence(() => this.clock.nowMs),
      parsed: new Map(),
      hints: { send: (targets, hint) => void this.hints.push({ targets, hint }), cleared: () => undefined },
      operations: {
        send: async (target, operation) => {
          this.operations.push({ target, request: operation })
          const outcome = this.operationOutcomes.get(target.proxy)
          return await Promise.resolve(outcome === undefined ? { kind: 'unreachable' } : { kind: 'answered', outcome })
        },
      },
      metrics: new NodeMetrics(),
      logError: (_, error) => void this.faults.push(error),
      ...(parks ? { parking: this.#parking } : {}),
    }
    this.app = createApp(this.host)
    atEndOfFile(async () => {
      this.#parking.close()
      await store.close()
    })
  }

  /** The answer's body is taken for what the caller says it is: these are tests of it. */
  async call<Body = unknown>(method: string, path: string, call: Call = {}): Promise<Answer<Body>> {
    const { token = operatorToken, body, toml, headers = {}, signal } = call
    const type = body !== undefined ? 'application/json' : toml !== undefined ? 'application/toml' : undefined
    const answer = await this.app.request(path, {
      method,
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(type === undefined ? {} : { 'content-type': type }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(toml === undefined ? {} : { body: toml }),
      ...(signal === undefined ? {} : { signal }),
    })
    const text = await answer.text()
    const isJson = answer.headers.get('content-type')?.includes('json') === true
    return {
      status: answer.status,
      headers: answer.headers,
      body: (isJson ? JSON.parse(text) : undefined) as Body,
      text,
    }
  }

  /** Makes fleet `demo`. Gives a token for its proxies. */
  async fleet(name = 'demo'): Promise<string> {
    await this.call('PUT', `/v1/fleets/${name}`)
    const { body } = await this.call<{ token: string }>('POST', `/v1/fleets/${name}/tokens`, { body: { name: 'test' } })
    return body.token
  }

  /** Makes a document the current one of fleet `demo`, whatever is current. */
  async apply<Body = { version: number }>(
    document: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer<Body>> {
    const { body } = await this.call<Fleet>('GET', '/v1/fleets/demo')
    return await this.call<Body>('PUT', '/v1/fleets/demo/config', {
      body: document,
      headers: { 'if-match': `"v${body.version}"`, ...headers },
    })
  }
}

/** What a proxy that runs `version` of fleet `demo` reports of its pools. */
export async function runningPools(control: InProcessControl, version: number): Promise<PoolReport[]> {
  const { manifest } = (await findVersion(control.host.store, 'demo', version))!
  const { pools } = JSON.parse(`{${manifest}`) as Pick<Manifest, 'pools'>
  return pools.map(({ pool, user, hash }) => ({
    pool,
    user,
    hash,
    desired_hash: hash,
    state: 'running',
    draining_servers: 0,
    code: null,
    message: null,
  }))
}

export async function inProcessControl(how: InProcessOptions = {}): Promise<InProcessControl> {
  const folder = how.folder ?? (await tempFolder())
  return new InProcessControl(await openSqliteStore(folder, new Date()), how)
}

/** A document with pool `app` and user `web`, and what is given put over the user's section. */
export function document(user: Record<string, unknown> = {}, defaults: Record<string, unknown> = {}): object {
  return {
    defaults,
    pools: { app: { servers: [{ host: '10.0.0.1' }], users: { web: { password: 'geheim', ...user } } } },
  }
}

/** A report of a proxy that runs `version` and has nothing to tell. */
export function report(version: number, over: Partial<Report> = {}): Report {
  const position = { epoch: 1, version }
  return {
    boot: 'boot-1',
    seq: 1,
    offered: position,
    applied: position,
    error: null,
    needs_restart: [],
    pools: [],
    events: [],
    dropped_events: 0,
    engine_restarts: [],
    stats: { clients: 0, waiting: 0, servers: 0 },
    ...over,
  }
}

/** A lost server connection. */
export function lost(id: string, over: Partial<Report['events'][number]> = {}): Report['events'][number] {
  return {
    id,
    at: '2026-11-23T18:59:00.000Z',
    pool: 'app',
    user: 'web',
    host: '10.0.0.1',
    port: 5432,
    role: 'primary',
    backend_pid: 17,
    cause: 'keepalive_timeout',
    errno: 'ETIMEDOUT',
    sqlstate: null,
    message: null,
    state: 'idle',
    connection_age_ms: 60_000,
    idle_ms: 30_000.5,
    client_hurt: false,
    pool_hash: 'a'.repeat(64),
    ...over,
  }
}
