import { randomFillSync } from 'node:crypto'
import type { Address, Io, Listener, Socket, SocketEvents, Timer, TlsContext } from '../proxy/io/io.ts'

const somewhere: Address = { host: '127.0.0.1', port: 0 }

/** An Io without a kernel: what is sent is dropped, what arrives is what the caller hands to `onData`. */
export class MemoryIo implements Io {
  /** Connections to servers, oldest first. */
  readonly connected: MemorySocket[] = []
  #nowMs = 0
  #onAccept: ((socket: Socket) => SocketEvents) | undefined

  accept(): MemorySocket {
    const socket = new MemorySocket()
    const events = this.#onAccept?.(socket)
    if (events === undefined) throw new Error('there is no listener')
    socket.events = events
    return socket
  }

  tick(ms: number): void {
    this.#nowMs += ms
  }

  nowMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return this.#nowMs
  }

  listen(_address: Address, onAccept: (socket: Socket) => SocketEvents): Listener {
    this.#onAccept = onAccept
    return { port: somewhere.port, close() {} }
  }

  connect(_address: Address, _options: unknown, events: SocketEvents): Socket {
    const socket = new MemorySocket()
    socket.events = events
    this.connected.push(socket)
    return socket
  }

  after(): Timer {
    return { cancel() {} }
  }

  tlsContext(): TlsContext {
    throw new Error('there is no TLS without a kernel')
  }

  random(bytes: Uint8Array): void {
    randomFillSync(bytes)
  }
}

export class MemorySocket implements Socket {
  events: SocketEvents = deaf
  readonly remote = somewhere
  readonly local = somewhere
  readonly queuedBytes = 0
  readonly tls = null
  readingPaused = false
  suspendReading(): void {}
  unsuspendReading(): void {}
  sentBytes = 0

  send(_bytes: Uint8Array, start: number, end: number): boolean {
    this.sentBytes += end - start
    return true
  }

  pauseReading(): void {
    this.readingPaused = true
  }

  resumeReading(): void {
    this.readingPaused = false
  }

  startTls(): void {
    throw new Error('there is no TLS without a kernel')
  }

  setTcpOptions(): void {}

  close(): void {}

  end(): void {}
}

const deaf: SocketEvents = { onConnect() {}, onData: (_bytes, _start, end) => end, onDrain() {}, onClose() {} }
