import * as libc from './libc.ts'
import type { Memory } from './libc.ts'
import type { Entry } from './entry.ts'

/**
 * The alarm clock of a loop, a timerfd (timerfd_create(2)): set once for the next timer, it ends waits. A timeout given to
 * each wait would be set up and taken down by the kernel every time.
 */
export class Alarm implements Entry {
  readonly fd: number
  /** When it goes off; Infinity when it has, or was never set. */
  atMs = Infinity
  generation = 0
  readonly #scratch: Memory
  readonly #closeFd: (fd: number) => void

  constructor(fd: number, scratch: Memory, closeFd: (fd: number) => void) {
    this.fd = fd
    this.#scratch = scratch
    this.#closeFd = closeFd
  }

  /** Goes off at `atMs`, a moment that is still to come, and not at the one set before. */
  set(atMs: number, nowMs: number): void {
    this.atMs = atMs
    const delayMs = Math.min(atMs - nowMs, delayMsMax)
    const seconds = Math.floor(delayMs / 1000)
    const { bytes, address } = this.#scratch
    // struct itimerspec: the interval, which is none, and the time to the first; zero would turn it off.
    bytes.fill(0, 0, 32)
    bytes.writeUInt32LE(seconds, 16)
    bytes.writeUInt32LE(Math.min(Math.floor((delayMs - seconds * 1000) * 1e6) + 1, 999_999_999), 24)
    if (libc.timerfdSettime(this.fd, 0, address, 0) < 0) throw libc.systemError('timerfd_settime')
  }

  ready(): void {
    this.atMs = Infinity
  }

  abandon(): void {
    this.#closeFd(this.fd)
  }
}

/** Ten days; then it goes off for nothing, and is set again. */
const delayMsMax = 10 * 24 * 3_600_000
