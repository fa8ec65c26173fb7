import { strict as assert } from 'node:assert'
import { copyBytes } from './copy.ts'
import type {
  Handed,
  Address,
  CloseCause,
  Socket,
  SocketEvents,
  TcpOptions,
  Timer,
  TlsContext,
  TlsSession,
  TlsStart,
} from './io.ts'
import { carryBytesMax, isUnix, readBytesMax } from './io.ts'
import * as libc from './libc.ts'
import { EpollEvents, Errno, Level, SocketOption, TcpInfo, TcpOption } from './libc.ts'
import type { Entry } from './entry.ts'
import type { Loop, Postponed } from './loop.ts'
import type { Sender } from './turn-buffer.ts'
import { SendQueue } from './send-queue.ts'
import { readSocketAddress, socketAddressBytes } from './socket-address.ts'
import { judgeStall } from './stall.ts'
import { OpensslContext } from './tls-context.ts'
import { TlsStream } from './tls-stream.ts'

/** Time after `end` for the peer to read what was queued and close its side. */
const endTimeoutMs = 1000

/** Events about the end of the connection; a receive tells the rest. */
const endEvents = EpollEvents.Error | EpollEvents.HangUp | EpollEvents.ReadHangUp

/**
 * A TCP or Unix socket in the loop.
 *
 *   connecting ──► open ──► ending ──► closed
 *                  │  ▲
 *                securing
 *
 * `securing`: the TLS handshake. Nothing is delivered, and what is sent is dropped. `ending`: everything queued is
 * sent, then our side is shut down, and what the peer still sends is dropped until it closes too (closing with unread
 * bytes would send a reset, and the peer might lose our last bytes).
 *
 * A failed send does not end the socket at once: what the peer sent before, often its reason, is read first.
 */
export class EpollSocket implements Socket, Entry, Postponed, Sender {
  events: SocketEvents
  readonly fd: number
  readonly remote: Address
  generation = 0
  readonly #loop: Loop
  readonly #accepted: boolean
  #state: 'connecting' | 'open' | 'securing' | 'ending' | 'closed'
  /** Events requested from epoll; null if not in the set. */
  #interest: number | null = null
  /** Reasons not to read: bits of `Pause`. */
  #paused = 0
  /** Bytes that the handler left, at the start of a chunk. */
  #kept: Uint8Array | null = null
  #keptBytes = 0
  /** Kept bytes must be handled again before more is received. */
  #redeliver = false
  #delivering = false
  #postponed = false
  #queue: SendQueue | null = null
  deferred = false
  /** errno of a failed send or connect; 0 without one. */
  #failure = 0
  #peerEnded = false
  #endTimer: Timer | null = null
  #local: Address | null = null
  #userTimeoutMs = 0
  /** Something was sent since the kernel last had nothing to send. */
  #sending = false
  /** The peer takes nothing but responds: TCP_USER_TIMEOUT is disabled. */
  #stalled = false
  #tls: TlsStream | null = null
  #session: TlsSession | null = null
  /** TLS has bytes that epoll does not report. */
  #unread = false
  /** TLS must write before it can read on. */
  #writeFirst = false

  constructor(
    loop: Loop,
    made:
      | { readonly by: 'accept'; readonly fd: number; readonly remote: Address }
      | { readonly by: 'connect'; readonly fd: number; readonly remote: Address; readonly failure: number }
      | ({ readonly by: 'handed'; readonly bytes: Uint8Array } & Handed),
    events: SocketEvents,
  ) {
    this.#loop = loop
    this.fd = made.fd
    this.remote = made.remote
    this.events = events
    this.#accepted = made.by !== 'connect'
    this.#state = this.#accepted ? 'open' : 'connecting'
    if (made.by === 'connect' && made.failure !== 0) {
      this.#failure = made.failure
      if (this.fd >= 0) loop.register(this)
      this.#postpone()
      return
    }
    if (made.by === 'handed') this.#goOn(made)
    if (!isUnix(this.remote)) this.#setOption(Level.Tcp, TcpOption.NoDelay, 1)
    this.#watch()
  }

