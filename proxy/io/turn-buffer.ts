import { copyBytes } from './copy.ts'
import type { Memory } from './libc.ts'
import { allocateLow } from './libc.ts'
import { carryBytesMax, readBytesMax } from './io.ts'
import type { SendRing } from './send-ring.ts'
import { notSent } from './send-ring.ts'

/** Who sends; see `TurnBuffer.defer`. */
export interface Sender {
  readonly fd: number
  /** Kept by the turn buffer: something of this sender stands there. */
  deferred: boolean
  /** The kernel may have the bytes as they are, at once: no TLS, nothing queued before them, no failure. */
  readonly direct: boolean
  /** Bytes `start` to `end` of the turn buffer leave now. */
  transmit(start: number, end: number): void
  /** Bytes `start` to `end` have been sent: how many the kernel took, or a negated errno. */
  transmitted(start: number, end: number, result: number): void
}

/** Bytes of a few reads of full length, or of hundreds of usual ones. */
const turnBufferBytes = 4 * (carryBytesMax + readBytesMax)

/** Sends put off at most: the first of them waits for the handlers of the others. */
export const sendsMax = 32

/**
 * Where received bytes stand until what is sent of them has left. A turn of the loop receives from one socket after the
 * other and lets their handlers run; what these send stays here and leaves at the end of the turn, all at once. So the
 * kernel's code for sending runs many times in a row, and ours does, instead of one pushing the other out of the
 * processor's caches twice per message; and several sends of bytes that stand together are one. Where there is a ring, one
 * system call sends for all of them.
 */
export class TurnBuffer {
  readonly memory: Memory = allocateLow(turnBufferBytes)
  /** Up to here bytes stand that have not left. */
  #used = 0
  readonly #senders: (Sender | null)[] = Array.from({ length: sendsMax }, () => null)
  readonly #starts = new Int32Array(sendsMax)
  readonly #ends = new Int32Array(sendsMax)
  #count = 0
  /** Null: every send is a system call of its own. */
  ring: SendRing | null = null

  /**
   * HOT. Where `length` bytes may be received, at least, with room for `keptBytes` before them. Not to be called while a
   * handler still reads what it was given.
   */
  reserve(keptBytes: number, length: number): number {
    if (this.#count === 0) this.#used = 0
    else if (this.#used + keptBytes + length > turnBufferBytes) {
      this.flush()
      this.#used = 0
    }
    return this.#used + keptBytes
  }

  /** Bytes stand up to `end`. */
  commit(end: number): void {
    this.#used = end
  }

  /**
   * HOT. Before `bytes` from `start` are put off: where they cannot follow what the sender has put off already, or there
   * is no place for one more, everything leaves. So nobody has two sends here, of which the first may be cut short; what
   * it leaves to be sent is known when this returns.
   */
  makePlace(sender: Sender, bytes: Uint8Array, start: number): void {
    if (!sender.deferred && this.#count < sendsMax) return
    if (!this.#continues(sender, bytes === this.memory.bytes ? start : this.#used)) this.flush()
  }

  #continues(sender: Sender, start: number): boolean {
    const last = this.#count - 1
    return last >= 0 && this.#senders[last] === sender && this.#ends[last] === start
  }

  /** HOT. Bytes `start` to `end`, for which `makePlace` has made place, are to leave by `sender`. */
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

  /** As `defer`, of a copy. False when there is no room. */
  deferCopy(sender: Sender, bytes: Uint8Array, start: number, end: number): boolean {
    const at = this.#used
    if (at + (end - start) > turnBufferBytes) return false
    copyBytes(bytes, start, end, this.memory.bytes, at)
    this.#used = at + (end - start)
    this.defer(sender, at, this.#used)
    return true
  }

  /** Between two turns: everything leaves, and nobody reads what stands here. */
  clear(): void {
    this.flush()
    this.#used = 0
  }

  /** HOT. Everything that was put off leaves. */
  flush(): void {
    const ring = this.#count > 1 ? this.ring : null
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
