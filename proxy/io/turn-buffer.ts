import { copyBytes } from './copy.ts'
import type { Memory } from './libc.ts'
import { allocateLow } from './libc.ts'
import { carryBytesMax, readBytesMax } from './io.ts'
import type { SendRing } from './send-ring.ts'
import { notSent } from './send-ring.ts'

/** A sender; see `TurnBuffer.defer`. */
export interface Sender {
  readonly fd: number
  /** Maintained by the turn buffer: it contains bytes of this sender. */
  deferred: boolean
  /** The bytes can go to the kernel unchanged: no TLS, nothing queued before them, no failure. */
  readonly direct: boolean
  /** Bytes `start` to `end` of the turn buffer leave now. */
  transmit(start: number, end: number): void
  /** Bytes `start` to `end` were sent: the number taken by the kernel, or a negated errno. */
  transmitted(start: number, end: number, result: number): void
}

/** Room for a few reads of full length, or hundreds of usual ones. */
const turnBufferBytes = 4 * (carryBytesMax + readBytesMax)

/** Maximum number of deferred sends: the first of them waits for the handlers of the others. */
export const sendsMax = 32

/**
 * Holds received bytes until what is sent of them has left. A turn of the loop receives from one socket after the other
 * and runs their handlers; what these send stays here and leaves together at the end of the turn. So the kernel's send
 * path runs many times in a row, and ours does, instead of both evicting each other from the CPU caches twice per
 * message; and several sends of contiguous bytes are one. With a ring, one system call sends for all of them.
 */
export class TurnBuffer {
  readonly memory: Memory = allocateLow(turnBufferBytes)
  /** End of the bytes that have not left. */
  #used = 0
  readonly #senders: (Sender | null)[] = Array.from({ length: sendsMax }, () => null)
  readonly #starts = new Int32Array(sendsMax)
  readonly #ends = new Int32Array(sendsMax)
  #count = 0
  #ring: SendRing | null = null

  /** With null, each send is a system call. */
  sendBy(ring: SendRing | null): void {
    this.#ring = ring
  }

  /**
   * HOT. Offset at which at least `length` bytes may be received, with room for `keptBytes` before them. Must not be
   * called while a handler reads its bytes.
   */
  reserve(keptBytes: number, length: number): number {
    if (this.#count === 0) this.#used = 0
    else if (this.#used + keptBytes + length > turnBufferBytes) {
      this.flush()
      this.#used = 0
    }
    return this.#used + keptBytes
  }

  /** Bytes were received up to `end`. */
  commit(end: number): void {
    this.#used = end
  }

  /**
   * HOT. Called before `bytes` from `start` are deferred: if they cannot follow the sender's deferred bytes, or there
   * is no room for one more send, everything leaves. So a sender never has two sends here, of which the first may be
   * cut short; what remains to be sent is known when this returns.
   */
  makePlace(sender: Sender, bytes: Uint8Array, start: number): void {
    if (!sender.deferred && this.#count < sendsMax) return
    if (!this.#continues(sender, bytes === this.memory.bytes ? start : this.#used)) this.flush()
  }

  #continues(sender: Sender, start: number): boolean {
    const last = this.#count - 1
    return last >= 0 && this.#senders[last] === sender && this.#ends[last] === start
  }

  /** HOT. Defers bytes `start` to `end` of `sender`, after `makePlace`. */
  defer(sender: Sender, start: number, end: number): void {
    if (this.#continues(sender, start)) {
      this.#ends[this.#count - 1] = end
      return
    }
    sender.deferred = true
    this.#senders[this.#count] = sender
    this.#starts[this.#count] = start
    this.#ends[this.#count] = end
    this.#count++
  }

  /** Like `defer`, for a copy. False if there is no room. */
  deferCopy(sender: Sender, bytes: Uint8Array, start: number, end: number): boolean {
    const at = this.#used
    if (at + (end - start) > turnBufferBytes) return false
    copyBytes(bytes, start, end, this.memory.bytes, at)
    this.#used = at + (end - start)
    this.defer(sender, at, this.#used)
    return true
  }

  /** Between two turns: everything has left, and no handler reads its bytes. */
  clear(): void {
    this.flush()
    this.#used = 0
  }

  /** HOT. Sends everything deferred. */
  flush(): void {
    const ring = this.#count > 1 ? this.#ring : null
    if (ring !== null) this.#submit(ring)
    for (let index = 0; index < this.#count; index++) {
      const sender = this.#senders[index] as Sender
      this.#senders[index] = null
      sender.deferred = false
      const result = ring === null ? notSent : ring.takeResult(index)
      if (result === notSent) sender.transmit(this.#starts[index] as number, this.#ends[index] as number)
      else sender.transmitted(this.#starts[index] as number, this.#ends[index] as number, result)
    }
    this.#count = 0
  }

  #submit(ring: SendRing): void {
    for (let index = 0; index < this.#count; index++) {
      const sender = this.#senders[index] as Sender
      const start = this.#starts[index] as number
      if (sender.direct) ring.put(index, sender.fd, this.memory.address + start, (this.#ends[index] as number) - start)
    }
    ring.submit()
  }
}
