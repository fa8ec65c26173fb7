/**
 * System calls of the epoll loop, made through koffi. Addresses are plain numbers (`address + offset`), so a call
 * allocates nothing; it costs about 100 ns in addition to the kernel's time.
 *
 * Constants are Linux's, equal on x64 and arm64 unless noted.
 */
import { strict as assert } from 'node:assert'
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'
import { IoError } from './io.ts'

assert(process.platform === 'linux', 'the engine runs on Linux only')

/** Symbols of the running binary: Node is linked against libc. */
const binary = koffi.load(null)

type Fd = number
type Address = number

export const epollCreate1: (flags: number) => number = binary.func('int epoll_create1(int flags)')
export const epollCtl: (epoll: Fd, operation: number, fd: Fd, event: Address) => number = binary.func(
  'int epoll_ctl(int epfd, int op, int fd, uintptr_t event)',
)
export const epollWait: (epoll: Fd, events: Address, eventsMax: number, timeoutMs: number) => number = binary.func(
  'int epoll_wait(int epfd, uintptr_t events, int maxevents, int timeout)',
)
export const timerfdCreate: (clock: number, flags: number) => number = binary.func(
  'int timerfd_create(int clockid, int flags)',
)
export const timerfdSettime: (fd: Fd, flags: number, time: Address, former: Address) => number = binary.func(
  'int timerfd_settime(int fd, int flags, uintptr_t new_value, uintptr_t old_value)',
)
export const recv: (fd: Fd, bytes: Address, length: number, flags: number) => number = binary.func(
  'int recv(int fd, uintptr_t buf, size_t len, int flags)',
)
export const send: (fd: Fd, bytes: Address, length: number, flags: number) => number = binary.func(
  'int send(int fd, uintptr_t buf, size_t len, int flags)',
)
export const write: (fd: Fd, bytes: Address, length: number) => number = binary.func(
  'int write(int fd, uintptr_t buf, size_t count)',
)
export const read: (fd: Fd, bytes: Address, length: number) => number = binary.func(
  'int read(int fd, uintptr_t buf, size_t count)',
)
export const close: (fd: Fd) => number = binary.func('int close(int fd)')
export const shutdown: (fd: Fd, how: number) => number = binary.func('int shutdown(int fd, int how)')
export const socket: (family: number, type: number, protocol: number) => number = binary.func(
  'int socket(int domain, int type, int protocol)',
)
export const bind: (fd: Fd, address: Address, length: number) => number = binary.func(
  'int bind(int fd, uintptr_t addr, uint addrlen)',
)
export const listen: (fd: Fd, backlog: number) => number = binary.func('int listen(int fd, int backlog)')
export const connect: (fd: Fd, address: Address, length: number) => number = binary.func(
  'int connect(int fd, uintptr_t addr, uint addrlen)',
)
export const accept4: (fd: Fd, address: Address, length: Address, flags: number) => number = binary.func(
  'int accept4(int fd, uintptr_t addr, uintptr_t addrlen, int flags)',
)
export const getsockname: (fd: Fd, address: Address, length: Address) => number = binary.func(
  'int getsockname(int fd, uintptr_t addr, uintptr_t addrlen)',
)
export const setsockopt: (fd: Fd, level: number, option: number, value: Address, length: number) => number =
  binary.func('int setsockopt(int fd, int level, int optname, uintptr_t optval, uint optlen)')
export const getsockopt: (fd: Fd, level: number, option: number, value: Address, length: Address) => number =
  binary.func('int getsockopt(int fd, int level, int optname, uintptr_t optval, uintptr_t optlen)')
export const ioctl: (fd: Fd, request: number, value: Address) => number = binary.func(
  'int ioctl(int fd, ulong request, uintptr_t arg)',
)
const mmap: (at: Address, length: number, protection: number, flags: number, fd: Fd, offset: number) => number =
  binary.func('uintptr_t mmap(uintptr_t addr, size_t length, int prot, int flags, int fd, intptr_t offset)')
const munmap: (at: Address, length: number) => number = binary.func('int munmap(uintptr_t addr, size_t length)')
const madvise: (at: Address, length: number, advice: number) => number = binary.func(
  'int madvise(uintptr_t addr, size_t length, int advice)',
)
/** syscall(2), for calls without a function in libc. The numbers are the same on x64 and arm64. */
const syscall: (call: number, a: number, b: number, c: number, d: number, e: Address, f: number) => number =
  binary.func('int syscall(long number, long a, long b, long c, long d, uintptr_t e, long f)')
export const inetPton: (family: number, text: string, bytes: Address) => number = binary.func(
  'int inet_pton(int af, str src, uintptr_t dst)',
)

/** io_uring_setup(2): returns a descriptor and fills in `params`. */
export function ioUringSetup(entries: number, params: Memory): Fd {
  return syscall(425, entries, params.address, 0, 0, 0, 0)
}

/** HOT. io_uring_enter(2): returns how many of `count` submissions the kernel has taken. */
export function ioUringEnter(ring: Fd, count: number): number {
  return syscall(426, ring, count, 0, 0, 0, 0)
}

/** errno of this thread's last failed call. */
export function errno(): number {
  return koffi.errno()
}

export function setErrno(number: number): void {
  koffi.errno(number)
}

/** "ECONNRESET" for 104. */
export function errnoName(number: number): string {
  return getSystemErrorName(-number)
}

