/** Up to this length a loop is faster than the view that `set` requires, and allocates nothing. */
const loopBytesMax = 128

/** HOT. Copies bytes `start` to `end` of `from` to `at` of `to`, which has room for them. */
export function copyBytes(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): void {
  if (end - start > loopBytesMax) {
    to.set(from.subarray(start, end), at)
    return
  }
  for (let index = start, toIndex = at; index < end; index++, toIndex++) to[toIndex] = from[index] as number
}
