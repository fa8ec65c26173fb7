/**
 * A simulated network: wires of two one-way pipes, with latency, small buffers, deliveries cut at any byte, resets and
 * silence. The ends of the wires carry the engine's sockets (io.ts) and the models of clients and servers (Peer).
 */
import type { Address } from '../../proxy/io/io.ts'
import { ByteQueue } from './bytes.ts'
import type { Random } from './random.ts'
import type { Schedule, Scheduled } from './schedule.ts'

export interface WireRules {
  readonly latencyMsMax: number
  /** Bytes that may be in flight or unread in one direction before the sender has to wait. */
  readonly capacityBytes: number
  /** Most bytes that arrive in one piece. */
  readonly grainBytes: number
}

export interface EndEvents {
  onOpen(): void
  /** Bytes, or the peer's end, have arrived; see `available` and `finished`. */
  onArrive(): void
  /** The peer has read, so there may be room to send again. */
  onSpace(): void
  onReset(): void
  /** Dialling failed. Silence is no failure: no event follows. */
  onFail(kind: 'refused' | 'unreachable'): void
  /** The wire went silent or recovered; only the engine's sockets need it. */
  onSilence(silent: boolean): void
}

/** One direction of a wire. */
class Pipe {
  readonly #wire: Wire
  readonly #flight = new ByteQueue()
  readonly #arrived = new ByteQueue()
  #unconfirmed = 0
  #finishing = false
  #finishArrived = false
  #moving = false
  sender!: End
  receiver!: End

  constructor(wire: Wire) {
    this.#wire = wire
  }

  get available(): number {
    return this.#arrived.length
  }

  get inFlight(): number {
    return this.#flight.length
  }

  get finished(): boolean {
    return this.#finishArrived && this.#arrived.length === 0
  }

  get finishArrived(): boolean {
    return this.#finishArrived
  }

  get room(): number {
    return this.#wire.rules.capacityBytes - this.#flight.length - this.#arrived.length - this.#unconfirmed
  }

  offer(bytes: Uint8Array, start: number, end: number): number {
    const accepted = Math.min(end - start, Math.max(0, this.room))
    this.#flight.push(bytes, start, start + accepted)
    this.#move()
    return accepted
  }

  take(bytesMax: number): Buffer {
    const bytes = this.#arrived.take(bytesMax)
    if (bytes.length === 0) return bytes
    this.#unconfirmed += bytes.length
    this.#wire.later(() => {
      this.#unconfirmed -= bytes.length
      this.sender.events.onSpace()
    })
    return bytes
  }

  finish(): void {
    this.#finishing = true
    this.#move()
  }

  /** Everything in flight is lost, and what has arrived may be too. */
  discard(): void {
    this.#flight.clear()
    if (this.#wire.random.chance(0.5)) this.#arrived.clear()
  }

  #move(): void {
    if (this.#moving) return
    if (this.#flight.length === 0 && !(this.#finishing && !this.#finishArrived)) return
    this.#moving = true
    this.#wire.later(() => {
      this.#moving = false
      this.#arrive()
    })
  }

  #arrive(): void {
    const { random, rules } = this.#wire
    if (this.#flight.length > 0) {
      const bytes = this.#flight.take(random.chance(0.3) ? rules.grainBytes : random.size(rules.grainBytes))
      // After a reset what was lost leaves no gap: nothing arrives behind it.
      if (this.receiver.closed || this.receiver.broken) {
        this.#flight.clear()
        this.#wire.later(() => this.sender.resetByPeer())
        return
      }
      this.#arrived.push(bytes)
    } else if (this.#finishing) {
      this.#finishArrived = true
    }
    this.#move()
    this.receiver.events.onArrive()
  }
}

/** One side of a wire. */
export class End {
  readonly wire: Wire
  readonly local: Address
  readonly remote: Address
  readonly #in: Pipe
  readonly #out: Pipe
  events: EndEvents = noEvents
  /** This side is closed; what arrives now is answered with a reset. */
  closed = false
  /** The wire is broken. */
  broken = false

  constructor(wire: Wire, incoming: Pipe, outgoing: Pipe, local: Address, remote: Address) {
    this.wire = wire
    this.#in = incoming
    this.#out = outgoing
    this.local = local
    this.remote = remote
    incoming.receiver = this
    outgoing.sender = this
  }

