import { compare } from '../pools.ts'
import { bigints, texts } from '../table.ts'
import type { Table } from '../table.ts'

/** Server names in the configuration; `ttl` is the maximum time, in seconds, until a name is looked up again. */
export const dnsHosts: Table = {
  columns: [...texts('hostname'), ...bigints('ttl'), ...texts('addrs')],
  join: null,
  rows: ({ pools, context }) => {
    const ttl = Math.ceil(context.general.dnsMaxTtlMs / 1000)
    const hosts = [...pools.all()].flatMap((pool) => pool.spec?.hosts ?? [])
    const looked = hosts.filter((host) => host.addresses.length !== 1 || host.addresses[0] !== host.host)
    const addresses = new Map(looked.map((host) => [host.host, host.addresses.join(',')]))
    return [...addresses].sort(([a], [b]) => compare(a, b)).map(([host, list]) => [host, ttl, list])
  },
}
