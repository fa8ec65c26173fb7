/**
 * Loaded first into a process, it forbids io_uring, as containers' seccomp profiles do: io_uring_setup(2) fails with
 * EPERM (seccomp(2), a filter on the system call number).
 */
import koffi from 'koffi'

const prctl = koffi.load(null).func('int prctl(int option, ulong a, uintptr_t b, ulong c, ulong d)')

const noNewPrivileges = 38
const setSeccomp = 22
const filterMode = 2
const ioUringSetup = 425

/** struct sock_filter: code, jump if true, jump if false, operand. */
const program = [
  { code: 0x20, ifTrue: 0, ifFalse: 0, operand: 0 }, // load the number
  { code: 0x15, ifTrue: 0, ifFalse: 1, operand: ioUringSetup },
  { code: 0x06, ifTrue: 0, ifFalse: 0, operand: 0x0005_0001 }, // SECCOMP_RET_ERRNO | EPERM
  { code: 0x06, ifTrue: 0, ifFalse: 0, operand: 0x7fff_0000 }, // SECCOMP_RET_ALLOW
]
const filter = Buffer.alloc(program.length * 8)
for (const [index, { code, ifTrue, ifFalse, operand }] of program.entries()) {
  filter.writeUInt16LE(code, index * 8)
  filter.writeUInt8(ifTrue, index * 8 + 2)
  filter.writeUInt8(ifFalse, index * 8 + 3)
  filter.writeUInt32LE(operand, index * 8 + 4)
}
/** struct sock_fprog */
const given = Buffer.alloc(16)
given.writeUInt16LE(program.length, 0)
given.writeBigUInt64LE(koffi.address(filter), 8)

if (prctl(noNewPrivileges, 1, 0, 0, 0) < 0 || prctl(setSeccomp, filterMode, koffi.address(given), 0, 0) < 0) {
  throw new Error(`no filter: errno ${koffi.errno()}`)
}