  get available(): number {
    return this.#in.available
  }

  /** The peer has ended and everything it sent was taken. */
  get finished(): boolean {
    return this.#in.finished
  }

  /** The peer has ended; something may still wait to be taken. */
  get finishArrived(): boolean {
    return this.#in.finishArrived
  }

  /** Sent bytes that have not arrived. */
  get unacknowledged(): number {
    return this.#out.inFlight
  }

  offer(bytes: Uint8Array, start: number, end: number): number {
    return this.closed || this.broken ? end - start : this.#out.offer(bytes, start, end)
  }

  take(bytesMax: number): Buffer {
    return this.#in.take(bytesMax)
  }

  /** Ends this direction in order, after what was sent. */
  finish(): void {
    if (!this.broken) this.#out.finish()
  }

  /** close(2): in order when everything that arrived was taken, otherwise with a reset. */
  close(): void {
    if (this.closed) return
    this.closed = true
    this.events = noEvents
    if (this.broken) return
    if (this.available > 0) this.abort()
    else this.#out.finish()
  }

  /** A reset: what is in flight in both directions is lost. */
  abort(): void {
    this.closed = true
    this.events = noEvents
    if (this.broken) return
    this.broken = true
    const other = this.#out.receiver
    this.wire.later(() => other.resetByPeer())
  }

  resetByPeer(): void {
    if (this.broken) return
    this.broken = true
    this.#in.discard()
    if (!this.closed) this.events.onReset()
  }
}

export class Wire {
  readonly schedule: Schedule
  readonly random: Random
  readonly rules: WireRules
  /** Number of its dial, which orders wires and everything else that counts dials. */
  readonly serial: number
  readonly dialler: End
  readonly listener: End
  /** A fault was injected, for which neither peer is responsible. */
  faulted = false
  #silent = false
  #healing: Scheduled | null = null
  #stalled: (() => void)[] = []

  constructor(schedule: Schedule, random: Random, rules: WireRules, serial: number, from: Address, to: Address) {
    this.serial = serial
    this.schedule = schedule
    this.random = random
    this.rules = rules
    const up = new Pipe(this)
    const down = new Pipe(this)
    this.dialler = new End(this, down, up, from, to)
    this.listener = new End(this, up, down, to, from)
  }

  get silent(): boolean {
    return this.#silent
  }

  /** Runs after a latency, and not while the wire is silent. */
  later(run: () => void): void {
    const delayMs = this.random.next() * this.random.next() * this.rules.latencyMsMax
    this.schedule.after(delayMs, () => {
      if (this.#silent) this.#stalled.push(run)
      else run()
    })
  }

  /** Both sides see a reset. */
  cut(): void {
    this.faulted = true
    this.later(() => this.dialler.resetByPeer())
    this.later(() => this.listener.resetByPeer())
  }

  /** Nothing passes in either direction, for ever when the duration is Infinity. */
  silence(durationMs: number): void {
    this.faulted = true
    this.#healing?.cancel()
    if (Number.isFinite(durationMs)) this.#healing = this.schedule.after(durationMs, () => this.#heal())
    if (this.#silent) return
    this.#silent = true
    this.dialler.events.onSilence(true)
    this.listener.events.onSilence(true)
  }

  #heal(): void {
    this.#silent = false
    const stalled = this.#stalled
    this.#stalled = []
    for (const run of stalled) run()
    this.dialler.events.onSilence(false)
    this.listener.events.onSilence(false)
  }
}

/** State of a whole host. */
export type HostState = 'up' | 'refusing' | 'unreachable' | 'silent'

export class Network {
  readonly schedule: Schedule
  readonly random: Random
  readonly wires = new Set<Wire>()
  readonly #listeners = new Map<string, (end: End) => void>()
  readonly #states = new Map<string, HostState>()
  /** Connections dialled so far. */
  dials = 0

  constructor(schedule: Schedule, random: Random) {
    this.schedule = schedule
    this.random = random
  }

