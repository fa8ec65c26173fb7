/**
 * Counts that the workers of a process share. A limit of the process is a slot with one count per worker: a worker that
 * needs one more adds it first and then checks the sum, so that of two that want the last one at least one sees the
 * other, and the sum of what was granted never exceeds the limit.
 *
 * A worker that lacks something which others hold posts a want; one of the others takes the want, once, and makes room.
 */
import { createHash } from 'node:crypto'
import { locked, unlock } from './lock.ts'

/** Each pool uses two slots, each database, user and server address one or two more. */
const slotsMax = 65_536

/** Number of wants a worker may have posted at a time; further ones are posted later. */
const wantsMax = 64

// Words: the lock; for each worker whether it lives, whether it waits for room, and how often it has died; wants (slot
// + 1, since when); slots (two words of the key's hash, one bit for each of at most 31 workers that uses it, one count
// for each worker).
const wantWords = 2
const slotHeadWords = 3

export interface Want {
  readonly worker: number
  readonly slot: number
  /** By the clock that workers share, in whole milliseconds. */
  readonly sinceMs: number
  /** Its index among the wants. */
  readonly at: number
}

export class SharedCounters {
  readonly workers: number
  readonly #words: Int32Array
  readonly #wantsAt: number
  readonly #slotsAt: number
  readonly #slotWords: number

  static memory(workers: number): SharedArrayBuffer {
    const words = 1 + workers * 3 + workers * wantsMax * wantWords + slotsMax * (slotHeadWords + workers)
    return new SharedArrayBuffer(words * 4)
  }

  constructor(memory: SharedArrayBuffer, workers: number) {
    this.workers = workers
    this.#words = new Int32Array(memory)
    this.#wantsAt = 1 + workers * 3
    this.#slotsAt = this.#wantsAt + workers * wantsMax * wantWords
    this.#slotWords = slotHeadWords + workers
  }

  // Slots

