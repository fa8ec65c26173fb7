/** An engine on scripted sockets that tries versions: the test is the servers. */
import { Engine } from '../../../../proxy/engine/engine.ts'
import type { FromEngine, PreflightRule } from '../../../../proxy/port.ts'
import type { PoolSnapshot } from '../../../../proxy/snapshot.ts'
import type { PoolSpec, PreflightOutcome } from '../../../../proxy/spec.ts'
import type { PoolValues } from '../../../../shared/config/keys.ts'
import { generalSettings, poolSettings } from '../../../../shared/config/settings.ts'
import { query, startup } from '../../../support/frontend-messages.ts'
import { ScriptedIo } from '../../../support/scripted-io.ts'
import type { ScriptedSocket } from '../../../support/scripted-io.ts'
import { errorResponse } from '../../../support/scripted-server.ts'
import { serverGreeting } from '../pool/scripted-world.ts'

/** A pool of a version; pools with the same `connect` have servers that may stay. */
export interface Wanted {
  readonly database?: string
  readonly user?: string
  readonly connect?: string
  readonly addresses?: readonly string[]
  readonly server?: Partial<Pick<PoolSpec, 'serverDatabase' | 'serverUser' | 'serverPassword' | 'authPassword'>>
  readonly values?: Partial<PoolValues>
}

export class ScriptedVersions {
  readonly io = new ScriptedIo()
  readonly posted: FromEngine[] = []
  readonly engine: Engine
  #version = 0

  constructor() {
    this.engine = new Engine(this.io, { listen: { host: '127.0.0.1', port: 0 } }, (message) => {
      this.posted.push(message)
    })
  }

  #spec(wanted: readonly Wanted[], version: number) {
    const pools = wanted.map(
      ({ database = 'app', user = 'app', connect = 'a', addresses = ['10.0.0.1'], server, values }): PoolSpec => ({
        database,
        user,
        hash: `${connect} ${JSON.stringify(values ?? {})}`,
        connectHash: connect,
        serverDatabase: database,
        serverUser: user,
        settings: poolSettings({ auth_type: 'trust', connect_timeout: '5s', ...values }),
        hosts: [{ host: 'db', port: 5432, role: 'primary', addresses }],
        clientSecret: { md5: null, scram: null },
        serverPassword: 'secret',
        ...server,
      }),
    )
    const position = { epoch: 1, version }
    return { position, general: generalSettings({}), generalValues: {}, consoleUsers: [], pools }
  }

  apply(...wanted: readonly Wanted[]): void {
    const version = ++this.#version
    this.engine.receive({ type: 'apply', id: version, force: false, spec: this.#spec(wanted, version) })
    this.io.turn()
    this.engine.assertInvariants()
  }

  /** Begins to try a version, which `apply` would apply. */
  preflight(
    wanted: readonly Wanted[],
    { rule = 'guard', atOnce = 16 }: { rule?: PreflightRule; atOnce?: number } = {},
  ) {
    const spec = this.#spec(wanted, this.#version + 1)
    this.engine.receive({ type: 'preflight', id: 1, spec, rule, atOnce })
    this.io.pass(0)
    this.engine.assertInvariants()
  }

  refuse(): void {
    this.engine.receive({ type: 'preflight_over' })
    this.io.turn()
    this.engine.assertInvariants()
  }

  /** Undefined while it is being tried. */
  get outcome(): PreflightOutcome | undefined {
    return this.posted.findLast((message) => message.type === 'preflighted')?.outcome
  }

  /** Connections to servers that are open, oldest first. */
  get open(): ScriptedSocket[] {
    return this.io.dialed.filter(({ ended }) => ended === null)
  }

  /** The newest connection to a server. */
  get dialed(): ScriptedSocket {
    const socket = this.io.dialed.at(-1)
    if (socket === undefined) throw new Error('the engine has opened no connection')
    return socket
  }

  /** A client that is greeted, by a server that logs in for it where that is needed. */
  client(database = 'app', user = 'app'): ScriptedSocket {
    const before = this.io.dialed.length
    const socket = this.io.accept(this.engine.port)
    socket.receive(startup({ user, database }))
    if (this.io.dialed.length > before) this.logsIn()
    socket.taken()
    return socket
  }

  /** A client that holds a server. */
  busy(database = 'app', user = 'app'): ScriptedSocket {
    const client = this.client(database, user)
    client.receive(query('BEGIN'))
    return client
  }

  /** The server of this connection, the newest one by default, accepts the login. */
  logsIn(socket = this.dialed): void {
    socket.open()
    socket.taken()
    socket.receive(serverGreeting)
    this.io.pass(0)
  }

  /** The server answers the login with an error. */
  refuses(sqlstate: string): void {
    const { dialed } = this
    dialed.open()
    dialed.receive(errorResponse('FATAL', sqlstate, `error ${sqlstate}`))
    this.io.pass(0)
  }

  /** Nothing listens there. */
  refusesConnection(): void {
    this.dialed.lose({ kind: 'refused', errno: 'ECONNREFUSED' })
    this.io.pass(0)
  }

  pool(database = 'app', user = 'app'): PoolSnapshot {
    const pool = this.engine.snapshot().pools.find((one) => one.pool === database && one.user === user)
    if (pool === undefined) throw new Error(`no pool ${database} of ${user}`)
    return pool
  }
}
