/**
 * The engine's Io on a virtual clock and a simulated network, with everything a kernel may do to a program: partial
 * sends, deliveries cut at any byte and interleaved in any order, resets, and silence that ends as in tcp(7). It also
 * checks the engine: the memory it must not keep, the offsets it may return, the queues it must not let grow.
 */
import assert from 'node:assert/strict'

import { carryBytesMax, IoError, readBytesMax } from '../../proxy/io/io.ts'
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
import { ByteQueue } from './bytes.ts'
import type { End, Network, WireRules } from './network.ts'
import type { Random } from './random.ts'
import type { Schedule, Scheduled } from './schedule.ts'

/** How long SYNs are retransmitted, and data where TCP_USER_TIMEOUT is 0 (tcp_syn_retries 6, tcp_retries2 15). */
const synMs = 127_000
const retriesMs = 924_000

/** How long end() waits for the peer to read the rest. */
const lingerMs = 1000

/**
 * Most bytes the engine may have queued on one socket: what one delivery can make it send, a few messages of its own,
 * and as much as one read, which is deferred before the engine learns of it. More means that the engine forgot to pause
 * the producer.
 */
const queuedBytesMax = carryBytesMax + 2 * readBytesMax + 65536

export class SimIo implements Io {
  readonly network: Network
  readonly schedule: Schedule
  readonly randomness: Random
  readonly rules: WireRules
  /** Source address of outgoing connections. */
  readonly host: string
  readonly sockets = new Set<SimSocket>()
  readonly listeners = new Set<Listener>()
  readonly timers = new Set<Timer>()
  /** How often the engine was called; when this is unchanged, there is nothing new to check. */
  turns = 0
  /** Called for every outgoing connection, before it is made. */
  onConnect: (events: SocketEvents) => void = () => undefined
  /** Called for every read, before the engine. */
  onRead: (events: SocketEvents) => void = () => undefined
  /** Called once, after the engine has handled the next read. */
  onceHandled: (() => void) | null = null

  constructor(network: Network, random: Random, rules: WireRules, host: string) {
    this.network = network
    this.schedule = network.schedule
    this.randomness = random
    this.rules = rules
    this.host = host
  }

  nowMs(): number {
    return this.schedule.nowMs
  }

  wallMs(): number {
    return Date.UTC(2026, 0, 1) + this.schedule.nowMs
  }

  listen(address: Address, onAccept: (socket: Socket) => SocketEvents): Listener {
    let stop: () => void
    try {
      stop = this.network.listen(address, (end) => {
        const socket = new SimSocket(this, end, true)
        this.sockets.add(socket)
        this.turns++
        socket.events = onAccept(socket)
      })
    } catch (error) {
      throw new IoError(String(error), 'EADDRINUSE')
    }
    const listener: Listener = {
      port: address.port,
      close: () => {
        this.listeners.delete(listener)
        stop()
      },
    }
    this.listeners.add(listener)
    return listener
  }

  connect(address: Address, options: TcpOptions, events: SocketEvents): Socket {
    this.onConnect(events)
    const socket = new SimSocket(this, this.network.dial(this.host, address, this.rules), false)
    socket.events = events
    socket.setTcpOptions(options)
    this.sockets.add(socket)
    return socket
  }

  after(delayMs: number, run: () => void): Timer {
    assert(Number.isFinite(delayMs), `a timer of ${delayMs} ms`)
    const scheduled = this.schedule.after(delayMs, () => {
      this.timers.delete(timer)
      this.turns++
      run()
    })
    const timer: Timer = {
      cancel: () => {
        this.timers.delete(timer)
        scheduled.cancel()
      },
    }
    this.timers.add(timer)
    return timer
  }

  /** The simulator has no TLS; handshakes are tested on epoll. */
  tlsContext(): TlsContext {
    return { free() {} }
  }

  random(bytes: Uint8Array): void {
    this.randomness.fill(bytes)
  }
}

const noEvents: SocketEvents = {
  onConnect: () => assert.fail('onConnect before there were events'),
  onData: () => assert.fail('onData before there were events'),
  onDrain: () => assert.fail('onDrain before there were events'),
  onClose: () => assert.fail('onClose before there were events'),
}

