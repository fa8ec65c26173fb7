/**
 * Formats of what proxies get, of pool bodies and of the general part of a manifest:
 *
 *   1  every key that release 0.1.0 knew, with its value; any other key only where it is not at its default. Release 0.1.0
 *      reads this one, and refuses the keys that it does not know.
 *   2  compact: a key at its default is absent
 *
 * So a key that a release adds changes no body and no hash of a document that does not use it. A body is the same content in
 * either format: proxies compare content, so that a change of the format changes no pool.
 */
export const bodyFormats = [1, 2] as const
export type BodyFormat = (typeof bodyFormats)[number]
export const newestFormat = 2 satisfies BodyFormat

/** The newest of our formats that a proxy knows; the first for one that names none. */
export function agreedFormat(known: readonly number[]): BodyFormat {
  return bodyFormats.findLast((format) => known.includes(format)) ?? 1
}

/** The newest of our formats that is not above `asked`, which may be one of a later release. */
export function formatUpTo(asked: number): BodyFormat {
  return bodyFormats.findLast((format) => format <= asked) ?? 1
}
