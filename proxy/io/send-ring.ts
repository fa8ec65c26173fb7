import { strict as assert } from 'node:assert'
import { IoError } from './io.ts'
import * as libc from './libc.ts'
import type { Memory } from './libc.ts'
import { Errno } from './libc.ts'

/**
 * Sends of many sockets in one system call: io_uring(7), Linux 5.6 and later, where this process may use it. No send
 * may wait, so each is complete when the call returns, and the ring is empty between two calls.
 */
export class SendRing {
  readonly #fd: number
  readonly #closeFd: (fd: number) => void
  readonly #memories: readonly Memory[]
  /** Head, tail and mask of both queues, and the results of submissions. */
  readonly #words: Int32Array
  readonly #submissions: Int32Array
  readonly #submissionTailAt: number
  readonly #submissionMask: number
  readonly #completionHeadAt: number
  readonly #completionTailAt: number
  readonly #completionMask: number
  readonly #completionsAt: number
  readonly #results: Int32Array
  #tail = 0
  #count = 0

  /**
   * Room for `sendsMax` sends. `own` and `closeFd` are the loop's.
   *
   * @throws IoError with the errno if io_uring is not available: ENOSYS, EPERM, ENOMEM
   */
  constructor(sendsMax: number, own: (fd: number) => number, closeFd: (fd: number) => void) {
    const params = libc.allocate(paramsWords * 4)
    params.bytes.fill(0)
    this.#fd = own(libc.ioUringSetup(sendsMax, params))
    if (this.#fd < 0) throw libc.systemError('io_uring_setup')
    this.#closeFd = closeFd
    const given = (word: number): number => params.bytes.readUInt32LE(word * 4)
    const [submissions, completions] = [given(Params.submissions), given(Params.completions)]
    const ringBytes = Math.max(
      given(Params.submissionIndexesAt) + submissions * 4,
      given(Params.completionsAt) + completions * completionWords * 4,
    )
    const memories: Memory[] = []
    this.#memories = memories
    try {
      const map = (bytes: number, offset: number): Int32Array => {
        const memory = libc.mapShared(this.#fd, bytes, offset)
        memories.push(memory)
        return new Int32Array(memory.bytes.buffer, memory.bytes.byteOffset, bytes / 4)
      }
      this.#words = map(ringBytes, ringOffset)
      this.#submissions = map(submissions * submissionWords * 4, submissionsOffset)
    } catch (error) {
      this.close()
      throw error
    }
    this.#submissionTailAt = given(Params.submissionTailAt) / 4
    this.#submissionMask = submissions - 1
    this.#completionHeadAt = given(Params.completionHeadAt) / 4
    this.#completionTailAt = given(Params.completionTailAt) / 4
    this.#completionMask = completions - 1
    this.#completionsAt = given(Params.completionsAt) / 4
    this.#results = new Int32Array(sendsMax).fill(notSent)
    const indexesAt = given(Params.submissionIndexesAt) / 4
    for (let index = 0; index < submissions; index++) {
      this.#words[indexesAt + index] = index
      this.#submissions[index * submissionWords + Submission.operation] = sendOperation
      this.#submissions[index * submissionWords + Submission.flags] = libc.msgNoSignal | libc.msgDontWait
    }
    this.#try()
  }

  /** Detects kernels without this operation, and sandboxes that imitate one, before anything depends on it. */
  #try(): void {
    this.put(0, -1, this.#memories[0]!.address, 1)
    this.submit()
    if (this.takeResult(0) === -Errno.EBADF) return
    this.close()
    throw new IoError('io_uring cannot send', 'EOPNOTSUPP')
  }

  /** HOT. Adds a send of `length` bytes at `address`; `number`, below `sendsMax`, is chosen by the sender. */
  put(number: number, fd: number, address: number, length: number): void {
    const at = (this.#tail & this.#submissionMask) * submissionWords
    const submissions = this.#submissions
    submissions[at + Submission.fd] = fd
    submissions[at + Submission.address] = address
    submissions[at + Submission.addressHigh] = address / 2 ** 32
    submissions[at + Submission.length] = length
    submissions[at + Submission.number] = number
    this.#tail = (this.#tail + 1) | 0
    this.#count++
  }

  /**
   * HOT. Sends what was added. The kernel reads and writes the ring during the call, in this thread, so no memory
   * ordering is needed.
   */
  submit(): void {
    if (this.#count === 0) return
    const words = this.#words
    words[this.#submissionTailAt] = this.#tail
    const taken = libc.ioUringEnter(this.#fd, this.#count)
    if (taken !== this.#count) {
      // The kernel may be out of memory: remove what it did not take.
      this.#tail = (this.#tail - this.#count + Math.max(taken, 0)) | 0
      words[this.#submissionTailAt] = this.#tail
    }
    this.#count = 0
    const tail = words[this.#completionTailAt] as number
    let head = words[this.#completionHeadAt] as number
    assert(((tail - head) | 0) === Math.max(taken, 0), 'a send that may not wait is complete when the call returns')
    for (; head !== tail; head = (head + 1) | 0) {
      const at = this.#completionsAt + (head & this.#completionMask) * completionWords
      this.#results[words[at + Completion.number] as number] = words[at + Completion.result] as number
    }
    words[this.#completionHeadAt] = tail
  }

  /** Call once per number, after `submit`: the number of bytes taken, a negated errno, or `notSent`. */
  takeResult(number: number): number {
    const result = this.#results[number] as number
    this.#results[number] = notSent
    return result
  }

  close(): void {
    for (const memory of this.#memories) libc.unmap(memory)
    this.#closeFd(this.#fd)
  }
}

/** Not an errno: the kernel did not take the submission. */
export const notSent = -0x8000_0000

/** IORING_OP_SEND */
const sendOperation = 26

/** IORING_OFF_SQ_RING, which contains both rings (IORING_FEAT_SINGLE_MMAP, Linux 5.4), and IORING_OFF_SQES. */
const ringOffset = 0
const submissionsOffset = 0x1000_0000

/** struct io_uring_params in words: sizes of both queues, and byte offsets in the ring. */
const paramsWords = 30
const Params = {
  submissions: 0,
  completions: 1,
  submissionTailAt: 11,
  submissionIndexesAt: 16,
  completionHeadAt: 20,
  completionTailAt: 21,
  completionsAt: 25,
} as const

/** struct io_uring_sqe in words; unnamed ones are zero. The last named is user_data, which is returned. */
const submissionWords = 16
const Submission = { operation: 0, fd: 1, address: 4, addressHigh: 5, length: 6, flags: 7, number: 8 } as const

/** struct io_uring_cqe in words. */
const completionWords = 4
const Completion = { number: 0, result: 2 } as const
