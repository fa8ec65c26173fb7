/** A PostgreSQL server scripted by a test, byte by byte, for what a real one cannot be made to do. */
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { atEndOfFile } from './cleanup.ts'
import { cstring, int32, message } from './frontend-messages.ts'

export interface ScriptedServer {
  readonly host: string
  readonly port: number
  /** All connections so far, oldest first, including ended ones. */
  readonly connections: readonly Connection[]
  /** The next connection, or the oldest that was not returned yet. */
  next(): Promise<Connection>
  /** Refuses connections from now on; open ones stay. */
  refuse(): Promise<void>
}

/** `script` runs for each connection; its errors after the end of the connection are ignored. */
export async function startScriptedServer(
  script: (connection: Connection) => Promise<void> = async () => {},
): Promise<ScriptedServer> {
  const connections: Connection[] = []
  let taken = 0
  let wake: (() => void) | undefined
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    const connection = new Connection(socket)
    connections.push(connection)
    wake?.()
    script(connection).catch((error: unknown) => {
      if (!(error instanceof Ended)) throw error
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  atEndOfFile(() => {
    server.close()
    for (const { socket } of connections) socket.destroy()
  })
  return {
    host: '127.0.0.1',
    port,
    connections,
    async next() {
      while (connections.length <= taken) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      taken++
      return connections[taken - 1] as Connection
    },
    refuse: () =>
      new Promise((resolve) => {
        server.close()
        server.unref()
        // New connections are refused at once; the callback would wait for the open ones.
        setImmediate(resolve)
      }),
  }
}

class Ended extends Error {}

export class Connection {
  readonly socket: Socket
  /** Resolves when the peer has closed or reset it. */
  readonly ended: Promise<void>
  #received: Buffer = Buffer.alloc(0)
  #over = false
  #wake: (() => void) | undefined

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake?.()
    })
    this.ended = new Promise((resolve) => {
      const end = (): void => {
        this.#over = true
        this.#wake?.()
        resolve()
      }
      socket.on('end', end)
      socket.on('error', end)
      socket.on('close', end)
    })
  }

  /** A startup packet or cancel request, without the length. */
  async readStartup(): Promise<Buffer> {
    await this.#until(4)
    const length = this.#received.readInt32BE(0)
    await this.#until(length)
    return this.#take(length).subarray(4)
  }

  async read(): Promise<{ tag: string; body: Buffer }> {
    await this.#until(5)
    const length = this.#received.readInt32BE(1) + 1
    await this.#until(length)
    const whole = this.#take(length)
    return { tag: whole.toString('latin1', 0, 1), body: whole.subarray(5) }
  }

  /** Reads up to and including the first message with this tag. */
  async readUntil(tag: string): Promise<void> {
    while ((await this.read()).tag !== tag);
  }

  /** Reads the startup packet and accepts the login. */
  async acceptLogin(): Promise<void> {
    await this.readStartup()
    this.send(authenticationOk, parameterStatus('server_version', '18.0'), backendKeyData(1, 2), ready())
  }

  send(...parts: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(parts))
  }

  /** FIN, after everything sent. */
  close(): void {
    this.socket.end()
  }

  reset(): void {
    this.socket.resetAndDestroy()
  }

  #take(length: number): Buffer {
    const taken = this.#received.subarray(0, length)
    this.#received = this.#received.subarray(length)
    return taken
  }

  async #until(bytes: number): Promise<void> {
    while (this.#received.length < bytes) {
      if (this.#over) throw new Ended('the connection has ended')
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}

// Messages of a server

export const authenticationOk = message('R', int32(0))

export function parameterStatus(name: string, value: string): Buffer {
  return message('S', cstring(name), cstring(value))
}

export function backendKeyData(pid: number, secret: number): Buffer {
  return message('K', int32(pid), int32(secret))
}

export function ready(status: 'I' | 'T' | 'E' = 'I'): Buffer {
  return message('Z', Buffer.from(status))
}

export function errorResponse(severity: string, sqlstate: string, text: string): Buffer {
  return message('E', ...fields(severity, sqlstate, text))
}

export function noticeResponse(text: string): Buffer {
  return message('N', ...fields('NOTICE', '00000', text))
}

function fields(severity: string, sqlstate: string, text: string): Buffer[] {
  return [...[`S${severity}`, `V${severity}`, `C${sqlstate}`, `M${text}`].map(cstring), Buffer.from([0])]
}

export function commandComplete(tag: string): Buffer {
  return message('C', cstring(tag))
}

/** One row with one text column. */
export function dataRow(value: string): Buffer {
  const bytes = Buffer.from(value)
  return message('D', Buffer.from([0, 1]), int32(bytes.length), bytes)
}
