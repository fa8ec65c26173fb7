import { strict as assert } from 'node:assert'
// HOT: the global of this name is a getter, evaluated at each use.
import { performance } from 'node:perf_hooks'
import { Alarm } from './alarm.ts'
import type { Timer } from './io.ts'
import { IoError } from './io.ts'
import type { Memory } from './libc.ts'
import * as libc from './libc.ts'
import { EpollEvents, EpollOperation, Errno } from './libc.ts'
import type { Entry } from './entry.ts'
import type { OpenFds } from './open-fds.ts'
import { TurnBuffer, sendsMax } from './turn-buffer.ts'
import { SendRing } from './send-ring.ts'
import { Timers } from './timers.ts'

/** Called by the loop after the current handlers. */
export interface Postponed {
  resume(): void
}

/** Events taken from the kernel at a time; others come with the next turn. */
const eventsMax = 256

const stallPeriodMsMin = 100

/** Kept bytes up to this length use a list of reused chunks. */
const pieceBytes = 512
const sparePiecesMax = 1024

/**
 * One blocking epoll loop and what its sockets share: clock, timers, read buffer, and the owners of descriptors. A turn
 * waits, then handles ready descriptors, postponed calls and due timers. Errors of handlers are thrown from the turn.
 */
export class Loop {
  /** Monotonic; read once per turn. */
  nowMs = performance.now()
  readonly timers = new Timers()
  #endingCount = 0
  /** Received bytes, and what is to be sent of them. */
  readonly turnBuffer = new TurnBuffer()
  /** Bytes on their way to the kernel that do not fit the turn buffer. */
  readonly outgoing = libc.allocateLow(65536)
  /** Arguments and results of system calls. */
  readonly scratch = libc.allocateLow(128)
  readonly openFds: OpenFds | null
  readonly #epollFd: number
  readonly #entries: (Entry | undefined)[] = []
  readonly #ready: Memory
  readonly #readyWords: Int32Array
  readonly #change: Memory
  readonly #changeWords: Int32Array
  readonly #alarm: Alarm
  readonly #pieces: Uint8Array[] = []
  #postponed: Postponed[] = []
  #running: Postponed[] = []
  #generation = 0
  #stallPeriodMs = Infinity
  #stallTimer: Timer | null = null

  /** Null if `ioUring` is not requested or was refused. */
  readonly #ring: SendRing | null
  /** errno with which io_uring was refused; null if it was not. */
  ringRefused: string | null = null

