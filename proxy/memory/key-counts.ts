/**
 * Counts by key, in memory that the threads of a process share and that outlives each of them. It has a fixed size: a
 * key belongs to one of many small sets, in which the key counted longest ago is replaced. Keys are digests under a
 * secret, so that an attacker cannot choose many that fall into one set.
 */
import { locked, unlock } from './lock.ts'

const sets = 1280
const ways = 8

/** Maximum number of keys. */
export const keysMax = sets * ways

// The lock, and the number of keys; then for each entry the key, the count (0 if free) and the time.
const headBytes = 8
const placeNumbers = 3

export class KeyCounts {
  readonly #owner: number
  readonly #head: Int32Array
  readonly #places: Float64Array

  static memory(): SharedArrayBuffer {
    return new SharedArrayBuffer(headBytes + keysMax * placeNumbers * Float64Array.BYTES_PER_ELEMENT)
  }

  /** The thread `owner` has exited. */
  static threadEnded(memory: SharedArrayBuffer, owner: number): void {
    unlock(new Int32Array(memory, 0, 2), 0, owner)
  }

  constructor(memory: SharedArrayBuffer, owner: number) {
    this.#owner = owner
    this.#head = new Int32Array(memory, 0, 2)
    this.#places = new Float64Array(memory, headBytes)
  }

  /** Number of keys. */
  get size(): number {
    return Atomics.load(this.#head, 1)
  }

  /** Counts `key` once more, or from 1 if it was last counted `windowMs` ago. Returns the count. */
  add(key: Uint8Array, nowMs: number, windowMs: number): number {
    const places = this.#places
    return locked(this.#head, 0, this.#owner, () => {
      const name = nameOf(key)
      const known = this.#find(key, name)
      const at = known ?? this.#oldest(key)
      if (known === null && places[at + 1] === 0) Atomics.add(this.#head, 1, 1)
      const count = known !== null && nowMs - (places[at + 2] as number) < windowMs ? (places[at + 1] as number) + 1 : 1
      places[at] = name
      places[at + 1] = count
      places[at + 2] = nowMs
      return count
    })
  }

  delete(key: Uint8Array): void {
    if (this.size === 0) return
    locked(this.#head, 0, this.#owner, () => {
      const at = this.#find(key, nameOf(key))
      if (at === null) return
      this.#places[at + 1] = 0
      Atomics.sub(this.#head, 1, 1)
    })
  }

  #find(key: Uint8Array, name: number): number | null {
    const first = setOf(key)
    for (let at = first; at < first + ways * placeNumbers; at += placeNumbers) {
      if (this.#places[at] === name && this.#places[at + 1] !== 0) return at
    }
    return null
  }

  #oldest(key: Uint8Array): number {
    const first = setOf(key)
    let oldest = first
    for (let at = first; at < first + ways * placeNumbers; at += placeNumbers) {
      if (this.#places[at + 1] === 0) return at
      if ((this.#places[at + 2] as number) < (this.#places[oldest + 2] as number)) oldest = at
    }
    return oldest
  }
}

/** Offset of a key's set. */
function setOf(key: Uint8Array): number {
  return (new DataView(key.buffer, key.byteOffset).getUint32(0) % sets) * ways * placeNumbers
}

/** 48 further bits of a key, enough to be unique in its set. */
function nameOf(key: Uint8Array): number {
  const view = new DataView(key.buffer, key.byteOffset)
  return view.getUint16(4) * 2 ** 32 + view.getUint32(6)
}
