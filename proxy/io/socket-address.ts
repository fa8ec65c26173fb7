import { join } from 'node:path'
import type { Address } from './io.ts'
import { IoError, isUnix } from './io.ts'
import type { Memory } from './libc.ts'
import { Family, inetPton } from './libc.ts'

/** struct sockaddr_in6, the longest one that is read. */
export const socketAddressBytes = 28

/** sun_path, including the NUL. */
const pathBytesMax = 108

/** Path of a Unix socket: PostgreSQL's name for the port. */
export function unixPath({ host, port }: Address): string {
  return join(host, `.s.PGSQL.${port}`)
}

/** Key of the TCP listener. */
export const tcpListener = 'tcp'

/** Key of a listener within the process. */
export function listenerKey(address: Address): string {
  return isUnix(address) ? unixPath(address) : tcpListener
}

/**
 * struct sockaddr_in (ip(7)): family Uint16 (host order), port Uint16 (network order), address 4 bytes, padding to 16.
 * struct sockaddr_in6 (ipv6(7)): family, port, flow information Uint32, address 16 bytes, scope Uint32.
 * struct sockaddr_un (unix(7)): family, path of at most 107 bytes, NUL.
 */
export function writeSocketAddress(address: Address, to: Memory): { family: number; length: number } {
  const { bytes } = to
  if (isUnix(address)) {
    const path = Buffer.from(`${unixPath(address)}\0`)
    if (path.length > pathBytesMax)
      throw new IoError(`the path of a Unix socket is too long: ${unixPath(address)}`, 'ENAMETOOLONG')
    bytes.writeUInt16LE(Family.Unix, 0)
    bytes.set(path, 2)
    return { family: Family.Unix, length: 2 + path.length }
  }
  bytes.fill(0, 0, socketAddressBytes)
  bytes.writeUInt16BE(address.port, 2)
  if (address.host.includes(':')) {
    bytes.writeUInt16LE(Family.Inet6, 0)
    if (inetPton(Family.Inet6, address.host, to.address + 8) !== 1) throw notAnAddress(address.host)
    return { family: Family.Inet6, length: 28 }
  }
  bytes.writeUInt16LE(Family.Inet, 0)
  if (inetPton(Family.Inet, address.host, to.address + 4) !== 1) throw notAnAddress(address.host)
  return { family: Family.Inet, length: 16 }
}

function notAnAddress(host: string): IoError {
  return new IoError(`not an IPv4 or IPv6 address: ${host}`, 'EINVAL')
}

/** An IPv4 address of an IPv6 socket is returned as IPv4. */
export function readSocketAddress(bytes: Buffer): Address {
  const port = bytes.readUInt16BE(2)
  if (bytes.readUInt16LE(0) === Family.Inet) return { host: dotted(bytes, 4), port }
  if (isMapped(bytes)) return { host: dotted(bytes, 20), port }
  return { host: colonned(bytes, 8), port }
}

function dotted(bytes: Buffer, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`
}

/** ::ffff:0:0/96 (RFC 4291, 2.5.5.2). */
function isMapped(bytes: Buffer): boolean {
  for (let at = 8; at < 18; at++) if (bytes[at] !== 0) return false
  return bytes.readUInt16BE(18) === 0xffff
}

/** RFC 5952: lower case, the longest run of two or more zero groups shortened, the first of equal ones. */
function colonned(bytes: Buffer, start: number): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(start + 2 * index))
  let best = { at: 0, length: 1 }
  let length = 0
  for (const [index, group] of groups.entries()) {
    length = group === 0 ? length + 1 : 0
    if (length > best.length) best = { at: index - length + 1, length }
  }
  const text = (some: number[]): string => some.map((group) => group.toString(16)).join(':')
  if (best.length < 2) return text(groups)
  return `${text(groups.slice(0, best.at))}::${text(groups.slice(best.at + best.length))}`
}
