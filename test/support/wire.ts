/** A client that sends any bytes and sees every message, for what a well-behaved driver cannot be made to do. */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { atEndOfFile } from './cleanup.ts'
import { cstring, int32, passwordMessage, startup } from './frontend-messages.ts'

export interface Message {
  /** One character, for example "Z". */
  readonly tag: string
  /** Without tag and length. */
  readonly body: Buffer
}

export interface LoginOptions {
  readonly user: string
  readonly password?: string
  readonly database?: string
  /** Further startup parameters. */
  readonly parameters?: Readonly<Record<string, string>>
}

/** The connection has ended: `reset` by RST, or `closed` by FIN. */
export class ConnectionEnded extends Error {
  readonly how: 'closed' | 'reset'
  constructor(how: 'closed' | 'reset') {
    super(`the connection was ${how}`)
    this.name = 'ConnectionEnded'
    this.how = how
  }
}

export class WireClient {
  readonly socket: Socket
  /** From BackendKeyData; the server determines the length of the secret. */
  key: { pid: number; secret: Buffer } | undefined
  /** From ParameterStatus, during login and later. */
  readonly parameters = new Map<string, string>()
  #received: Buffer = Buffer.alloc(0)
  #ended: ConnectionEnded | undefined
  #wake: (() => void) | undefined

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk) => {
      this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
      this.#wake?.()
    })
    const end = (how: 'closed' | 'reset') => {
      this.#ended ??= new ConnectionEnded(how)
      this.#wake?.()
    }
    socket.on('end', () => end('closed'))
    socket.on('close', () => end('closed'))
    socket.on('error', () => end('reset'))
  }

  /** `from` is an address of this machine. Closed at the end of the test file at the latest. */
  static async connect(address: { host: string; port: number }, from?: string): Promise<WireClient> {
    const local = from === undefined ? {} : { localAddress: from }
    const socket = connect({ host: address.host, port: address.port, noDelay: true, allowHalfOpen: true, ...local })
    const client = new WireClient(socket)
    atEndOfFile(() => client.destroy())
    await once(socket, 'connect')
    return client
  }

  /** Connects and logs in by the method the server requests, up to ReadyForQuery. @throws Error with the SQLSTATE. */
  static async login(address: { host: string; port: number }, options: LoginOptions): Promise<WireClient> {
    const client = await WireClient.connect(address)
    await client.login(options)
    return client
  }

  /** Sends the startup packet and authenticates; returns all messages up to ReadyForQuery. */
  async login(options: LoginOptions): Promise<Message[]> {
    const { user, password = '', database = user, parameters = {} } = options
    this.send(startup({ user, database, ...parameters }))
    const seen: Message[] = []
    let proof: ((serverFirst: string) => string) | undefined
    for (;;) {
      const message = await this.read()
      seen.push(message)
      if (message.tag === 'Z') return seen
      if (message.tag === 'E') throw new LoginRefused(message)
      if (message.tag !== 'R') continue
      const data = message.body.subarray(4)
      switch (message.body.readInt32BE(0)) {
        case 0: // AuthenticationOk
        case 12: // AuthenticationSASLFinal
          break
        case 3: // AuthenticationCleartextPassword
          this.send(passwordMessage(cstring(password)))
          break
        case 5: // AuthenticationMD5Password
          this.send(passwordMessage(cstring(`md5${md5(Buffer.from(md5(Buffer.from(password + user))), data)}`)))
          break
        case 10: {
          // AuthenticationSASL
          const nonce = randomBytes(18).toString('base64')
          const first = Buffer.from(`n,,n=,r=${nonce}`)
          proof = (serverFirst) => scramProof(password, `n=,r=${nonce}`, serverFirst)
          this.send(passwordMessage(cstring('SCRAM-SHA-256'), int32(first.length), first))
          break
        }
        case 11: // AuthenticationSASLContinue
          this.send(passwordMessage(Buffer.from(proof?.(data.toString()) ?? '')))
          break
        default:
          throw new Error(`no answer to authentication request ${message.body.readInt32BE(0)}`)
      }
    }
  }

  /** Bytes, or hex with blanks for readability. */
  send(...parts: readonly (Uint8Array | string)[]): void {
    this.socket.write(
      Buffer.concat(
        parts.map((part) => (typeof part === 'string' ? Buffer.from(part.replaceAll(' ', ''), 'hex') : part)),
      ),
    )
  }

  /** The next message. @throws ConnectionEnded if there is none. */
  async read(): Promise<Message> {
    await this.#until(5)
    const length = this.#received.readInt32BE(1) + 1
    await this.#until(length)
    const tag = String.fromCharCode(this.#received[0] ?? 0)
    const body = Buffer.from(this.#received.subarray(5, length))
    this.#received = this.#received.subarray(length)
    this.#note({ tag, body })
    return { tag, body }
  }

  /** All messages up to and including the `count`th with this tag. */
  async readUntil(tag: string, count = 1): Promise<Message[]> {
    const seen: Message[] = []
    for (let left = count; left > 0;) {
      const message = await this.read()
      seen.push(message)
      if (message.tag === tag) left--
    }
    return seen
  }

  /** One byte without a frame: the answer to SSLRequest. */
  async readByte(): Promise<string> {
    await this.#until(1)
    const byte = String.fromCharCode(this.#received[0] ?? 0)
    this.#received = this.#received.subarray(1)
    return byte
  }

  /** All messages until the peer ends the connection, and how it did. */
  async readToEnd(): Promise<{ messages: Message[]; how: 'closed' | 'reset' }> {
    const messages: Message[] = []
    for (;;) {
      try {
        messages.push(await this.read())
      } catch (error) {
        if (error instanceof ConnectionEnded) return { messages, how: error.how }
        throw error
      }
    }
  }

  /** Bytes received and not read yet. */
  get unread(): number {
    return this.#received.length
  }

  /** FIN, after everything sent. */
  close(): void {
    this.socket.end()
  }

  /** RST, as a crashed machine's kernel sends. */
  reset(): void {
    this.socket.resetAndDestroy()
  }

  destroy(): void {
    this.socket.destroy()
  }

  async #until(bytes: number): Promise<void> {
    while (this.#received.length < bytes) {
      if (this.#ended !== undefined) throw this.#ended
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  #note({ tag, body }: Message): void {
    if (tag === 'K') this.key = { pid: body.readInt32BE(0), secret: body.subarray(4) }
    if (tag === 'S') {
      const [name = '', value = ''] = body.toString().split('\0')
      this.parameters.set(name, value)
    }
  }
}

export class LoginRefused extends Error {
  readonly sqlstate: string
  constructor(response: Message) {
    const fields = errorFields(response)
    super(`${fields['C']} ${fields['M']}`)
    this.name = 'LoginRefused'
    this.sqlstate = fields['C'] ?? ''
  }
}

/** Fields of an ErrorResponse or NoticeResponse by their one-letter codes: C is the SQLSTATE, M the message. */
export function errorFields({ body }: Message): Record<string, string> {
  const fields: Record<string, string> = {}
  for (const field of body.toString().split('\0')) if (field !== '') fields[field.slice(0, 1)] = field.slice(1)
  return fields
}

function md5(...parts: readonly Buffer[]): string {
  const hash = createHash('md5')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

/** RFC 5802, section 3, without channel binding. */
function scramProof(password: string, clientFirstBare: string, serverFirst: string): string {
  const fields = new Map(serverFirst.split(',').map((field) => [field.slice(0, 1), field.slice(2)]))
  const salt = Buffer.from(fields.get('s') ?? '', 'base64')
  const salted = pbkdf2Sync(password.normalize('NFKC'), salt, Number(fields.get('i')), 32, 'sha256')
  const clientKey = createHmac('sha256', salted).update('Client Key').digest()
  const withoutProof = `c=biws,r=${fields.get('r')}`
  const storedKey = createHash('sha256').update(clientKey).digest()
  const signature = createHmac('sha256', storedKey).update(`${clientFirstBare},${serverFirst},${withoutProof}`).digest()
  const proof = clientKey.map((byte, i) => byte ^ (signature[i] ?? 0))
  return `${withoutProof},p=${Buffer.from(proof).toString('base64')}`
}
