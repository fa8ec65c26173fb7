/** Turning the loop beside Node's own, and a peer that writes down what happened to it. */
import { setImmediate as nodeTurn, setTimeout as sleep } from 'node:timers/promises'
import { readdirSync } from 'node:fs'
import { EpollIo } from '../../../proxy/io/epoll.ts'
import type { CloseCause, Socket, SocketEvents, TcpOptions } from '../../../proxy/io/io.ts'

export const tcpOptions: TcpOptions = {
  keepaliveIdleMs: 5000,
  keepaliveIntervalMs: 5000,
  keepaliveCount: 5,
  userTimeoutMs: 30_000,
}

export const loopback = { host: '127.0.0.1', port: 0 }

/** Turns both loops, this one and Node's, until `condition` holds. */
export async function until(io: EpollIo, condition: () => boolean, waitMsMax = 10_000): Promise<void> {
  const deadlineMs = performance.now() + waitMsMax
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${waitMsMax} ms: ${condition.toString()}`)
    io.turn(1)
    await nodeTurn()
  }
}

/** Turns this loop alone. */
export function turnUntil(io: EpollIo, condition: () => boolean, waitMsMax = 5000): void {
  const deadlineMs = performance.now() + waitMsMax
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${waitMsMax} ms: ${condition.toString()}`)
    io.turn(100)
  }
}

/** How often this loop turns in `ms`. One that is idle does so once, or twice, as signals end waits too. */
export function turnsWithin(io: EpollIo, ms: number): number {
  const time = { isOver: false }
  io.after(ms, () => (time.isOver = true))
  let turns = 0
  for (; !time.isOver; turns++) io.turn(1000)
  return turns
}

/** Handles everything at once, and remembers it. */
export class Recorder implements SocketEvents {
  connects = 0
  drains = 0
  closes: CloseCause[] = []
  readonly chunks: Buffer[] = []
  receivedBytes = 0

  get received(): Buffer {
    return Buffer.concat(this.chunks)
  }

  onConnect(): void {
    this.connects++
  }

  onData(bytes: Uint8Array, start: number, end: number): number {
    this.chunks.push(Buffer.from(bytes.subarray(start, end)))
    this.receivedBytes += end - start
    return end
  }

  onDrain(): void {
    this.drains++
  }

  onClose(cause: CloseCause): void {
    this.closes.push(cause)
  }
}

/** Takes what `take` says it can of each delivery. */
export class Taker extends Recorder {
  readonly #take: (bytes: Buffer) => number
  constructor(take: (bytes: Buffer) => number) {
    super()
    this.#take = take
  }

  override onData(bytes: Uint8Array, start: number, end: number): number {
    const taken = this.#take(Buffer.from(bytes.subarray(start, end)))
    super.onData(bytes, start, start + taken)
    return start + taken
  }
}

export function sendText(socket: Socket, text: string): boolean {
  const bytes = Buffer.from(text)
  return socket.send(bytes, 0, bytes.length)
}

export interface Pair {
  readonly connected: Socket
  readonly accepted: Socket
}

/** One connection between two sockets of `io`: `from` connects, `to` is accepted. */
export async function pair(io: EpollIo, from: SocketEvents, to: SocketEvents): Promise<Pair> {
  let accepted: Socket | null = null
  const listener = io.listen(loopback, (socket) => {
    accepted = socket
    return to
  })
  let open = false
  const connected = io.connect({ ...loopback, port: listener.port }, tcpOptions, {
    ...bound(from),
    onConnect() {
      open = true
      from.onConnect()
    },
  })
  await until(io, () => open && accepted !== null)
  connected.events = from
  listener.close()
  if (accepted === null) throw new Error('no connection was accepted')
  return { connected, accepted }
}

function bound(events: SocketEvents): SocketEvents {
  return {
    onConnect: () => events.onConnect(),
    onData: (bytes, start, end) => events.onData(bytes, start, end),
    onDrain: () => events.onDrain(),
    onClose: (cause) => events.onClose(cause),
  }
}

export function newIo(ioUring = true): EpollIo {
  return new EpollIo({ openFds: null, ioUring, onExhausted: failOnExhausted })
}

function failOnExhausted(errno: string): void {
  throw new Error(errno)
}

export function openFdCount(): number {
  return readdirSync('/proc/self/fd').length
}

/** Fails when more descriptors are open than before; what Node itself opens for a moment may end meanwhile. */
export async function noneLeftOpen(before: number): Promise<void> {
  const deadlineMs = performance.now() + 2000
  while (openFdCount() > before) {
    if (performance.now() > deadlineMs) throw new Error(`${openFdCount()} open descriptors, ${before} before`)
    await sleep(10)
  }
}
