import { lookup as systemLookup } from 'node:dns'
import type { LookupFunction } from 'node:net'

export type Lookup = typeof systemLookup

/**
 * Resolves names for a connection, to addresses without a fault alone. Because the connection goes to the very addresses
 * that were judged, a name that resolves to something else a moment later (DNS rebinding) gains nothing.
 * @param faultOf why an address may not be connected to; undefined when it may.
 * @param refuse makes the error for a name none of whose addresses may be used.
 */
export function guardedLookup(
  faultOf: (address: string) => string | undefined,
  refuse: (reason: string) => Error,
  lookup: Lookup = systemLookup,
): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error, '')
      const usable = found.filter(({ address }) => faultOf(address) === undefined)
      const [first] = usable
      if (first === undefined) {
        const faults = found.map(({ address }) => faultOf(address)).join(', ')
        return callback(refuse(`${hostname} resolves to no address that may be used: ${faults}`), '')
      }
      if (options.all === true) callback(null, usable)
      else callback(null, first.address, first.family)
    })
  }
}
