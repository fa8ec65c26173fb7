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

/** Connections the kernel completes ahead of accept. */
const backlog = 1024

/** Mode of a Unix socket's file where nothing else is said. */
const ownerOnly = 0o600

export interface EpollIoOptions {
  /** Where the open descriptors are noted for whoever survives this thread; null notes none. */
  readonly openFds: SharedArrayBuffer | null
  /**
   * Listeners outlive this loop, whoever closes them: descriptors of those that are open, which other loops may accept
   * from too, by `listenerKey`; the others are opened. Absent: listeners are this loop's own.
   */
  readonly lasting?: Readonly<Record<string, number>>
  /** Whether sends leave together by io_uring(7), if the kernel lets them; else each is a system call. */
  readonly ioUring: boolean
  /** Nothing can be accepted for a moment: `errno` says what the system has run out of. */
  readonly onExhausted: (errno: string) => void
}

/** Io on Linux's epoll: the product's loop. It blocks its thread; nothing asynchronous runs there. */
export class EpollIo implements Io {
  readonly #loop: Loop
  readonly #onExhausted: (errno: string) => void
  readonly #lasting: Readonly<Record<string, number>> | undefined
  /** Descriptors of the listeners that outlive this loop, by `listenerKey`. */
  readonly listeners: Record<string, number> = {}

  constructor(options: EpollIoOptions) {
    this.#lasting = options.lasting
    this.#loop = new Loop(options.openFds === null ? null : new OpenFds(options.openFds), options.ioUring)
    this.#onExhausted = options.onExhausted
  }

  /** The errno for which the kernel refuses io_uring; null when it does not, or was not asked. */
  get ioUringRefused(): string | null {
    return this.#loop.ringRefused
  }

  /** Turns until `until` is true, which is asked before each turn. What a handler throws comes out here. */
  run(until: () => boolean): void {
    while (!until()) this.#loop.turn(Infinity)
  }

  /**
   * Turns until the peers of sockets that were ended have closed them too; each socket waits for that a second at most.
   * A socket closed sooner answers what its peer still sends with a reset, by which the peer may lose our last message.
   */
  runOut(): void {
    while (this.#loop.endingCount > 0) this.#loop.turn(Infinity)
  }

  /** Waits for something to do, at most `waitMsMax`, and does it. */
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

  listen(address: Address, onAccept: (socket: Socket) => SocketEvents, mode = ownerOnly): Listener {
    const key = listenerKey(address)
    const fd = this.#lasting?.[key] ?? (isUnix(address) ? this.#openedUnix(address, mode) : this.#opened(address))
    const lasts = this.#lasting !== undefined
    if (lasts) {
      this.#loop.openFds?.remove(fd)
      this.listeners[key] = fd
    }
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
        if (this.#answers(address)) throw new IoError('somebody does already', 'EADDRINUSE')
        if (lstatSync(path).isSocket()) unlinkSync(path)
        if (!this.#bound(fd, address)) throw libc.systemError('bind')
      }
      // Before anybody can connect, which takes a listen.
      chmodSync(path, mode)
      if (libc.listen(fd, backlog) < 0) throw libc.systemError('listen')
    } catch (error) {
      this.#loop.closeFd(fd)
      // Else it is one of node:fs, which names its errno in `code`.
      const errno = error instanceof IoError ? error.errno : (error as NodeJS.ErrnoException).code
      throw new IoError(`cannot listen at ${path}: ${(error as Error).message}`, errno ?? 'EIO')
    }
    return fd
  }

  /** False when there is a file already. */
  #bound(fd: number, address: Address): boolean {
    const { scratch } = this.#loop
    const { length } = writeSocketAddress(address, scratch)
    if (libc.bind(fd, scratch.address, length) === 0) return true
    if (libc.errno() === Errno.EADDRINUSE) return false
    throw libc.systemError('bind')
  }

  /** Whether the file of a Unix socket has somebody behind it, be it somebody who is too busy to answer. */
  #answers(address: Address): boolean {
    const { scratch } = this.#loop
    const fd = this.#loop.own(libc.socket(Family.Unix, libc.streamSocket, 0))
    if (fd < 0) throw libc.systemError('socket')
    const { length } = writeSocketAddress(address, scratch)
    const refused = libc.connect(fd, scratch.address, length) < 0 && libc.errno() === Errno.ECONNREFUSED
    this.#loop.closeFd(fd)
    return !refused
  }

  /** Gives a connection away, with everything that has not been read of it; null when it cannot be now. */
  hand(socket: Socket): Handed | null {
    assert(socket instanceof EpollSocket, 'a socket of another Io')
    return socket.hand()
  }

  /** Takes a connection over as if it had been accepted here; `bytes` of it have been read before. */
  adopt(handed: Handed, bytes: Uint8Array, onAccept: (socket: Socket) => SocketEvents): void {
    if (this.#loop.own(handed.fd) < 0) return
    const socket = new EpollSocket(this.#loop, { by: 'handed', ...handed, bytes }, deaf)
    socket.events = onAccept(socket)
  }

  /** Wakes another loop by its eventfd. */
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

  /** `handler` runs in the loop after someone wrote to the eventfd `fd`, which stays theirs. */
  onWake(fd: number, handler: () => void): void {
    this.#loop.watch(new Wake(this.#loop, fd, handler), EpollEvents.In)
  }

  /** Closes everything that is open, without events. */
  dispose(): void {
    this.#loop.dispose()
  }

  #setOption(fd: number, level: number, option: number, value: number): void {
    const { scratch } = this.#loop
    scratch.bytes.writeInt32LE(value, 0)
    if (libc.setsockopt(fd, level, option, scratch.address, 4) < 0) throw libc.systemError('setsockopt')
  }
}

/** An eventfd (eventfd(2)): readable while its counter is not zero; reading takes the counter away. */
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
