/** A whole engine on real sockets in the test's own thread, turned between other things, so that a test sees inside. */
import { Client } from 'pg'
import type { ClientConfig } from 'pg'
import { generalSettings, poolSettings } from '../../../shared/config/settings.ts'
import type { PoolValues } from '../../../shared/config/keys.ts'
import { Console } from '../../../proxy/console/console.ts'
import { Engine } from '../../../proxy/engine/engine.ts'
import type { FromEngine } from '../../../proxy/port.ts'
import type { ConsoleUserSpec, FleetSpec, PoolSpec } from '../../../proxy/spec.ts'
import { EpollIo } from '../../../proxy/io/epoll.ts'
import { atEndOfFile } from '../../support/cleanup.ts'

export const hashA = 'a'.repeat(64)
export const hashB = 'b'.repeat(64)

export class EngineInProcess {
  readonly engine: Engine
  /** The engine as its console has it. */
  readonly operated: Console
  readonly posted: FromEngine[] = []
  readonly #io: EpollIo
  readonly #waiting = new Set<() => void>()
  #ended = false

  constructor() {
    this.#io = new EpollIo({ openFds: null, ioUring: true, onExhausted: () => {} })
    let operated: Console | null = null
    this.engine = new Engine(
      this.#io,
      { listen: { host: '127.0.0.1', port: 0 }, console: (engine) => (operated = new Console(engine)) },
      (message) => {
        this.posted.push(message)
      },
    )
    this.operated = operated as unknown as Console // made by the engine, which the compiler cannot see
    this.#turn()
    atEndOfFile(() => this.#end())
  }

  get port(): number {
    return this.engine.port
  }

  #turn(): void {
    if (this.#ended) return
    this.#io.turn(0)
    for (const look of this.#waiting) look()
    setTimeout(() => this.#turn(), 1)
  }

  #end(): void {
    this.engine.receive({ type: 'stop', mode: 'now', timeoutMs: 0 })
    this.#ended = true
    this.#io.dispose()
  }

  /** Resolves after the turn of the loop in which `happened` is true. */
  until(happened: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!happened()) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }

  apply(version: number, pools: readonly PoolSpec[], consoleUsers: readonly ConsoleUserSpec[] = adminAndMonitor): void {
    const spec: FleetSpec = {
      position: { epoch: 1, version },
      general: generalSettings({}),
      generalValues: {},
      consoleUsers,
      pools,
    }
    this.engine.receive({ type: 'apply', id: version, force: false, spec })
  }

  /** Logged in; the caller ends it. */
  async connect(config: ClientConfig): Promise<Client> {
    const client = new Client({ host: '127.0.0.1', port: this.port, ...config })
    // The engine may close it when the file ends.
    client.on('error', () => {})
    await client.connect()
    atEndOfFile(() => client.end())
    return client
  }

  console(user = 'admin', database = 'pgbouncer'): Promise<Client> {
    return this.connect({ user, database, application_name: 'test' })
  }
}

const adminAndMonitor: readonly ConsoleUserSpec[] = [
  { user: 'admin', right: 'admin', clientSecret: null },
  { user: 'monitor', right: 'stats', clientSecret: null },
]

/** A pool that trusts its clients and its server. */
export function poolSpec(
  given: Partial<PoolSpec> & { readonly port: number },
  values: Partial<PoolValues> = {},
): PoolSpec {
  const { port, ...rest } = given
  return {
    database: 'app',
    user: 'web',
    hash: hashA,
    connectHash: hashA,
    serverDatabase: 'postgres',
    serverUser: 'postgres',
    settings: poolSettings({ auth_type: 'trust', ...values }),
    hosts: [{ host: '127.0.0.1', port, role: 'primary', addresses: ['127.0.0.1'] }],
    clientSecret: { md5: null, scram: null },
    serverPassword: null,
    ...rest,
  }
}
