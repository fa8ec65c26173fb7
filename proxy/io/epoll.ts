import { strict as assert } from 'node:assert'
import { randomFillSync } from 'node:crypto'
import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import type {
  Address,
  Handed,
  Io,
  Listener,
  Socket,
  SocketEvents,
  TcpOptions,
  Timer,
  TlsContext,
  TlsOptions,
} from './io.ts'
import { IoError, isUnix } from './io.ts'
import { deaf, EpollListener } from './epoll-listener.ts'
import { EpollSocket } from './epoll-socket.ts'
import * as libc from './libc.ts'
import { EpollEvents, Errno, Family, Level, SocketOption } from './libc.ts'
import type { Entry } from './entry.ts'
import { Loop } from './loop.ts'
import { OpenFds } from './open-fds.ts'
import { listenerKey, unixPath, writeSocketAddress } from './socket-address.ts'
import { identityOf, removeFile } from './socket-file.ts'
import { OpensslContext } from './tls-context.ts'

/** Length of the kernel's accept queue. */
const backlog = 1024

/** Default mode of a Unix socket's file. */
const ownerOnly = 0o600

export interface EpollIoOptions {
  /** Records open descriptors for the owner of this thread; null records none. */
  readonly openFds: SharedArrayBuffer | null
  /**
   * Listeners outlive this loop: descriptors of those that are open already, shared with other loops, by `listenerKey`;
   * missing ones are opened. Absent: listeners belong to this loop.
   */
  readonly lasting?: Readonly<Record<string, number>>
  /** Whether to send through io_uring(7) if the kernel allows it; otherwise each send is a system call. */
  readonly ioUring: boolean
  /** Accepting is paused; `errno` tells what the system has run out of. */
  readonly onExhausted: (errno: string) => void
}

/** Io on Linux's epoll: the product's loop. It blocks its thread; nothing asynchronous runs there. */
export class EpollIo implements Io {
  readonly #loop: Loop
  readonly #onExhausted: (errno: string) => void
  readonly #lasting: Readonly<Record<string, number>> | undefined
  /** Descriptors of listeners that are to outlive this loop, by `listenerKey`. */
  readonly #listeners: Record<string, number> = {}

  constructor(options: EpollIoOptions) {
    this.#lasting = options.lasting
    this.#loop = new Loop(options.openFds === null ? null : new OpenFds(options.openFds), options.ioUring)
    this.#onExhausted = options.onExhausted
  }

  /** errno with which the kernel refused io_uring; null if it did not, or was not tried. */
  get ioUringRefused(): string | null {
    return this.#loop.ringRefused
  }

  /** Turns until `until`, evaluated before each turn, returns true. Errors of handlers are thrown from here. */
  run(until: () => boolean): void {
    while (!until()) this.#loop.turn(Infinity)
  }

