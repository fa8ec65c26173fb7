import type { Address, Listener, Socket, SocketEvents, Timer } from './io.ts'
import { isUnix } from './io.ts'
import { EpollSocket } from './epoll-socket.ts'
import * as libc from './libc.ts'
import { EpollEvents, Errno } from './libc.ts'
import type { Entry } from './entry.ts'
import type { Loop } from './loop.ts'
import { readSocketAddress, socketAddressBytes } from './socket-address.ts'

/** Connections accepted per turn, so that a flood of new ones does not starve the others. */
const acceptsPerTurn = 64

/** Pause after the system ran out of descriptors or memory. */
const exhaustedPauseMs = 100

/** A listening socket in the loop. A `lasting` one is shared with other loops and not closed with this one. */
export class EpollListener implements Listener, Entry {
  readonly fd: number
  readonly port: number
  generation = 0
  readonly #loop: Loop
  readonly #lasting: boolean
  readonly #onAccept: (socket: Socket) => SocketEvents
  readonly #onExhausted: (errno: string) => void
  /** Address of a Unix socket, also used as the address of its clients; null for TCP. */
  readonly #unix: Address | null
  #pause: Timer | null = null
  #closed = false

  constructor(
    loop: Loop,
    fd: number,
    address: Address,
    lasting: boolean,
    onAccept: (socket: Socket) => SocketEvents,
    onExhausted: (errno: string) => void,
  ) {
    this.#loop = loop
    this.fd = fd
    this.#lasting = lasting
    this.#onAccept = onAccept
    this.#onExhausted = onExhausted
    this.#unix = isUnix(address) ? address : null
    const { scratch } = loop
    scratch.bytes.writeInt32LE(socketAddressBytes, lengthAt)
    libc.getsockname(fd, scratch.address, scratch.address + lengthAt)
    this.port = (this.#unix ?? readSocketAddress(scratch.bytes)).port
    this.#watch()
  }

  #watch(): void {
    this.#loop.watch(this, EpollEvents.In | EpollEvents.Exclusive)
  }

  ready(): void {
    const { scratch } = this.#loop
    for (let accepted = 0; accepted < acceptsPerTurn && !this.#closed; accepted++) {
      scratch.bytes.writeInt32LE(socketAddressBytes, lengthAt)
      const fd = this.#loop.own(libc.accept4(this.fd, scratch.address, scratch.address + lengthAt, libc.acceptFlags))
      if (fd >= 0) {
        const remote = this.#unix ?? readSocketAddress(scratch.bytes)
        const socket = new EpollSocket(this.#loop, { by: 'accept', fd, remote }, deaf)
        socket.accept(this.#onAccept)
        continue
      }
      const errno = libc.errno()
      if (errno === Errno.EAGAIN) return
      if (exhausted.has(errno)) {
        this.#exhausted(libc.errnoName(errno))
        return
      }
      // The connection has ended already (ECONNABORTED and the like): accept the next one.
    }
  }

  /** A listener that is ready but cannot accept would make the loop spin. */
  #exhausted(errno: string): void {
    this.#loop.rest(this)
    this.#pause = this.#loop.timers.at(this.#loop.nowMs + exhaustedPauseMs, () => {
      this.#pause = null
      this.#watch()
    })
    this.#onExhausted(errno)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    const watched = this.#pause === null
    this.#pause?.cancel()
    if (!this.#lasting) this.#loop.close(this)
    else if (watched) this.#loop.unwatch(this)
  }

  abandon(): void {
    this.close()
  }
}

const exhausted: ReadonlySet<number> = new Set([Errno.EMFILE, Errno.ENFILE, Errno.ENOBUFS, Errno.ENOMEM])

/** Handlers of a socket until its user sets others. */
export const deaf: SocketEvents = { onConnect() {}, onData: (_bytes, _start, end) => end, onDrain() {}, onClose() {} }

const lengthAt = 64