  constructor(openFds: OpenFds | null, ioUring: boolean) {
    this.openFds = openFds
    this.#ready = libc.allocateLow(eventsMax * libc.epollEvent.words * 4)
    this.#readyWords = words(this.#ready)
    this.#change = libc.allocateLow(libc.epollEvent.words * 4)
    this.#changeWords = words(this.#change)
    this.#epollFd = this.own(libc.epollCreate1(libc.epollCloexec))
    if (this.#epollFd < 0) throw libc.systemError('epoll_create1')
    const alarmFd = this.own(libc.timerfdCreate(libc.monotonicClock, libc.timerFlags))
    if (alarmFd < 0) throw libc.systemError('timerfd_create')
    this.#alarm = new Alarm(alarmFd, this.scratch, (fd) => this.closeFd(fd))
    this.watch(this.#alarm, EpollEvents.In | EpollEvents.Edge)
    this.#ring = ioUring ? this.#openRing() : null
    this.turnBuffer.sendBy(this.#ring)
  }

  #openRing(): SendRing | null {
    try {
      return new SendRing(
        sendsMax,
        (fd) => this.own(fd),
        (fd) => this.closeFd(fd),
      )
    } catch (error) {
      if (!(error instanceof IoError)) throw error
      this.ringRefused = error.errno
      return null
    }
  }

  /** Records a descriptor returned by a system call; returns it, or -1 with EMFILE above the maximum. */
  own(fd: number): number {
    if (fd < 0 || this.openFds === null) return fd
    if (fd >= this.openFds.fdMax) {
      libc.close(fd)
      libc.setErrno(Errno.EMFILE)
      return -1
    }
    this.openFds.add(fd)
    return fd
  }

  closeFd(fd: number): void {
    this.openFds?.remove(fd)
    libc.close(fd)
  }

  /** Closes the descriptor with the loop, although it is not watched yet. */
  register(entry: Entry): void {
    this.#generation = (this.#generation + 1) | 0
    entry.generation = this.#generation
    this.#entries[entry.fd] = entry
  }

  watch(entry: Entry, events: number): void {
    this.register(entry)
    this.#control(EpollOperation.Add, entry, events)
  }

  change(entry: Entry, events: number): void {
    this.#control(EpollOperation.Modify, entry, events)
  }

  /** Removes the descriptor from the epoll set until it is watched again; pending events are void. */
  rest(entry: Entry): void {
    this.register(entry)
    this.#control(EpollOperation.Delete, entry, 0)
  }

  /** Removes a descriptor that others continue to use; it stays open. */
  unwatch(entry: Entry): void {
    this.#entries[entry.fd] = undefined
    this.#control(EpollOperation.Delete, entry, 0)
  }

  /** Closes the descriptor of an entry, which removes it from the set. */
  close(entry: Entry): void {
    this.#entries[entry.fd] = undefined
    this.closeFd(entry.fd)
  }

  #control(operation: number, entry: Entry, events: number): void {
    this.#changeWords[0] = events
    this.#changeWords[libc.epollEvent.fdWord] = entry.fd
    this.#changeWords[libc.epollEvent.generationWord] = entry.generation
    if (libc.epollCtl(this.#epollFd, operation, entry.fd, this.#change.address) < 0) throw libc.systemError('epoll_ctl')
  }

  /** Calls `what.resume` once, in this turn after the ready descriptors or in the next one. */
  postpone(what: Postponed): void {
    this.#postponed.push(what)
  }

  /** Waits for events, at most `waitMsMax`, and handles them. */
  turn(waitMsMax: number): void {
    this.turnBuffer.clear()
    const count = libc.epollWait(this.#epollFd, this.#ready.address, eventsMax, this.#waitMs(waitMsMax))
    if (count < 0 && libc.errno() !== Errno.EINTR) throw libc.systemError('epoll_wait')
    this.nowMs = performance.now()
    const { words: step, fdWord, generationWord } = libc.epollEvent
    for (let at = 0; at < count * step; at += step) {
      const entry = this.#entries[this.#readyWords[at + fdWord] as number]
      if (entry === undefined || entry.generation !== this.#readyWords[at + generationWord]) continue
      entry.ready(this.#readyWords[at] as number)
    }
    this.#resumePostponed()
    this.timers.runDue(this.nowMs)
    this.turnBuffer.clear()
  }

  /** For epoll_wait; -1 waits until an event or the alarm. */
  #waitMs(waitMsMax: number): number {
    if (this.#postponed.length > 0) return 0
    const { nextMs } = this.timers
    if (nextMs < this.#alarm.atMs) {
      const nowMs = performance.now()
      if (nextMs <= nowMs) return 0
      this.#alarm.set(nextMs, nowMs)
    }
    return waitMsMax === Infinity ? -1 : Math.ceil(waitMsMax)
  }

  #resumePostponed(): void {
    const postponed = this.#postponed
    if (postponed.length === 0) return
    this.#postponed = this.#running
    this.#running = postponed
    for (const what of postponed) what.resume()
    postponed.length = 0
  }

  /** Checks for stalls often enough for a user timeout of `userTimeoutMs` from now on. */
  watchStalls(userTimeoutMs: number): void {
    const periodMs = Math.max(stallPeriodMsMin, userTimeoutMs / 4)
    if (periodMs >= this.#stallPeriodMs) return
    this.#stallPeriodMs = periodMs
    this.#stallTimer?.cancel()
    this.#scheduleStallCheck()
  }

  #scheduleStallCheck(): void {
    this.#stallTimer = this.timers.at(this.nowMs + this.#stallPeriodMs, () => {
      this.#scheduleStallCheck()
      for (const entry of this.#entries) entry?.checkStall?.(this.#stallPeriodMs)
    })
  }

  /** Memory for at least `length` bytes that a socket keeps. */
  takePiece(length: number): Uint8Array {
    if (length > pieceBytes) return Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(length)))
    return this.#pieces.pop() ?? Buffer.allocUnsafeSlow(pieceBytes)
  }

  givePiece(piece: Uint8Array): void {
    if (piece.length === pieceBytes && this.#pieces.length < sparePiecesMax) this.#pieces.push(piece)
  }

  /** Sockets that this side has ended and whose peer has not closed yet. */
  get hasEnding(): boolean {
    return this.#endingCount > 0
  }

  endingBegan(): void {
    this.#endingCount++
  }

  endingDone(): void {
    this.#endingCount--
  }

  /** Closes all descriptors. The loop cannot be used again. */
  dispose(): void {
    for (const entry of this.#entries) entry?.abandon()
    this.turnBuffer.sendBy(null)
    this.#ring?.close()
    this.closeFd(this.#epollFd)
    for (const memory of [this.turnBuffer.memory, this.outgoing, this.scratch, this.#ready, this.#change]) {
      libc.discard(memory)
    }
  }
}

function words(memory: Memory): Int32Array {
  assert(memory.bytes.byteOffset % 4 === 0, 'the kernel writes whole words')
  return new Int32Array(memory.bytes.buffer, memory.bytes.byteOffset, memory.bytes.length / 4)
}