  /**
   * Turns until the peers of ended sockets have closed them too; each socket waits a second at most for that. A socket
   * closed sooner resets what its peer still sends, which may cost the peer our last message.
   */
  runOut(): void {
    while (this.#loop.hasEnding) this.#loop.turn(Infinity)
  }

  /** Waits for events, at most `waitMsMax`, and handles them. */
  turn(waitMsMax: number): void {
    this.#loop.turn(waitMsMax)
  }

  nowMs(): number {
    return this.#loop.nowMs
  }

  wallMs(): number {
    return Date.now()
  }

  after(delayMs: number, run: () => void): Timer {
    return this.#loop.timers.at(this.#loop.nowMs + delayMs, run)
  }

  tlsContext(options: TlsOptions): TlsContext {
    return new OpensslContext(options)
  }

  random(bytes: Uint8Array): void {
    randomFillSync(bytes)
  }

  /**
   * All listeners are open, and outlive this loop from now on. If one of them cannot be opened, the others are closed like
   * everything that a thread leaves open.
   */
  keepListeners(): Readonly<Record<string, number>> {
    for (const fd of Object.values(this.#listeners)) this.#loop.openFds?.remove(fd)
    return this.#listeners
  }

  listen(address: Address, onAccept: (socket: Socket) => SocketEvents, mode = ownerOnly): Listener {
    const key = listenerKey(address)
    const fd = this.#lasting?.[key] ?? (isUnix(address) ? this.#openedUnix(address, mode) : this.#opened(address))
    const lasts = this.#lasting !== undefined
    if (lasts) this.#listeners[key] = fd
    const listener = new EpollListener(this.#loop, fd, address, lasts, onAccept, this.#onExhausted)
    if (lasts || !isUnix(address)) return listener
    const path = unixPath(address)
    const file = identityOf(path)
    return {
      port: listener.port,
      close: () => {
        removeFile(path, file)
        listener.close()
      },
    }
  }

  #opened(address: Address): number {
    const { scratch } = this.#loop
    const { family, length } = writeSocketAddress(address, scratch)
    const fd = this.#loop.own(libc.socket(family, libc.streamSocket, 0))
    if (fd < 0) throw libc.systemError('socket')
    try {
      this.#setOption(fd, Level.Socket, SocketOption.ReuseAddress, 1)
      if (family === Family.Inet6) this.#setOption(fd, Level.Ipv6, libc.ipv6Only, 0)
      writeSocketAddress(address, scratch)
      if (libc.bind(fd, scratch.address, length) < 0) throw libc.systemError('bind')
      if (libc.listen(fd, backlog) < 0) throw libc.systemError('listen')
    } catch (error) {
      this.#loop.closeFd(fd)
      throw error
    }
    return fd
  }

  #openedUnix(address: Address, mode: number): number {
    const path = unixPath(address)
    const fd = this.#loop.own(libc.socket(Family.Unix, libc.streamSocket, 0))
    if (fd < 0) throw libc.systemError('socket')
    try {
      if (!this.#bound(fd, address)) {
        if (this.#answers(address)) throw new IoError('another process is listening', 'EADDRINUSE')
        if (lstatSync(path).isSocket()) unlinkSync(path)
        if (!this.#bound(fd, address)) throw libc.systemError('bind')
      }
      // Before a client can connect, which requires listen.
      chmodSync(path, mode)
      if (libc.listen(fd, backlog) < 0) throw libc.systemError('listen')
    } catch (error) {
      this.#loop.closeFd(fd)
      // Otherwise an error of node:fs, with its errno in `code`.
      const errno = error instanceof IoError ? error.errno : (error as NodeJS.ErrnoException).code
      throw new IoError(`could not listen at ${path}: ${(error as Error).message}`, errno ?? 'EIO')
    }
    return fd
  }

  /** False if the file exists. */
  #bound(fd: number, address: Address): boolean {
    const { scratch } = this.#loop
    const { length } = writeSocketAddress(address, scratch)
    if (libc.bind(fd, scratch.address, length) === 0) return true
    if (libc.errno() === Errno.EADDRINUSE) return false
    throw libc.systemError('bind')
  }

  /** Whether a process listens behind the file of a Unix socket, even if it is too busy to accept. */
  #answers(address: Address): boolean {
    const { scratch } = this.#loop
    const fd = this.#loop.own(libc.socket(Family.Unix, libc.streamSocket, 0))
    if (fd < 0) throw libc.systemError('socket')
    const { length } = writeSocketAddress(address, scratch)
    const refused = libc.connect(fd, scratch.address, length) < 0 && libc.errno() === Errno.ECONNREFUSED
    this.#loop.closeFd(fd)
    return !refused
  }

  /** Gives a connection away with everything that has not been read; null if that is not possible now. */
  hand(socket: Socket): Handed | null {
    assert(socket instanceof EpollSocket, 'a socket of another Io')
    return socket.hand()
  }

  /** Takes over a connection as if it had been accepted here; `bytes` were read before. */
  adopt(handed: Handed, bytes: Uint8Array, onAccept: (socket: Socket) => SocketEvents): void {
    if (this.#loop.own(handed.fd) < 0) return
    const socket = new EpollSocket(this.#loop, { by: 'handed', ...handed, bytes }, deaf)
    socket.accept(onAccept)
  }

  /** Wakes another loop through its eventfd. */
  wake(fd: number): void {
    const { scratch } = this.#loop
    scratch.bytes.writeBigUInt64LE(1n, 0)
    libc.write(fd, scratch.address, 8)
  }

  connect(address: Address, options: TcpOptions, events: SocketEvents): Socket {
    const { scratch } = this.#loop
    const { family, length } = writeSocketAddress(address, scratch)
    const fd = this.#loop.own(libc.socket(family, libc.streamSocket, 0))
    let failure = 0
    if (fd < 0 || libc.connect(fd, scratch.address, length) < 0) {
      failure = libc.errno()
      if (failure === Errno.EINPROGRESS) failure = 0
    }
    const socket = new EpollSocket(this.#loop, { by: 'connect', fd, remote: address, failure }, events)
    socket.setTcpOptions(options)
    return socket
  }

  /** `handler` runs in the loop after a write to the eventfd `fd`, which remains the caller's. */
  onWake(fd: number, handler: () => void): void {
    this.#loop.watch(new Wake(this.#loop, fd, handler), EpollEvents.In)
  }

  /** Closes everything without events. */
  dispose(): void {
    this.#loop.dispose()
  }

  #setOption(fd: number, level: number, option: number, value: number): void {
    const { scratch } = this.#loop
    scratch.bytes.writeInt32LE(value, 0)
    if (libc.setsockopt(fd, level, option, scratch.address, 4) < 0) throw libc.systemError('setsockopt')
  }
}

/** An eventfd (eventfd(2)): readable while its counter is not zero; reading resets the counter. */
class Wake implements Entry {
  readonly fd: number
  generation = 0
  readonly #loop: Loop
  readonly #handler: () => void

  constructor(loop: Loop, fd: number, handler: () => void) {
    this.#loop = loop
    this.fd = fd
    this.#handler = handler
  }

  ready(): void {
    libc.read(this.fd, this.#loop.scratch.address, 8)
    this.#handler()
  }

  abandon(): void {}
}