  /** The slot of `key`, the same for all workers, until `release`; null if none is left. */
  acquire(worker: number, key: string): number | null {
    const digest = createHash('sha256').update(key).digest()
    const high = digest.readInt32LE(0)
    const low = digest.readInt32LE(4)
    const first = digest.readUInt32LE(8) % slotsMax
    return this.#locked(worker, () => {
      let free: number | null = null
      for (let step = 0; step < slotsMax; step++) {
        const slot = (first + step) % slotsMax
        const at = this.#slotAt(slot)
        const users = this.#word(at + 2)
        if (users !== 0 && this.#word(at) === high && this.#word(at + 1) === low) {
          this.share(slot, worker)
          return slot
        }
        if (users === 0) free ??= slot
        // Never used, so the key is not further on either.
        if (users === 0 && this.#word(at) === 0 && this.#word(at + 1) === 0) break
      }
      if (free === null) return null
      const at = this.#slotAt(free)
      this.#words.fill(0, at, at + this.#slotWords)
      this.#words[at] = high
      this.#words[at + 1] = low
      this.#words[at + 2] = 1 << worker
      return free
    })
  }

  release(worker: number, slot: number): void {
    this.#locked(worker, () => Atomics.and(this.#words, this.#slotAt(slot) + 2, ~(1 << worker)))
  }

  /** Makes a slot acquired by another worker `worker`'s too. */
  share(slot: number, worker: number): void {
    Atomics.or(this.#words, this.#slotAt(slot) + 2, 1 << worker)
  }

  add(slot: number, worker: number, by: number): void {
    Atomics.add(this.#words, this.#slotAt(slot) + slotHeadWords + worker, by)
  }

  /** Adds one, unless the worker's count is no longer `count`. */
  addOneTo(slot: number, worker: number, count: number): boolean {
    const at = this.#slotAt(slot) + slotHeadWords + worker
    return Atomics.compareExchange(this.#words, at, count, count + 1) === count
  }

  count(slot: number, worker: number): number {
    return Atomics.load(this.#words, this.#slotAt(slot) + slotHeadWords + worker)
  }

  total(slot: number): number {
    let total = 0
    for (let worker = 0; worker < this.workers; worker++) total += this.count(slot, worker)
    return total
  }

  // Wants

  /** Posting again renews it. If there is no room for it, it must be posted later. */
  postWant(worker: number, slot: number, sinceMs: number): void {
    let place: number | null = null
    for (let want = 0; want < wantsMax; want++) {
      const at = this.#wantAt(worker, want)
      const posted = Atomics.load(this.#words, at)
      if (posted === slot + 1) {
        Atomics.store(this.#words, at + 1, sinceMs | 0)
        return
      }
      if (posted === 0) place ??= at
    }
    if (place === null) return
    Atomics.store(this.#words, place + 1, sinceMs | 0)
    Atomics.store(this.#words, place, slot + 1)
  }

  withdrawWant(worker: number, slot: number): void {
    for (let want = 0; want < wantsMax; want++) {
      Atomics.compareExchange(this.#words, this.#wantAt(worker, want), slot + 1, 0)
    }
  }

  /** Wants of the workers other than `self`. */
  wants(self: number): Want[] {
    const wants: Want[] = []
    for (let worker = 0; worker < this.workers; worker++) {
      if (worker === self) continue
      for (let want = 0; want < wantsMax; want++) {
        const at = this.#wantAt(worker, want)
        const posted = Atomics.load(this.#words, at)
        if (posted !== 0) wants.push({ worker, slot: posted - 1, sinceMs: Atomics.load(this.#words, at + 1), at })
      }
    }
    return wants
  }

  isPosted({ slot, at }: Want): boolean {
    return Atomics.load(this.#words, at) === slot + 1
  }

  /** True for the one worker that has to make room. */
  takeWant({ slot, at }: Want): boolean {
    return Atomics.compareExchange(this.#words, at, slot + 1, 0) === slot + 1
  }

  /** Whether `worker` should be woken when anything becomes free. */
  setAwaitsRoom(worker: number, awaits: boolean): void {
    Atomics.store(this.#words, 1 + this.workers + worker, awaits ? 1 : 0)
  }

  awaitsRoom(worker: number): boolean {
    return Atomics.load(this.#words, 1 + this.workers + worker) === 1
  }

  // Workers

  isAlive(worker: number): boolean {
    return Atomics.load(this.#words, 1 + worker) === 1
  }

  setAlive(worker: number): void {
    Atomics.store(this.#words, 1 + worker, 1)
  }

  /** Changes when the worker dies: earlier counts for it are void. */
  life(worker: number): number {
    return Atomics.load(this.#words, 1 + 2 * this.workers + worker)
  }

  /** The worker has exited, for any reason: what it held is free. */
  workerEnded(worker: number): void {
    Atomics.store(this.#words, 1 + worker, 0)
    Atomics.add(this.#words, 1 + 2 * this.workers + worker, 1)
    unlock(this.#words, 0, worker)
    this.setAwaitsRoom(worker, false)
    for (let want = 0; want < wantsMax; want++) Atomics.store(this.#words, this.#wantAt(worker, want), 0)
    for (let slot = 0; slot < slotsMax; slot++) {
      const at = this.#slotAt(slot)
      if (this.#word(at + 2) === 0) continue
      Atomics.store(this.#words, at + slotHeadWords + worker, 0)
      Atomics.and(this.#words, at + 2, ~(1 << worker))
    }
  }

  #locked<Result>(worker: number, run: () => Result): Result {
    return locked(this.#words, 0, worker, run)
  }

  #word(at: number): number {
    return Atomics.load(this.#words, at)
  }

  #slotAt(slot: number): number {
    return this.#slotsAt + slot * this.#slotWords
  }

  #wantAt(worker: number, want: number): number {
    return this.#wantsAt + (worker * wantsMax + want) * wantWords
  }
}