  /** What happens to it is for what `onAccept` returns. */
  accept(onAccept: (socket: Socket) => SocketEvents): void {
    this.events = onAccept(this)
  }

  #goOn({ fd, tls, bytes }: Handed & { readonly bytes: Uint8Array }): void {
    if (tls !== null) {
      this.#tls = new TlsStream(tls, fd)
      this.#session = tls.session
      this.#unread = this.#tls.pending
    }
    this.#kept = this.#loop.takePiece(bytes.length)
    this.#kept.set(bytes)
    this.#keptBytes = bytes.length
    this.#redeliver = true
    this.#postpone()
  }

  /**
   * Gives the connection to another owner, possibly in another thread; null if that is not possible now, because bytes
   * are queued or the connection has failed. No event follows.
   */
  hand(): Handed | null {
    this.#leave()
    if (this.#state !== 'open' || this.#queue !== null || this.#failure !== 0 || this.#writeFirst) return null
    const tls = this.#session === null ? null : (this.#tls?.hand(this.#session) ?? null)
    this.#tls = null
    this.#state = 'closed'
    this.#dropKept()
    this.#loop.unwatch(this)
    this.#loop.openFds?.remove(this.fd)
    return { fd: this.fd, remote: this.remote, tls }
  }

  get local(): Address {
    if (isUnix(this.remote)) return this.remote
    if (this.#local !== null) return this.#local
    if (this.#state === 'closed' || this.fd < 0) return nowhere
    const { scratch } = this.#loop
    scratch.bytes.writeInt32LE(socketAddressBytes, lengthAt)
    if (libc.getsockname(this.fd, scratch.address, scratch.address + lengthAt) < 0) return nowhere
    this.#local = readSocketAddress(scratch.bytes)
    return this.#local
  }

  get queuedBytes(): number {
    return this.#queue?.bytes ?? 0
  }

  get readingPaused(): boolean {
    return (this.#paused & Pause.byOwner) !== 0
  }

  get tls(): TlsSession | null {
    return this.#session
  }

  // TLS

  startTls(context: TlsContext, start: TlsStart): void {
    if (this.#state !== 'open') return
    this.#leave()
    assert(context instanceof OpensslContext, 'a context of another Io')
    assert(this.#queue === null && this.#tls === null, 'TLS starts once, after everything sent has left')
    this.#dropKept()
    this.#redeliver = false
    this.#tls = new TlsStream({ context, options: start }, this.fd)
    this.#state = 'securing'
    this.#watch()
    this.#postpone()
  }

  #handshake(): void {
    const tls = this.#tls
    assert(tls !== null, 'a handshake is in progress')
    tls.handshake()
    this.#writeFirst = tls.outcome === 'write'
    switch (tls.outcome) {
      case 'done':
        this.#session = tls.session
        this.#state = 'open'
        this.#unread = tls.pending
        this.#watch()
        if (this.#unread) this.#postpone()
        this.events.onSecured?.()
        return
      case 'read':
      case 'write':
        this.#watch()
        return
      case 'end':
      case 'failed':
        this.#tlsFailed(tls)
        return
      default:
        tls.outcome satisfies never
    }
  }

  /** The peer should read our alert before the connection closes. */
  #tlsFailed(tls: TlsStream): void {
    const cause: CloseCause = {
      kind: 'tls',
      errno: tls.errno === 0 ? null : libc.errnoName(tls.errno),
      reason: tls.reason || 'the peer closed the connection',
    }
    this.#queue = null
    this.#state = 'open'
    this.end()
    this.events.onClose(cause)
  }

  #receiveSecure(tls: TlsStream): void {
    const { turnBuffer } = this.#loop
    const at = turnBuffer.reserve(this.#keptBytes, readBytesMax)
    let length = 0
    for (;;) {
      const got = tls.read(turnBuffer.memory.address + at + length, readBytesMax - length)
      length += got
      this.#unread = got > 0 && tls.pending
      if (got === 0 || !this.#unread || length === readBytesMax) break
    }
    if (length > 0) {
      // The end is reported again after these bytes.
      if (tls.outcome === 'end' || tls.outcome === 'failed') this.#unread = true
      this.#received(at, length)
      if (this.#unread && this.#state === 'open' && this.#paused === 0) this.#postpone()
      return
    }
    switch (tls.outcome) {
      case 'done':
        return
      case 'read':
        if (this.#failure !== 0) this.#ended(this.#failure)
        return
      case 'write':
        this.#writeFirst = true
        this.#watch()
        return
      case 'end':
        this.#ended(this.#failure)
        return
      case 'failed':
        if (this.#failure !== 0) this.#ended(this.#failure)
        else if (tls.errno !== 0) this.#ended(tls.errno)
        else this.#tlsFailed(tls)
        return
      default:
        tls.outcome satisfies never
    }
  }

  /** Like `#sendNow`: one record at a time, until the kernel takes no more. */
  #sendSecure(tls: TlsStream, address: number, length: number): number {
    let sent = 0
    while (sent < length) {
      const taken = tls.write(address + sent, length - sent)
      if (taken === 0) {
        if (tls.outcome !== 'failed' && tls.outcome !== 'end') break
        this.#failure = tls.errno || Errno.EPIPE
        this.#postpone()
        return -1
      }
      sent += taken
    }
    return sent
  }

  // Sending

  /** HOT: bytes leave at the end of the turn, see turn-buffer.ts. */
  send(bytes: Uint8Array, start: number, end: number): boolean {
    if (start >= end) return this.#queue === null
    const { turnBuffer } = this.#loop
    turnBuffer.makePlace(this, bytes, start)
    if (this.#state === 'connecting' || this.#queue !== null) {
      this.#enqueue(bytes, start, end)
      return false
    }
    if (this.#state !== 'open' || this.#failure !== 0) return true
    if (bytes === turnBuffer.memory.bytes) {
      turnBuffer.defer(this, start, end)
      return true
    }
    return turnBuffer.deferCopy(this, bytes, start, end) || this.#sendLong(bytes, start, end)
  }

  /** For more bytes than the turn buffer has room for. */
  #sendLong(bytes: Uint8Array, start: number, end: number): boolean {
    this.#leave()
    if (this.#queue !== null) {
      this.#enqueue(bytes, start, end)
      return false
    }
    const { outgoing } = this.#loop
    for (let at = start; at < end;) {
      const length = Math.min(end - at, outgoing.bytes.length)
      outgoing.bytes.set(bytes.subarray(at, at + length))
      const sent = this.#sendNow(outgoing.address, length)
      if (sent < 0) return true
      at += sent
      if (sent < length) {
        this.#enqueue(bytes, at, end)
        return false
      }
    }
    return true
  }

  /** Deferred bytes leave now. */
  #leave(): void {
    if (this.deferred) this.#loop.turnBuffer.flush()
  }

  get direct(): boolean {
    return this.#tls === null && this.#queue === null && this.#failure === 0
  }

  /** HOT: one send if nothing is queued. */
  transmit(start: number, end: number): void {
    const { memory } = this.#loop.turnBuffer
    if (this.#queue !== null) this.#enqueue(memory.bytes, start, end)
    else if (this.#failure === 0) this.#sent(start, end, this.#sendNow(memory.address + start, end - start))
  }

  /** HOT. */
  transmitted(start: number, end: number, result: number): void {
    this.#sending = true
    this.#sent(start, end, result < 0 ? this.#sendFailed(-result) : result)
  }

  /** `count` bytes of the turn buffer have left; -1 if none can. */
  #sent(start: number, end: number, count: number): void {
    if (count >= 0 && count < end - start) this.#enqueue(this.#loop.turnBuffer.memory.bytes, start + count, end)
  }

  /** Bytes taken by the kernel, or -1 if the connection is broken, which the loop reports. */
  #sendNow(address: number, length: number): number {
    this.#sending = true
    if (this.#tls !== null) return this.#sendSecure(this.#tls, address, length)
    const sent = libc.send(this.fd, address, length, libc.msgNoSignal)
    return sent < 0 ? this.#sendFailed(libc.errno()) : sent
  }

  #sendFailed(errno: number): number {
    if (errno === Errno.EAGAIN || errno === Errno.EINTR) return 0
    this.#failure = errno
    this.#postpone()
    return -1
  }

  #enqueue(bytes: Uint8Array, start: number, end: number): void {
    if (this.#state === 'closed' || this.#failure !== 0) return
    this.#queue ??= new SendQueue()
    this.#queue.push(bytes, start, end)
    this.#watch()
  }

  #flush(): void {
    const queue = this.#queue
    if (queue === null) return
    while (queue.bytes > 0) {
      const { headLength } = queue
      const sent = this.#sendNow(queue.headAddress, headLength)
      if (sent < 0) {
        this.#queue = null
        this.#watch()
        return
      }
      queue.shift(sent)
      if (sent < headLength) return
    }
    this.#queue = null
    if (this.#state === 'ending') {
      this.#shutdown()
      return
    }
    this.#watch()
    this.events.onDrain()
  }

  // Events of the loop

  ready(events: number): void {
    if (this.#state === 'connecting') {
      this.#connected()
      return
    }
    if (this.#state === 'securing') {
      this.#handshake()
      return
    }
    if ((events & EpollEvents.Out) !== 0) {
      this.#flush()
      if (this.#writeFirst) this.#readAgain()
    }
    if ((events & (EpollEvents.In | endEvents)) === 0) return
    if (this.#state === 'ending') this.#discard()
    else if (this.#state !== 'open' || this.#redeliver) return
    else if (this.#paused !== 0) this.#readyWhilePaused(events)
    else this.#receive()
  }

  #readAgain(): void {
    this.#writeFirst = false
    this.#unread = true
    if (this.#state !== 'open') return
    this.#watch()
    this.#postpone()
  }

  #connected(): void {
    const errno = this.#takeError()
    if (errno !== 0) {
      this.#ended(errno)
      return
    }
    this.#state = 'open'
    this.#watch()
    this.events.onConnect()
  }

  /** HOT: one receive per turn. */
  #receive(): void {
    if (this.#tls !== null) {
      this.#receiveSecure(this.#tls)
      return
    }
    const { turnBuffer } = this.#loop
    const at = turnBuffer.reserve(this.#keptBytes, readBytesMax)
    const length = libc.recv(this.fd, turnBuffer.memory.address + at, readBytesMax, 0)
    if (length > 0) {
      this.#received(at, length)
      return
    }
    if (length === 0) {
      this.#ended(this.#failure)
      return
    }
    const errno = libc.errno()
    if (errno !== Errno.EAGAIN && errno !== Errno.EINTR) this.#ended(errno)
    else if (this.#failure !== 0) this.#ended(this.#failure)
  }

  /** New bytes are at `at` of the turn buffer; kept bytes go before them. */
  #received(at: number, length: number): void {
    const { turnBuffer } = this.#loop
    let start = at
    if (this.#kept !== null) {
      assert(this.#keptBytes <= carryBytesMax, 'a handler must progress with carryBytesMax')
      start -= this.#keptBytes
      copyBytes(this.#kept, 0, this.#keptBytes, turnBuffer.memory.bytes, start)
    }
    turnBuffer.commit(at + length)
    this.#deliver(start, at + length)
  }

  #deliver(start: number, end: number): void {
    this.#delivering = true
    const handled = this.events.onData(this.#loop.turnBuffer.memory.bytes, start, end)
    this.#delivering = false
    if (this.#state !== 'open') return
    assert(handled >= start && handled <= end, 'a handler returns an offset within its bytes')
    if (handled < end) this.#keep(handled, end)
    else if (this.#kept !== null) this.#dropKept()
  }

  #keep(start: number, end: number): void {
    const bytes = end - start
    if (this.#kept === null || this.#kept.length < bytes) {
      this.#dropKept()
      this.#kept = this.#loop.takePiece(bytes)
    }
    copyBytes(this.#loop.turnBuffer.memory.bytes, start, end, this.#kept, 0)
    this.#keptBytes = bytes
  }

  #dropKept(): void {
    if (this.#kept === null) return
    this.#loop.givePiece(this.#kept)
    this.#kept = null
    this.#keptBytes = 0
  }

  /**
   * Reading is paused. A lost client is reported: there is no peer to answer. A server's last bytes must not be lost,
   * so its end waits for resumeReading, outside the epoll set, because epoll would report it forever.
   */
  #readyWhilePaused(events: number): void {
    if ((events & endEvents) === 0) this.#watch()
    else if (this.#accepted) this.#ended(this.#failure === 0 ? this.#takeError() : this.#failure)
    else this.#rest()
  }

  // Pausing

  /** Epoll continues to report until bytes arrive: most pauses end before, and cost no system call. */
  pauseReading(): void {
    this.#paused |= Pause.byOwner
  }

  resumeReading(): void {
    this.#unpause(Pause.byOwner)
  }

  suspendReading(): void {
    this.#paused |= Pause.held
  }

  unsuspendReading(): void {
    this.#unpause(Pause.held)
  }

  #unpause(reason: number): void {
    if ((this.#paused & reason) === 0) return
    this.#paused &= ~reason
    if (this.#paused !== 0 || this.#state !== 'open') return
    this.#watch()
    if (this.#kept !== null || this.#delivering) {
      this.#redeliver = true
      this.#postpone()
    }
    if (this.#failure !== 0 || this.#unread) this.#postpone()
  }

  #postpone(): void {
    if (this.#postponed) return
    this.#postponed = true
    this.#loop.postpone(this)
  }

  /** Called by the loop: handles kept bytes again, or follows a failure to its end. */
  resume(): void {
    this.#postponed = false
    if (this.#state === 'connecting') {
      this.#ended(this.#failure)
      return
    }
    if (this.#state === 'ending') {
      if (this.#failure !== 0) this.close()
      return
    }
    if (this.#state === 'closed') return
    if (this.#state === 'securing') {
      this.#handshake()
      return
    }
    if (this.#paused !== 0) {
      if (this.#accepted && this.#failure !== 0) this.#ended(this.#failure)
      return
    }
    if (this.#redeliver) {
      this.#redeliver = false
      if (this.#kept !== null) {
        const { turnBuffer } = this.#loop
        const at = turnBuffer.reserve(this.#keptBytes, 0)
        copyBytes(this.#kept, 0, this.#keptBytes, turnBuffer.memory.bytes, at - this.#keptBytes)
        turnBuffer.commit(at)
        this.#deliver(at - this.#keptBytes, at)
      }
    } else if (this.#failure !== 0 || this.#unread) {
      this.#receive()
    }
    if (this.#stillOpen() && (this.#failure !== 0 || this.#unread) && this.#paused === 0) this.#postpone()
  }

  #stillOpen(): boolean {
    return this.#state === 'open'
  }

  /** Updates the events requested from epoll. */
  #watch(): void {
    let interest = this.#accepted ? EpollEvents.ReadHangUp : 0
    if (this.#state === 'connecting' || this.#queue !== null || this.#writeFirst) interest |= EpollEvents.Out
    if (this.#state === 'ending') interest = (interest & EpollEvents.Out) | (this.#peerEnded ? 0 : EpollEvents.In)
    else if (this.#state === 'securing' || (this.#state === 'open' && this.#paused === 0)) interest |= EpollEvents.In
    if (interest === this.#interest) return
    if (this.#interest === null) this.#loop.watch(this, interest)
    else this.#loop.change(this, interest)
    this.#interest = interest
  }

  #rest(): void {
    this.#loop.rest(this)
    this.#interest = null
  }

  // Options

  setTcpOptions(options: TcpOptions): void {
    if (this.#state === 'closed' || this.fd < 0 || isUnix(this.remote)) return
    this.#setOption(Level.Socket, SocketOption.KeepAlive, 1)
    this.#setOption(Level.Tcp, TcpOption.KeepIdle, seconds(options.keepaliveIdleMs))
    this.#setOption(Level.Tcp, TcpOption.KeepInterval, seconds(options.keepaliveIntervalMs))
    this.#setOption(Level.Tcp, TcpOption.KeepCount, options.keepaliveCount)
    this.#userTimeoutMs = options.userTimeoutMs
    this.#stalled = false
    this.#setOption(Level.Tcp, TcpOption.UserTimeout, options.userTimeoutMs)
    if (options.userTimeoutMs > 0) this.#loop.watchStalls(options.userTimeoutMs)
  }

  /** Called by the loop every `periodMs`; see stall.ts. */
  checkStall(periodMs: number): void {
    if (this.#interest === null || !this.#sending || this.#userTimeoutMs === 0 || this.#state === 'connecting') return
    const unacknowledged = this.#unacknowledgedBytes()
    if (unacknowledged === 0 && this.#queue === null) this.#sending = false
    const { scratch } = this.#loop
    scratch.bytes.writeInt32LE(TcpInfo.bytes, lengthAt)
    if (libc.getsockopt(this.fd, Level.Tcp, TcpOption.Info, scratch.address, scratch.address + lengthAt) < 0) return
    const verdict = judgeStall({
      unacknowledgedBytes: unacknowledged,
      inFlightSegments: scratch.bytes.readUInt32LE(TcpInfo.unackedAt),
      lastAckAgeMs: scratch.bytes.readUInt32LE(TcpInfo.lastAckReceivedMsAt),
      unansweredProbes: scratch.bytes.readUInt8(TcpInfo.probesAt),
      stalled: this.#stalled,
      userTimeoutMs: this.#userTimeoutMs,
      periodMs,
    })
    if (verdict === 'dead') {
      if (this.#state === 'ending') this.close()
      else this.#ended(Errno.ETIMEDOUT)
      return
    }
    const stalled = verdict === 'stalled'
    if (stalled === this.#stalled) return
    this.#stalled = stalled
    this.#setOption(Level.Tcp, TcpOption.UserTimeout, stalled ? 0 : this.#userTimeoutMs)
  }

  #setOption(level: number, option: number, value: number): void {
    const { scratch } = this.#loop
    scratch.bytes.writeInt32LE(value, 0)
    // Fails only for a connection that has ended, which is reported separately.
    libc.setsockopt(this.fd, level, option, scratch.address, 4)
  }

  /** SO_ERROR, which is cleared by reading it. */
  #takeError(): number {
    const { scratch } = this.#loop
    scratch.bytes.writeInt32LE(4, lengthAt)
    libc.getsockopt(this.fd, Level.Socket, SocketOption.Error, scratch.address, scratch.address + lengthAt)
    return scratch.bytes.readInt32LE(0)
  }

  // The end

  close(): void {
    if (this.#state === 'closed') return
    this.#leave()
    if (this.#tls !== null) {
      if (this.#state === 'open' && this.#queue === null) this.#tls.sayEnd()
      this.#tls.free()
      this.#tls = null
    }
    if (this.#state === 'ending') this.#loop.endingDone()
    this.#state = 'closed'
    this.#endTimer?.cancel()
    this.#dropKept()
    this.#queue = null
    if (this.fd >= 0) this.#loop.close(this)
  }

  abandon(): void {
    this.close()
  }

  end(): void {
    if (this.#state === 'ending' || this.#state === 'closed') return
    this.#leave()
    if (this.#state === 'connecting' || this.#state === 'securing' || this.#failure !== 0) {
      this.close()
      return
    }
    this.#writeFirst = false
    this.#state = 'ending'
    this.#loop.endingBegan()
    this.#dropKept()
    this.#endTimer = this.#loop.timers.at(this.#loop.nowMs + endTimeoutMs, () => this.close())
    if (this.#queue === null) this.#shutdown()
    else this.#watch()
  }

  #shutdown(): void {
    this.#tls?.sayEnd()
    if (this.#peerEnded || libc.shutdown(this.fd, libc.shutWrite) < 0) this.close()
    else this.#watch()
  }

  #discard(): void {
    const { turnBuffer } = this.#loop
    const length = libc.recv(this.fd, turnBuffer.memory.address + turnBuffer.reserve(0, readBytesMax), readBytesMax, 0)
    if (length > 0) return
    if (length === 0 && this.#queue !== null) {
      this.#peerEnded = true
      this.#watch()
      return
    }
    if (length < 0 && (libc.errno() === Errno.EAGAIN || libc.errno() === Errno.EINTR)) return
    this.close()
  }

  /** The peer or network ended it; `errno` 0 is an orderly end. */
  #ended(errno: number): void {
    const cause = this.#cause(errno)
    this.close()
    this.events.onClose(cause)
  }

  #cause(errno: number): CloseCause {
    if (errno === 0) return endOfFile
    return { kind: this.#kind(errno), errno: libc.errnoName(errno) }
  }

  #kind(errno: number): CloseCause['kind'] {
    switch (errno) {
      case Errno.EPIPE:
      case Errno.ECONNRESET:
        return 'reset'
      case Errno.ECONNREFUSED:
        return 'refused'
      // For a Unix socket: no such file, no permission, or the server's queue is full.
      case Errno.ENOENT:
      case Errno.EACCES:
      case Errno.EAGAIN:
        return this.#state === 'connecting' ? 'refused' : 'error'
      case Errno.ENETDOWN:
      case Errno.ENETUNREACH:
      case Errno.EHOSTDOWN:
      case Errno.EHOSTUNREACH:
        return 'unreachable'
      case Errno.ETIMEDOUT:
        return this.#state !== 'connecting' && this.#unacknowledgedBytes() === 0 ? 'keepalive' : 'unacked'
      default:
        return 'error'
    }
  }

  /**
   * After ETIMEDOUT the kernel has dropped its send queue and tcpi_unacked is 0, but SIOCOUTQ, the distance between two
   * sequence numbers, remains. Measured on Linux 6.18 between network namespaces with the link down, with keepalive 1
   * s/1 s/2 and TCP_USER_TIMEOUT 3 s: idle 2.8 s, SIOCOUTQ 0 (two probes); a 5-byte query in flight 3.0 s, SIOCOUTQ 5
   * (three retransmits); peer's window closed before 2.1 s, SIOCOUTQ 47784.
   */
  #unacknowledgedBytes(): number {
    const { scratch } = this.#loop
    if (libc.ioctl(this.fd, libc.unacknowledgedRequest, scratch.address) < 0) return 0
    return scratch.bytes.readInt32LE(0)
  }
}

const Pause = { byOwner: 1, held: 2 } as const

const endOfFile: CloseCause = { kind: 'eof', errno: null }
const nowhere: Address = { host: '', port: 0 }

/** Offset of a result's length in the scratch memory. */
const lengthAt = 64

function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000))
}
