import * as fc from 'fast-check'

/** Bytes of `valid`, or the same with a few of them changed, taken away or added, or no sense at all. */
export function mutated(valid: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Buffer> {
  const change = fc.record({
    at: fc.nat({ max: 400 }),
    remove: fc.nat({ max: 3 }),
    insert: fc.uint8Array({ maxLength: 3 }),
  })
  const changed = fc.tuple(valid, fc.array(change, { maxLength: 4 })).map(([bytes, changes]) => {
    let result = Buffer.from(bytes)
    for (const { at, remove, insert } of changes) {
      const place = at % (result.length + 1)
      result = Buffer.concat([result.subarray(0, place), insert, result.subarray(place + remove)])
    }
    return result
  })
  return fc.oneof(
    { weight: 4, arbitrary: changed },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
  )
}

/** Cuts of something of `length` bytes, in order. */
export function cuts(length: number): fc.Arbitrary<number[]> {
  return fc.array(fc.nat({ max: length }), { maxLength: 6 }).map((places) => places.toSorted((a, b) => a - b))
}

export function pieces(bytes: Buffer, places: readonly number[]): Buffer[] {
  const all = [0, ...places, bytes.length]
  return all.slice(1).map((end, index) => bytes.subarray(all[index], end))
}

/** What `run` throws; null when it does not. */
export function thrownBy(run: () => void): unknown {
  try {
    run()
    return null
  } catch (error) {
    return error
  }
}