  listen(address: Address, onAccept: (end: End) => void): () => void {
    const key = keyOf(address)
    if (this.#listeners.has(key)) throw new Error(`${key} is taken`)
    this.#listeners.set(key, onAccept)
    return () => this.#listeners.delete(key)
  }

  setHost(host: string, state: HostState): void {
    this.#states.set(host, state)
  }

  hostState(host: string): HostState {
    return this.#states.get(host) ?? 'up'
  }

  /** The dialler's end. onOpen or onFail follows, or nothing when the other host is silent. */
  dial(fromHost: string, to: Address, rules: WireRules): End {
    const serial = this.dials++
    const wire = new Wire(this.schedule, this.random, rules, serial, { host: fromHost, port: firstPort + serial }, to)
    this.wires.add(wire)
    wire.later(() => this.#arrived(wire, to))
    return wire.dialler
  }

  /** Forgets wires whose ends are both closed. */
  prune(): void {
    for (const wire of this.wires) if (wire.dialler.closed && wire.listener.closed) this.wires.delete(wire)
  }

  #arrived(wire: Wire, to: Address): void {
    const state = this.hostState(to.host)
    const onAccept = this.#listeners.get(keyOf(to))
    if (wire.dialler.closed || wire.dialler.broken || wire.listener.broken) {
      wire.listener.closed = true
      return
    }
    if (state === 'up' && onAccept !== undefined) {
      wire.later(() => wire.dialler.events.onOpen())
      onAccept(wire.listener)
      return
    }
    wire.listener.closed = true
    if (state === 'silent') {
      wire.silence(Infinity)
      return
    }
    wire.dialler.broken = true
    wire.later(() => wire.dialler.events.onFail(state === 'unreachable' ? 'unreachable' : 'refused'))
  }
}

function keyOf(address: Address): string {
  return `${address.host}:${address.port}`
}

const firstPort = 10_000

export interface PeerEvents {
  onOpen?(): void
  onBytes(bytes: Buffer): void
  onEnd(kind: 'eof' | 'reset' | 'refused' | 'unreachable'): void
}

/** A model's view of its end of a wire: it reads everything that arrives unless told not to, and may write at will. */
export class Peer {
  readonly end: End
  readonly #events: PeerEvents
  readonly #queue = new ByteQueue()
  #reading = true
  #ended = false
  #finishing = false

  constructor(end: End, events: PeerEvents) {
    this.end = end
    this.#events = events
    end.events = {
      onOpen: () => events.onOpen?.(),
      onArrive: () => this.#read(),
      onSpace: () => this.#flush(),
      onReset: () => this.#finished('reset'),
      onFail: (kind) => this.#finished(kind),
      onSilence: () => undefined,
    }
  }

  get ended(): boolean {
    return this.#ended
  }

  write(bytes: Uint8Array): void {
    if (this.#ended) return
    this.#queue.push(bytes)
    this.#flush()
  }

  set reading(reading: boolean) {
    this.#reading = reading
    if (reading) this.end.wire.later(() => this.#read())
  }

  /** Ends in order, after what was written. */
  finish(): void {
    this.#finishing = true
    this.#flush()
  }

  reset(): void {
    this.#ended = true
    this.end.abort()
  }

  #read(): void {
    while (this.#reading && !this.#ended && this.end.available > 0) this.#events.onBytes(this.end.take(Infinity))
    if (this.#reading && !this.#ended && this.end.finished) this.#finished('eof')
  }

  #flush(): void {
    if (this.#ended) return
    while (this.#queue.length > 0) {
      const bytes = this.#queue.take(this.end.wire.rules.capacityBytes)
      const accepted = this.end.offer(bytes, 0, bytes.length)
      if (accepted < bytes.length) {
        this.#queue.unshift(bytes.subarray(accepted))
        return
      }
    }
    if (!this.#finishing) return
    this.#ended = true
    this.end.close()
  }

  #finished(kind: 'eof' | 'reset' | 'refused' | 'unreachable'): void {
    if (this.#ended) return
    this.#ended = true
    this.end.close()
    this.#events.onEnd(kind)
  }
}

const noEvents: EndEvents = {
  onOpen: () => undefined,
  onArrive: () => undefined,
  onSpace: () => undefined,
  onReset: () => undefined,
  onFail: () => undefined,
  onSilence: () => undefined,
}
