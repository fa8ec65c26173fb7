import * as libc from './libc.ts'
import type { Memory } from './libc.ts'
import type { Entry } from './entry.ts'

/**
 * A timer of the loop, a timerfd (timerfd_create(2)): set to the next timer, it ends waits. With a timeout for each
 * wait, the kernel would set up and remove a timer every time.
 */
export class Alarm implements Entry {
  readonly fd: number
  /** Time at which it fires; Infinity if it has fired or was never set. */
  atMs = Infinity
  generation = 0
  readonly #scratch: Memory
  readonly #closeFd: (fd: number) => void

  constructor(fd: number, scratch: Memory, closeFd: (fd: number) => void) {
    this.fd = fd
    this.#scratch = scratch
    this.#closeFd = closeFd
  }

  /** Fires at `atMs`, which is in the future, in place of the time set before. */
  set(atMs: number, nowMs: number): void {
    this.atMs = atMs
    const delayMs = Math.min(atMs - nowMs, delayMsMax)
    const seconds = Math.floor(delayMs / 1000)
    const { bytes, address } = this.#scratch
    // struct itimerspec: no interval, and the time until it fires; zero would disarm it.
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

/** Ten days; a longer delay is set again when it fires. */
const delayMsMax = 10 * 24 * 3_600_000