/** For the call that has just failed. */
export function systemError(call: string): IoError {
  const name = errnoName(errno())
  return new IoError(`${call}: ${name}`, name)
}

/** Memory for system calls: it does not move, and lives as long as `bytes` is referenced. */
export interface Memory {
  readonly bytes: Buffer
  readonly address: Address
}

export function allocate(length: number): Memory {
  const bytes = Buffer.allocUnsafeSlow(length)
  return { bytes, address: Number(koffi.address(bytes)) }
}

/**
 * Like `allocate`, below 2 GiB where there is room. V8 passes such an address as it is, and allocates an object for a
 * higher one at each call.
 */
export function allocateLow(length: number): Memory {
  const hint =
    MemoryMap.lowest + Math.floor((Math.random() * (MemoryMap.lowEnd - MemoryMap.lowest)) / pageBytes) * pageBytes
  const flags = MemoryMap.private | MemoryMap.anonymous | (process.arch === 'x64' ? MemoryMap.low : 0)
  const address = mmap(hint, length, MemoryMap.readWrite, flags, -1, 0)
  // Without a flag the hint is all there is; -1 is returned as the highest address.
  if (address + length <= MemoryMap.lowEnd) return { bytes: Buffer.from(koffi.view(BigInt(address), length)), address }
  if (address % pageBytes === 0) munmap(address, length)
  return allocate(length)
}

/** Maps memory shared with the kernel, of the descriptor `fd` at `offset`. Lives until `unmap`, referenced or not. */
export function mapShared(fd: Fd, length: number, offset: number): Memory {
  const address = mmap(0, length, MemoryMap.readWrite, MemoryMap.shared | MemoryMap.populate, fd, offset)
  if (address > Number.MAX_SAFE_INTEGER) throw systemError('mmap')
  return { bytes: Buffer.from(koffi.view(BigInt(address), length)), address }
}

/** It must not be accessed any more: that would end the process. */
export function unmap({ address, bytes }: Memory): void {
  munmap(address, bytes.length)
}

/** Returns the pages of `allocateLow` to the system. Later reads return zeros, so the content must not be needed. */
export function discard({ address, bytes }: Memory): void {
  if (address < MemoryMap.lowEnd) madvise(address, bytes.length, MemoryMap.dontNeed)
}

const pageBytes = 65_536

/**
 * PROT_READ | PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_POPULATE, MAP_32BIT (x64 only), MADV_DONTNEED;
 * and the range of low addresses.
 */
const MemoryMap = {
  readWrite: 3,
  shared: 0x1,
  private: 0x2,
  populate: 0x8000,
  anonymous: 0x20,
  low: 0x40,
  dontNeed: 4,
  lowest: 0x2000_0000,
  lowEnd: 0x8000_0000,
} as const

/** struct epoll_event: packed to 12 bytes on x64, 16 bytes elsewhere. Offsets in Int32 words. */
export const epollEvent =
  process.arch === 'x64'
    ? ({ words: 3, fdWord: 1, generationWord: 2 } as const)
    : ({ words: 4, fdWord: 2, generationWord: 3 } as const)

export const EpollOperation = { Add: 1, Delete: 2, Modify: 3 } as const

export const EpollEvents = {
  In: 0x1,
  Out: 0x4,
  Error: 0x8,
  HangUp: 0x10,
  ReadHangUp: 0x2000,
  /** Reported once per transition. */
  Edge: 0x80000000 | 0,
  /** Of several loops that watch a descriptor, one is woken. Cannot be modified, only removed. */
  Exclusive: 0x10000000,
} as const

export const epollCloexec = 0x80000

/** CLOCK_MONOTONIC; TFD_NONBLOCK | TFD_CLOEXEC */
export const monotonicClock = 1
export const timerFlags = 0x80800

export const Family = { Unix: 1, Inet: 2, Inet6: 10 } as const

/** SOCK_STREAM, SOCK_NONBLOCK and SOCK_CLOEXEC together; the last two alone go to accept4. */
export const streamSocket = 0x80801
export const acceptFlags = 0x80800

/**
 * MSG_NOSIGNAL: a broken connection is an errno, not a SIGPIPE. MSG_DONTWAIT: also where the descriptor would block.
 */
export const msgNoSignal = 0x4000
export const msgDontWait = 0x40

/** SHUT_WR */
export const shutWrite = 1

export const Level = { Socket: 1, Tcp: 6, Ipv6: 41 } as const

export const SocketOption = { ReuseAddress: 2, Error: 4, KeepAlive: 9, ReusePort: 15 } as const

export const TcpOption = { NoDelay: 1, KeepIdle: 4, KeepInterval: 5, KeepCount: 6, Info: 11, UserTimeout: 18 } as const

/** Offsets in struct tcp_info (TCP_INFO) of a Uint8 and two Uint32, and the number of bytes requested. */
export const TcpInfo = { probesAt: 3, unackedAt: 24, lastAckReceivedMsAt: 56, bytes: 60 } as const

/** IPV6_V6ONLY */
export const ipv6Only = 26

/** SIOCOUTQ: bytes sent and not acknowledged, plus those not sent yet. */
export const unacknowledgedRequest = 0x5411

export const Errno = {
  ENOENT: 2,
  EINTR: 4,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  ENFILE: 23,
  EMFILE: 24,
  EPIPE: 32,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
  EINPROGRESS: 115,
} as const
