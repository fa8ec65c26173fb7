/** System calls of the agent besides Node's; the engine has a set of its own. */
import { strict as assert } from 'node:assert'
import koffi from 'koffi'

const libc = koffi.load(null)

type Int = (...args: (number | Uint8Array)[]) => number
const eventfd: Int = libc.func('int eventfd(unsigned int initval, int flags)')
const write: Int = libc.func('int64_t write(int fd, const uint8_t *buf, uint64_t count)')
const close: Int = libc.func('int close(int fd)')
const flock: Int = libc.func('int flock(int fd, int operation)')

/** pthread_sigmask(3): of the calling thread. */
const sigmask: Int = libc.func('int pthread_sigmask(int how, const uint8_t *set, uint8_t *former)')
const SIG_UNBLOCK = 1
/** sizeof(sigset_t) of glibc; musl's is not longer. */
const signalSetBytes = 128

/** <sys/eventfd.h> and <sys/file.h>, the same on all Linux architectures. */
const EFD_NONBLOCK = 0o4000
const EFD_CLOEXEC = 0o2000000
const LOCK_EX = 2
const LOCK_NB = 4

/** eventfd(2) adds this number to its counter, which makes the descriptor readable. */
const one = Buffer.alloc(8)
one.writeBigUInt64LE(1n)

/** Opens the descriptor that wakes the engine's loop. */
export function openWakeFd(): number {
  const fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
  assert(fd >= 0, `eventfd failed with errno ${koffi.errno()}`)
  return fd
}

/** If the counter is full the write fails, and the descriptor is readable anyway. */
export function wake(fd: number): void {
  write(fd, one, one.length)
}

export function closeFd(fd: number): void {
  close(fd)
}

/**
 * Unblocks a signal for this thread. Node starts with SIGUSR1 blocked until its debugger waits for it, and with
 * `--disable-sigusr1` it stays blocked, even with a handler.
 */
export function unblockSignal(signal: number): void {
  const set = new Uint8Array(signalSetBytes)
  const bit = signal - 1
  set[bit >> 3] = 1 << (bit & 7)
  const failed = sigmask(SIG_UNBLOCK, set, new Uint8Array(signalSetBytes))
  assert(failed === 0, `pthread_sigmask failed with errno ${failed}`)
}

/** Takes a lock that lasts as long as the descriptor is open, so that it ends with the process. */
export function tryLock(fd: number): boolean {
  return flock(fd, LOCK_EX | LOCK_NB) === 0
}

/** Marks a descriptor to be closed by `closeMarked`. */
export function mark(openFds: SharedArrayBuffer, fd: number): void {
  Atomics.or(new Uint8Array(openFds), fd >> 3, 1 << (fd & 7))
}

/** Closes all marked descriptors and clears the marks. Returns how many there were. */
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

// Passing descriptors to another process (unix(7), cmsg(3))

const unixSocket: Int = libc.func('int socket(int domain, int type, int protocol)')
const connect: Int = libc.func('int connect(int fd, const uint8_t *address, uint32_t length)')
const sendmsg: Int = libc.func('int64_t sendmsg(int fd, const uint8_t *message, int flags)')
const recvmsg: Int = libc.func('int64_t recvmsg(int fd, uint8_t *message, int flags)')

const AF_UNIX = 1
const SOCK_STREAM_CLOEXEC = 0o2000001
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000
const EAGAIN = 11
/** struct sockaddr_un: a path of at most 107 bytes and a zero. */
const pathBytesMax = 107
const messageHeadBytes = 56
const cmsgHeadBytes = 16
/** Maximum number of descriptors in one message. */
const descriptorsMax = 8
const controlBytes = cmsgHeadBytes + 4 * descriptorsMax
const textBytesMax = 4096

/** A connection to the Unix socket at `path`; null if no process listens there. */
export function connectUnix(path: string): number | null {
  const name = Buffer.from(path)
  assert(name.length <= pathBytesMax, `the path of a Unix socket must not exceed ${pathBytesMax} bytes: ${path}`)
  const address = Buffer.alloc(2 + pathBytesMax + 1)
  address.writeUInt16LE(AF_UNIX, 0)
  name.copy(address, 2)
  const fd = unixSocket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0)
  assert(fd >= 0, `socket failed with errno ${koffi.errno()}`)
  if (connect(fd, address, address.length) === 0) return fd
  close(fd)
  return null
}

/** Sends `text` and one to eight descriptors in one message. False if the peer has closed. */
export function sendDescriptors(socketFd: number, text: string, fds: readonly number[]): boolean {
  assert(fds.length > 0 && fds.length <= descriptorsMax, `${fds.length} descriptors in one message`)
  assert(Buffer.byteLength(text) <= textBytesMax, 'text too long')
  const { message, body, control } = messageOf(Buffer.byteLength(text), fds.length)
  body.write(text)
  control.writeBigUInt64LE(BigInt(cmsgHeadBytes + 4 * fds.length), 0)
  control.writeInt32LE(SOL_SOCKET, 8)
  control.writeInt32LE(SCM_RIGHTS, 12)
  for (const [index, fd] of fds.entries()) control.writeInt32LE(fd, cmsgHeadBytes + 4 * index)
  return sendmsg(socketFd, message, MSG_NOSIGNAL) > 0
}

export interface Descriptors {
  readonly text: string
  readonly fds: readonly number[]
}

/** Receives a message of `sendDescriptors`; undefined if none has arrived, null if the peer has closed. */
export function receiveDescriptors(socketFd: number): Descriptors | null | undefined {
  const { message, body, control } = messageOf(textBytesMax, descriptorsMax)
  const length = recvmsg(socketFd, message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)
  if (length < 0 && koffi.errno() === EAGAIN) return undefined
  if (length <= 0 || control.readInt32LE(12) !== SCM_RIGHTS) return null
  const count = (Number(control.readBigUInt64LE(0)) - cmsgHeadBytes) / 4
  const fds = Array.from({ length: count }, (_, index) => control.readInt32LE(cmsgHeadBytes + 4 * index))
  return { text: body.toString('utf8', 0, length), fds }
}

/**
 * struct msghdr with one buffer of `bodyBytes` and room for `fds` descriptors. All three buffers must live through the
 * call.
 */
function messageOf(bodyBytes: number, fds: number): { message: Buffer; body: Buffer; control: Buffer } {
  // One allocation, so that a reference to the header keeps alive what it points to.
  const memory = Buffer.from(new ArrayBuffer(messageHeadBytes + 16 + controlBytes + bodyBytes))
  const at = koffi.address(memory)
  const message = memory.subarray(0, messageHeadBytes)
  const control = memory.subarray(messageHeadBytes + 16, messageHeadBytes + 16 + controlBytes)
  const body = memory.subarray(messageHeadBytes + 16 + controlBytes)
  memory.writeBigUInt64LE(at + BigInt(messageHeadBytes), 16) // msg_iov
  memory.writeBigUInt64LE(1n, 24) // msg_iovlen
  memory.writeBigUInt64LE(at + BigInt(messageHeadBytes + 16), 32) // msg_control
  // Padded to whole words, unlike the length in the header itself.
  memory.writeBigUInt64LE(BigInt(cmsgHeadBytes + 8 * Math.ceil(fds / 2)), 40) // msg_controllen
  memory.writeBigUInt64LE(at + BigInt(messageHeadBytes + 16 + controlBytes), messageHeadBytes) // iov_base
  memory.writeBigUInt64LE(BigInt(bodyBytes), messageHeadBytes + 8) // iov_len
  return { message, body, control }
}
