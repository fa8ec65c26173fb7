/** IP addresses and networks as numbers. */

export interface IpAddress {
  readonly family: 4 | 6
  readonly bits: bigint
}

/** All addresses that equal `bits` where `mask` has ones. */
export interface Network extends IpAddress {
  readonly mask: bigint
}

const bitsOf = { 4: 32n, 6: 128n } as const

/** An IPv4 address in dotted decimal or an IPv6 address without zone (RFC 4291, 2.2); undefined for anything else. */
export function parseIp(text: string): IpAddress | undefined {
  if (!text.includes(':')) {
    const bits = parseIpv4(text)
    return bits === undefined ? undefined : { family: 4, bits }
  }
  const bits = parseIpv6(text)
  return bits === undefined ? undefined : { family: 6, bits }
}

function parseIpv4(text: string): bigint | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (match === null) return undefined
  let bits = 0n
  for (const part of match.slice(1)) {
    // Some parsers read a leading zero as octal.
    if (Number(part) > 255 || (part.length > 1 && part.startsWith('0'))) return undefined
    bits = (bits << 8n) | BigInt(part)
  }
  return bits
}

const ipv6Groups = 8

function parseIpv6(text: string): bigint | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const [head, tail] = halves.map(groupsOf)
  if (head === undefined) return undefined
  if (halves.length === 1) return head.length === ipv6Groups ? joined(head) : undefined
  if (tail === undefined || head.length + tail.length >= ipv6Groups) return undefined
  const zeros = Array.from({ length: ipv6Groups - head.length - tail.length }, () => 0n)
  return joined([...head, ...zeros, ...tail])
}

/** Groups of 16 bits; an IPv4 address at the end counts as two. */
function groupsOf(text: string): bigint[] | undefined {
  if (text === '') return []
  const groups: bigint[] = []
  const parts = text.split(':')
  for (const [index, part] of parts.entries()) {
    const ipv4 = index === parts.length - 1 ? parseIpv4(part) : undefined
    if (ipv4 !== undefined) groups.push(ipv4 >> 16n, ipv4 & 0xffffn)
    else if (/^[0-9A-Fa-f]{1,4}$/.test(part)) groups.push(BigInt(`0x${part}`))
    else return undefined
  }
  return groups
}

function joined(groups: readonly bigint[]): bigint {
  return groups.reduce((bits, group) => (bits << 16n) | group, 0n)
}

/** The network of all addresses that share the first `length` bits; undefined if `length` is out of range. */
export function networkOf({ family, bits }: IpAddress, length: number): Network | undefined {
  const width = bitsOf[family]
  if (!Number.isInteger(length) || length < 0 || BigInt(length) > width) return undefined
  const mask = ((1n << BigInt(length)) - 1n) << (width - BigInt(length))
  return { family, bits: bits & mask, mask }
}

/** Undefined if `mask` is not ones followed by zeros, or of the other family. */
export function maskedNetwork(address: IpAddress, mask: IpAddress): Network | undefined {
  if (address.family !== mask.family) return undefined
  const holes = mask.bits ^ ((1n << bitsOf[mask.family]) - 1n)
  if ((holes & (holes + 1n)) !== 0n) return undefined
  return { family: address.family, bits: address.bits & mask.bits, mask: mask.bits }
}

export function contains(network: Network, { family, bits }: IpAddress): boolean {
  return family === network.family && (bits & network.mask) === network.bits
}