/** The only read buffer, overwritten after each delivery, which exposes a view that the engine keeps. */
const readBuffer = Buffer.alloc(64 + carryBytesMax + readBytesMax)

const emptyBuffer = Buffer.alloc(0)

export class SimSocket implements Socket {
  #io: SimIo
  readonly #end: End
  readonly accepted: boolean
  events: SocketEvents = noEvents
  #state: 'connecting' | 'open' | 'ending' | 'closed'
  #queue = new ByteQueue()
  /** Bytes that the handler left, which are delivered again before new ones. */
  #kept: Buffer = emptyBuffer
  #keptAgain = false
  #paused = false
  #held = false
  #parted = false
  #delivering = false
  #flushing = false
  /** What is queued leaves at the end of this turn; `send` returned true for it. */
  #deferred = false
  #drainOwed = false
  #wasReset = false
  #options: TcpOptions = {
    keepaliveIdleMs: 7_200_000,
    keepaliveIntervalMs: 75_000,
    keepaliveCount: 9,
    userTimeoutMs: 0,
  }
  #watch: Scheduled | null = null
  #watched: 'unacked' | 'keepalive' | null = null

  constructor(io: SimIo, end: End, accepted: boolean) {
    this.#io = io
    this.#end = end
    this.accepted = accepted
    this.#state = accepted ? 'open' : 'connecting'
    end.events = {
      onOpen: () => this.#opened(),
      onArrive: () => {
        this.#deliverSoon()
      },
      onSpace: () => this.#flush(),
      onReset: () => {
        this.#wasReset = true
        this.#deliverSoon()
      },
      onFail: (kind) => {
        const errno = kind === 'refused' ? 'ECONNREFUSED' : 'EHOSTUNREACH'
        this.#closed({ kind, errno })
      },
      onSilence: (silent) => this.#silence(silent),
    }
    if (!accepted) this.#watchConnect()
  }

  get remote(): Address {
    return this.#end.remote
  }

  get local(): Address {
    return this.#end.local
  }

  get queuedBytes(): number {
    return this.#deferred ? 0 : this.#queue.length
  }

  /** Includes what leaves at the end of this turn. */
  get unsentBytes(): number {
    return this.#queue.length
  }

  readonly tls = null

  startTls(): void {
    assert.fail('no simulated peer asks for TLS')
  }

  get readingPaused(): boolean {
    return this.#paused
  }

  get wire(): End['wire'] {
    return this.#end.wire
  }

  /** True until the engine closes it or learns of its end. */
  get open(): boolean {
    return this.#state === 'open' || this.#state === 'connecting'
  }

  send(bytes: Uint8Array, start: number, end: number): boolean {
    assert(start >= 0 && start <= end && end <= bytes.length, `send from ${start} to ${end} of ${bytes.length} bytes`)
    if (this.#state !== 'open') {
      assert(this.#state !== 'connecting', 'send before the connection is open')
      return true
    }
    if (this.#deferred || (this.#queue.length === 0 && this.#io.randomness.chance(0.3))) {
      this.#defer(bytes, start, end)
      return true
    }
    let from = start
    if (this.#queue.length === 0) {
      const wanted = this.#io.randomness.chance(0.15) ? this.#io.randomness.integer(0, end - start) : end - start
      from += this.#end.offer(bytes, start, start + wanted)
      this.#watchSilence()
      if (from === end) return true
    }
    this.#queue.push(bytes, from, end)
    assert(this.#queue.length <= queuedBytesMax, `${this.#queue.length} bytes queued: the producer was not paused`)
    this.#drainOwed = true
    this.#flushSoon()
    return false
  }

  /** As an epoll loop that sends at the end of a turn and queues what the kernel does not take. */
  #defer(bytes: Uint8Array, start: number, end: number): void {
    this.#queue.push(bytes, start, end)
    if (this.#deferred) return
    this.#deferred = true
    this.#io.schedule.after(0, () => this.#leave())
  }

  #leave(): void {
    if (!this.#deferred) return
    this.#deferred = false
    const partly = this.#io.randomness.chance(0.15)
    const bytes = this.#queue.take(partly ? this.#io.randomness.integer(0, this.#queue.length) : this.#queue.length)
    const accepted = this.#end.offer(bytes, 0, bytes.length)
    this.#watchSilence()
    if (accepted < bytes.length) this.#queue.unshift(bytes.subarray(accepted))
    if (this.#queue.length === 0) return
    this.#drainOwed = true
    this.#flushSoon()
  }

  pauseReading(): void {
    this.#paused = true
  }

  resumeReading(): void {
    if (!this.#paused) return
    this.#paused = false
    if (this.#held) return
    this.#keptAgain = true
    this.#deliverSoon()
  }

  suspendReading(): void {
    this.#held = true
  }

  unsuspendReading(): void {
    if (!this.#held) return
    this.#held = false
    if (this.#paused) return
    this.#keptAgain = true
    this.#deliverSoon()
  }

  /** No events until it arrives at another worker. False when unsent bytes prevent it. */
  part(): boolean {
    this.#leave()
    if (this.#queue.length > 0) return false
    this.#io.sockets.delete(this)
    this.#parted = true
    this.events = noEvents
    return true
  }

  /** As if `io` had accepted it and read `bytes` from it. Only now is its end noticed, too. */
  arrive(io: SimIo, bytes: Uint8Array, onAccept: (socket: Socket) => SocketEvents): void {
    this.#io = io
    io.sockets.add(this)
    io.turns++
    this.events = onAccept(this)
    this.#kept = Buffer.from(bytes)
    this.#keptAgain = true
    this.#paused = false
    this.#parted = false
    this.#deliverSoon()
  }

  setTcpOptions(options: TcpOptions): void {
    assert(this.#state !== 'closed' && this.#state !== 'ending', 'TCP options of a socket that has ended')
    this.#options = options
    this.#watched = null
    this.#watchSilence()
  }

  close(): void {
    if (!this.open) return
    this.#leave()
    this.#release('closed')
    this.#end.close()
  }

  end(): void {
    if (!this.open) return
    this.#leave()
    if (this.#state === 'connecting') {
      this.close()
      return
    }
    this.#release('ending')
    this.#end.events = {
      ...this.#end.events,
      onArrive: () => this.#linger(),
      onSpace: () => this.#linger(),
      onReset: () => this.#end.close(),
      onSilence: () => undefined,
    }
    this.#io.schedule.after(lingerMs, () => this.#end.close())
    this.#linger()
  }

  /** Sends the rest and reads until the peer's end, so that no reset overtakes what was sent. */
  #linger(): void {
    this.#end.take(Infinity)
    this.#flush()
    if (this.#queue.length === 0) this.#end.finish()
    if (this.#end.finished) this.#end.close()
  }

  #opened(): void {
    if (this.#state !== 'connecting') return
    this.#state = 'open'
    this.#watch?.cancel()
    this.#watch = null
    this.#io.turns++
    this.events.onConnect()
    this.#deliverSoon()
  }

  #release(state: 'ending' | 'closed'): void {
    this.#state = state
    this.#watch?.cancel()
    this.#watch = null
    this.#io.sockets.delete(this)
  }

  #closed(cause: CloseCause): void {
    if (!this.open) return
    this.#release('closed')
    this.#end.close()
    this.#io.turns++
    this.events.onClose(cause)
  }

  #deliverSoon(): void {
    if (this.#delivering) return
    this.#delivering = true
    this.#io.schedule.after(0, () => {
      this.#delivering = false
      this.#deliver()
    })
  }

  #deliver(): void {
    if (!this.open) return
    if (this.#state === 'connecting') {
      if (this.#wasReset) this.#closed({ kind: 'reset', errno: 'ECONNRESET' })
      return
    }
    if (this.#parted) return
    if (this.#paused || this.#held) {
      this.#noticeWhilePaused()
      return
    }
    if (this.#end.available > 0 || (this.#keptAgain && this.#kept.length > 0)) {
      this.#handData()
      return
    }
    if (this.#wasReset) this.#closed({ kind: 'reset', errno: 'ECONNRESET' })
    else if (this.#end.finished) this.#closed({ kind: 'eof', errno: null })
  }

  /** The end of a client is noticed while reading is paused; the end of a server only after all it sent was read. */
  #noticeWhilePaused(): void {
    if (!this.accepted) return
    if (this.#wasReset) this.#closed({ kind: 'reset', errno: 'ECONNRESET' })
    else if (this.#end.finishArrived) this.#closed({ kind: 'eof', errno: null })
  }

  /** What was kept is delivered again, followed by new bytes. */
  #handData(): void {
    const { randomness } = this.#io
    const again = this.#keptAgain && this.#kept.length > 0
    this.#keptAgain = false
    assert(again || this.#kept.length <= carryBytesMax, `a handler left ${this.#kept.length} bytes and did not pause`)
    const wanted = randomness.chance(0.5) ? readBytesMax : randomness.size(readBytesMax)
    const fresh = again ? emptyBuffer : this.#end.take(wanted)
    const start = randomness.integer(0, 63)
    const end = start + this.#kept.length + fresh.length
    this.#kept.copy(readBuffer, start)
    fresh.copy(readBuffer, start + this.#kept.length)
    this.#kept = emptyBuffer
    this.#io.turns++
    this.#io.onRead(this.events)
    const handled = this.events.onData(readBuffer, start, end)
    assert(
      Number.isInteger(handled) && handled >= start && handled <= end,
      `onData of ${start}..${end} gave ${handled}`,
    )
    const { onceHandled } = this.#io
    this.#io.onceHandled = null
    onceHandled?.()
    const rest = end - handled
    if (rest > 0 && this.open) {
      this.#kept = Buffer.from(readBuffer.subarray(handled, end))
    }
    readBuffer.fill(0xdb, start, end)
    if (this.open) this.#deliverSoon()
  }

  #flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    this.#end.wire.later(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  /** Sends what the kernel takes now; the rest waits for room. */
  #flush(): void {
    if (this.#end.closed || this.#end.broken) return
    while (this.#queue.length > 0) {
      const bytes = this.#queue.take(this.#io.randomness.size(readBytesMax))
      const accepted = this.#end.offer(bytes, 0, bytes.length)
      this.#watchSilence()
      if (accepted < bytes.length) {
        this.#queue.unshift(bytes.subarray(accepted))
        return
      }
    }
    if (!this.#drainOwed || this.#state !== 'open') return
    this.#drainOwed = false
    this.#io.turns++
    this.events.onDrain()
  }

  #silence(silent: boolean): void {
    this.#watch?.cancel()
    this.#watch = null
    this.#watched = null
    if (!silent) {
      this.#deliverSoon()
      return
    }
    if (this.#state === 'connecting') this.#watchConnect()
    else this.#watchSilence()
  }

  #watchConnect(): void {
    const limitMs = Math.min(this.#options.userTimeoutMs || synMs, synMs)
    this.#watch?.cancel()
    this.#watch = this.#io.schedule.after(limitMs, () => {
      if (this.#state === 'connecting') this.#closed({ kind: 'unacked', errno: 'ETIMEDOUT' })
    })
  }

  /** When the kernel gives up on a silent wire; keepalive probes wait for acknowledgements (tcp(7)). */
  #watchSilence(): void {
    if (!this.#end.wire.silent || this.#state !== 'open') return
    const { keepaliveIdleMs, keepaliveIntervalMs, keepaliveCount, userTimeoutMs } = this.#options
    const unacked = this.#end.unacknowledged > 0
    const kind = unacked ? 'unacked' : 'keepalive'
    if (this.#watched === kind) return
    this.#watched = kind
    const probesMs = keepaliveIdleMs + keepaliveIntervalMs * keepaliveCount
    this.#watch?.cancel()
    this.#watch = this.#io.schedule.after(unacked ? userTimeoutMs || retriesMs : probesMs, () => {
      this.#closed({ kind, errno: 'ETIMEDOUT' })
    })
  }
}
