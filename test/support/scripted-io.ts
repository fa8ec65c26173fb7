/**
 * The engine's Io in the hands of a test: a clock that stands until the test moves it, and sockets whose other end is the
 * test. Nothing happens by itself, so a test sees exactly what one event leads to.
 */
import { IoError } from '../../proxy/io/io.ts'
import type {
  Address,
  CloseCause,
  Io,
  Listener,
  Socket,
  SocketEvents,
  TcpOptions,
  Timer,
  TlsContext,
} from '../../proxy/io/io.ts'

interface Waiting {
  readonly atMs: number
  readonly run: () => void
}

export class ScriptedIo implements Io {
  /** Connections that the engine has opened, oldest first. */
  readonly dialed: ScriptedSocket[] = []
  readonly #timers = new Set<Waiting>()
  readonly #sockets = new Set<ScriptedSocket>()
  readonly #accepting = new Map<number, (socket: Socket) => SocketEvents>()
  #nowMs = 1000
  #nextPort = 6000

  nowMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return Date.UTC(2026, 0, 1) + this.#nowMs
  }

  /** Lets time pass; timers run in order, each at its time. */
  pass(ms: number): void {
    const untilMs = this.#nowMs + ms
    for (;;) {
      const [next] = [...this.#timers].sort((a, b) => a.atMs - b.atMs)
      if (next === undefined || next.atMs > untilMs) break
      this.#timers.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.run()
      this.turn()
    }
    this.#nowMs = untilMs
  }

  /** Delivers to sockets that are read again what they have received. */
  turn(): void {
    while ([...this.#sockets].some((socket) => socket.deliver()));
  }

  listen({ port: wanted }: Address, onAccept: (socket: Socket) => SocketEvents): Listener {
    const port = wanted === 0 ? this.#nextPort++ : wanted
    if (this.#accepting.has(port)) throw new IoError(`port ${port} is in use`, 'EADDRINUSE')
    this.#accepting.set(port, onAccept)
    return { port, close: () => void this.#accepting.delete(port) }
  }

  /** A client connects; the other end is the test. */
  accept(port: number): ScriptedSocket {
    const onAccept = this.#accepting.get(port)
    if (onAccept === undefined) throw new Error(`nothing listens on port ${port}`)
    const socket = this.#newSocket({ host: '10.0.0.1', port: this.#nextPort++ })
    socket.events = onAccept(socket)
    return socket
  }

  connect(address: Address, options: TcpOptions, events: SocketEvents): Socket {
    const socket = this.#newSocket(address)
    socket.events = events
    socket.tcpOptions = options
    this.dialed.push(socket)
    return socket
  }

  #newSocket(remote: Address): ScriptedSocket {
    const socket = new ScriptedSocket(this, remote)
    this.#sockets.add(socket)
    return socket
  }

  after(delayMs: number, run: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, run }
    this.#timers.add(timer)
    return { cancel: () => void this.#timers.delete(timer) }
  }

  tlsContext(): TlsContext {
    return { free() {} }
  }

  /** Always the same bytes. */
  random(bytes: Uint8Array): void {
    bytes.fill(7)
  }
}

export class ScriptedSocket implements Socket {
  events: SocketEvents = noEvents
  readonly remote: Address
  readonly local: Address = { host: '127.0.0.1', port: 6432 }
  readonly tls = null
  tcpOptions: TcpOptions | null = null
  /** How the engine has ended it; null while it is open. */
  ended: 'close' | 'end' | null = null
  readonly #io: ScriptedIo
  #sent: Buffer[] = []
  #received: Buffer = Buffer.alloc(0)
  /** Bytes have arrived, or reading was resumed, since the last delivery. */
  #due = false
  #paused = false
  #suspended = false
  #full = false
  #queuedBytes = 0

  constructor(io: ScriptedIo, remote: Address) {
    this.#io = io
    this.remote = remote
  }

  // The test's end

  /** The outgoing connection is open. */
  open(): void {
    this.events.onConnect()
    this.#io.turn()
  }

  /** The peer sends bytes. */
  receive(...parts: readonly Uint8Array[]): void {
    this.#received = Buffer.concat([this.#received, ...parts])
    this.#due = true
    this.#io.turn()
  }

  /** The peer or the network ends it. */
  lose(cause: CloseCause): void {
    if (this.ended !== null) return
    this.ended = 'close'
    this.events.onClose(cause)
    this.#io.turn()
  }

  /** What the engine has sent since the last call. */
  taken(): Buffer {
    const taken = Buffer.concat(this.#sent)
    this.#sent = []
    return taken
  }

  /** The peer takes nothing more: what is sent from now on is queued. */
  fill(): void {
    this.#full = true
  }

  /** The peer has taken everything. */
  drain(): void {
    this.#full = false
    this.#queuedBytes = 0
    this.events.onDrain()
    this.#io.turn()
  }

  /** False if there is nothing to deliver. */
  deliver(): boolean {
    if (!this.#due || this.#paused || this.#suspended || this.ended !== null) return false
    this.#due = false
    if (this.#received.length === 0) return false
    // Behind other bytes, and overwritten afterwards: handlers must heed the offsets and keep no view.
    const bytes = Buffer.concat([Buffer.from('other'), this.#received])
    const end = this.events.onData(bytes, 5, bytes.length)
    this.#received = Buffer.from(bytes.subarray(end))
    bytes.fill(0xee)
    return true
  }

  // The engine's end

  send(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.ended !== null) return true
    this.#sent.push(Buffer.from(bytes.subarray(start, end)))
    if (!this.#full) return true
    this.#queuedBytes += end - start
    return false
  }

  get queuedBytes(): number {
    return this.#queuedBytes
  }

  pauseReading(): void {
    this.#paused = true
  }

  resumeReading(): void {
    this.#paused = false
    this.#due = true
  }

  get readingPaused(): boolean {
    return this.#paused
  }

  suspendReading(): void {
    this.#suspended = true
  }

  unsuspendReading(): void {
    this.#suspended = false
    this.#due = true
  }

  startTls(): void {
    throw new Error('a scripted socket has no TLS')
  }

  setTcpOptions(options: TcpOptions): void {
    this.tcpOptions = options
  }

  close(): void {
    this.ended ??= 'close'
  }

  end(): void {
    this.ended ??= 'end'
  }
}

function early(): never {
  throw new Error('an event before there are events')
}

const noEvents: SocketEvents = { onConnect: early, onData: early, onDrain: early, onClose: early }
