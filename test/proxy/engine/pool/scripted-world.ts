/** An engine with one database on scripted sockets: the test is its clients and its servers. */
import { Engine } from '../../../../proxy/engine/engine.ts'
import type { FromEngine } from '../../../../proxy/port.ts'
import type { PoolSnapshot } from '../../../../proxy/snapshot.ts'
import type { PoolSpec } from '../../../../proxy/spec.ts'
import { generalSettings, poolSettings } from '../../../../shared/config/settings.ts'
import type { PoolValues } from '../../../../shared/config/keys.ts'
import type { EngineDisconnect } from '../../../../shared/disconnect.ts'
import { cancelRequest, startup } from '../../../support/frontend-messages.ts'
import { describe } from '../../../support/oracle.ts'
import { authenticationOk, backendKeyData, parameterStatus, ready } from '../../../support/scripted-server.ts'
import { ScriptedIo } from '../../../support/scripted-io.ts'
import type { ScriptedSocket } from '../../../support/scripted-io.ts'

export const serverKey = { pid: 4711, secret: 0x01020304 }

export const serverGreeting = Buffer.concat([
  authenticationOk,
  parameterStatus('server_version', '18.0'),
  parameterStatus('client_encoding', 'UTF8'),
  backendKeyData(serverKey.pid, serverKey.secret),
  ready(),
])

export interface WorldOptions {
  readonly values?: Partial<PoolValues>
  readonly users?: readonly string[]
  readonly addresses?: readonly string[]
}

export class ScriptedWorld {
  readonly io = new ScriptedIo()
  readonly posted: FromEngine[] = []
  readonly #engine: Engine
  readonly #options: WorldOptions
  #version = 0
  #dialed = 0

  constructor(values: Partial<PoolValues> = {}, options: Omit<WorldOptions, 'values'> = {}) {
    this.#options = options
    const listen = { host: '127.0.0.1', port: 0 }
    this.#engine = new Engine(this.io, { listen }, (message) => void this.posted.push(message))
    this.apply(values)
  }

  /** A new version with these values; the same addresses, so that values of the class `live` keep the servers. */
  apply(values: Partial<PoolValues>): void {
    const version = ++this.#version
    const { users = ['app'], addresses = ['10.0.0.9'] } = this.#options
    const pools = users.map((user): PoolSpec => ({
      database: 'app',
      user,
      hash: `${version}`.padStart(64, '0'),
      connectHash: '0'.repeat(64),
      serverDatabase: 'postgres',
      serverUser: user,
      settings: poolSettings({ auth_type: 'trust', ...values }),
      hosts: [{ host: 'db', port: 5432, role: 'primary', addresses }],
      clientSecret: { md5: null, scram: null },
      serverPassword: null,
    }))
    const spec = {
      position: { epoch: 1, version },
      general: generalSettings({}),
      generalValues: {},
      consoleUsers: [],
      pools,
    }
    this.#engine.receive({ type: 'apply', id: version, force: false, spec })
    this.io.turn()
  }

  operate(operation: 'pause' | 'resume' | 'reconnect'): void {
    const { pools } = this.#engine
    if (operation === 'reconnect') for (const source of pools.sources()) source.current?.retire()
    else pools.setPaused('app', operation === 'pause')
    this.io.turn()
  }

  /** A client that has sent its startup packet, and is greeted if a server has been greeted before. */
  client(parameters: Readonly<Record<string, string>> = {}): ScriptedSocket {
    const socket = this.io.accept(this.#engine.port)
    socket.receive(startup({ user: 'app', database: 'app', ...parameters }))
    return socket
  }

  /** A connection with a cancel request for the client that has this key. */
  cancel({ pid, secret }: { readonly pid: number; readonly secret: Uint8Array }): ScriptedSocket {
    const socket = this.io.accept(this.#engine.port)
    socket.receive(cancelRequest(pid, secret))
    return socket
  }

  /** The next connection to a server, which has not been opened yet. */
  dialed(): ScriptedSocket {
    const socket = this.io.dialed[this.#dialed]
    if (socket === undefined) throw new Error('the engine has opened no further connection')
    this.#dialed++
    return socket
  }

  /** The next connection to a server, logged in. */
  server(): ScriptedSocket {
    const socket = this.dialed()
    socket.open()
    socket.taken()
    socket.receive(serverGreeting)
    return socket
  }

  /** Connections to servers that `dialed` and `server` have not given. */
  get undialed(): number {
    return this.io.dialed.length - this.#dialed
  }

  /** A client that is greeted and idle, and the server that greeted it, idle too. */
  greeted(): { readonly client: ScriptedSocket; readonly server: ScriptedSocket } {
    const client = this.client()
    const server = this.server()
    client.taken()
    return { client, server }
  }

  pool(user = 'app'): PoolSnapshot {
    const pool = this.#engine.snapshot().pools.find((one) => one.user === user)
    if (pool === undefined) throw new Error(`no pool of ${user}`)
    return pool
  }

  /** Unplanned ends of servers. */
  get disconnects(): EngineDisconnect[] {
    return this.posted.flatMap((message) => (message.type === 'disconnect' ? [message.disconnect] : []))
  }

  check(): void {
    this.#engine.assertInvariants()
  }
}

/** One line for each message of a server that was sent to a client. */
export function answers(socket: ScriptedSocket): string[] {
  return split(socket.taken()).map(({ tag, body }) => describe({ tag, body }))
}

/** One line for each message of a client that was sent to a server: its tag, and the text of a Query. */
export function requests(socket: ScriptedSocket): string[] {
  return split(socket.taken()).map(({ tag, body }) =>
    tag === 'Q' ? `Q ${body.toString('utf8', 0, body.length - 1)}` : tag,
  )
}

function split(bytes: Buffer): { tag: string; body: Buffer }[] {
  const messages: { tag: string; body: Buffer }[] = []
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + bytes.readInt32BE(at + 1)
    if (end > bytes.length) throw new Error(`the last message is not whole: ${bytes.toString('hex', at)}`)
    messages.push({ tag: bytes.toString('latin1', at, at + 1), body: bytes.subarray(at + 5, end) })
    at = end
  }
  return messages
}
