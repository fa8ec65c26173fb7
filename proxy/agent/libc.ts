/** The few system calls the agent needs besides Node's own; the engine has its own set. */
import { strict as assert } from 'node:assert'
import koffi from 'koffi'

const libc = koffi.load(null)

type Int = (...args: (number | Uint8Array)[]) => number
const eventfd: Int = libc.func('int eventfd(unsigned int initval, int flags)')
const write: Int = libc.func('int64_t write(int fd, const uint8_t *buf, uint64_t count)')
const close: Int = libc.func('int close(int fd)')
const flock: Int = libc.func('int flock(int fd, int operation)')

/** <sys/eventfd.h> and <sys/file.h>, the same on every Linux architecture. */
const EFD_NONBLOCK = 0o4000
const EFD_CLOEXEC = 0o2000000
const LOCK_EX = 2
const LOCK_NB = 4

/** eventfd(2) adds this number to its counter, which makes the descriptor readable. */
const one = Buffer.alloc(8)
one.writeBigUInt64LE(1n)

/** Opens the descriptor by which the engine's loop is woken. */
export function openWakeFd(): number {
  const fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
  assert(fd >= 0, `eventfd failed with errno ${koffi.errno()}`)
  return fd
}

/** A full counter refuses the write, and is readable anyway: nothing is lost. */
export function wake(fd: number): void {
  write(fd, one, one.length)
}

export function closeFd(fd: number): void {
  close(fd)
}

/** Takes the lock for as long as the descriptor is open, so that it ends with the process however that ends. */
export function tryLock(fd: number): boolean {
  return flock(fd, LOCK_EX | LOCK_NB) === 0
}

/** Closes every descriptor whose bit is set, and clears the bits. Returns how many there were. */
export function closeMarked(openFds: SharedArrayBuffer): number {
  const bits = new Uint8Array(openFds)
  let closed = 0
  for (const [index, byte] of bits.entries()) {
    for (let bit = 0; byte >> bit !== 0; bit += 1) {
      if (((byte >> bit) & 1) === 0) continue
      close(index * 8 + bit)
      closed += 1
    }
    bits[index] = 0
  }
  return closed
}
