/**
 * Addresses that proxies register with control: where hints reach them, and where their peers pass on cancel requests. A
 * proxy is not trusted to choose where requests go (server-side request forgery), so some addresses are never connected
 * to: each is a line here.
 */
import { contains, networkOf, parseIp } from './config/network.ts'
import type { IpAddress, Network } from './config/network.ts'

const forbiddenNetworks = [
  ['0.0.0.0/8', 'is an unspecified address'],
  ['169.254.0.0/16', 'is a link-local address'],
  ['100.100.100.200/32', 'is the metadata service of Alibaba Cloud'],
  ['168.63.129.16/32', 'is the WireServer of Azure'],
  ['192.0.0.192/32', 'is the metadata service of Oracle Cloud'],
  ['224.0.0.0/4', 'is a multicast address'],
  ['240.0.0.0/4', 'is a reserved address'],
  ['::/128', 'is an unspecified address'],
  ['fe80::/10', 'is a link-local address'],
  ['fd00:ec2::/32', 'is a local service of AWS'],
  ['fd20:ce::254/128', 'is the metadata service of Google Cloud'],
  ['fd00:c1::a9fe:a9fe/128', 'is the metadata service of Oracle Cloud'],
  ['fd00:42::42/128', 'is the metadata service of Scaleway'],
  ['ff00::/8', 'is a multicast address'],
] as const

/** Names that are refused before they are resolved. All others are judged by what they resolve to. */
const forbiddenNames = [
  'metadata',
  'metadata.google.internal',
  'metadata.goog',
  'instance-data',
  'instance-data.ec2.internal',
]

/** IPv6 networks whose addresses lead to an IPv4 address, and the position of its last bit. */
const embeddingNetworks = [
  { network: '::ffff:0:0/96', lastBit: 0n }, // IPv4-mapped (RFC 4291, 2.5.5.2)
  { network: '64:ff9b::/96', lastBit: 0n }, // NAT64 (RFC 6052)
  { network: '64:ff9b:1::/48', lastBit: 0n }, // NAT64 with a prefix of one's own (RFC 8215)
  { network: '2002::/16', lastBit: 80n }, // 6to4 (RFC 3056)
] as const

const forbidden = forbiddenNetworks.map(([text, reason]) => ({ network: networkFrom(text), reason }))
const embedding = embeddingNetworks.map(({ network, lastBit }) => ({ network: networkFrom(network), lastBit }))

/** "10.0.0.0/8", "fdaa::/16" or a single address; undefined for all else. */
export function parseNetwork(text: string): Network | undefined {
  const [ip = '', length, ...more] = text.split('/')
  const address = parseIp(ip)
  if (address === undefined || more.length > 0) return undefined
  if (length === undefined) return networkOf(address, address.family === 4 ? 32 : 128)
  return /^\d{1,3}$/.test(length) ? networkOf(address, Number(length)) : undefined
}

/**
 * Why no connection may be made to an IP address; undefined when one may.
 * @param allowed the networks that the operator allows; undefined allows all but the forbidden ones.
 */
export function addressFault(ip: string, allowed?: readonly Network[]): string | undefined {
  const [withoutZone = ''] = ip.split('%')
  const parsed = parseIp(withoutZone)
  if (parsed === undefined) return `${ip} is not an IP address`
  const address = withoutEmbedding(parsed)
  const found = forbidden.find(({ network }) => contains(network, address))
  if (found !== undefined) return `${ip} ${found.reason}`
  const isAllowed = allowed === undefined || allowed.some((network) => contains(network, address))
  return isAllowed ? undefined : `${ip} is outside the networks that the operator allows`
}

/**
 * As `addressFault`, of a host name or address in any notation. A name that is not an address passes: what it resolves to
 * must be judged by `addressFault` when it is connected to.
 */
export function hostFault(host: string, allowed?: readonly Network[]): string | undefined {
  if (host.includes(':')) return addressFault(host, allowed)
  // A URL's host is normalized: 0xa9fea9fe, 2852039166 and 169.254.43518 become 169.254.169.254.
  const name = URL.parse(`http://${host}`)?.hostname.replace(/\.$/, '') ?? host
  if (parseIp(name) !== undefined) return addressFault(name, allowed)
  return forbiddenNames.includes(name) ? `${name} is a metadata service` : undefined
}

function withoutEmbedding(address: IpAddress): IpAddress {
  const found = embedding.find(({ network }) => contains(network, address))
  return found === undefined ? address : { family: 4, bits: (address.bits >> found.lastBit) & 0xffff_ffffn }
}

function networkFrom(text: string): Network {
  const network = parseNetwork(text)
  if (network === undefined) throw new Error(`${text} is not a network`)
  return network
}
