/** Targets of a pool's servers, and their TCP options. */
import type { PoolSettings } from '../../../shared/config/settings.ts'
import type { TcpOptions } from '../../io/io.ts'
import type { HostSpec, PoolSpec } from '../../spec.ts'

/** One address of a configured server. */
export interface Target {
  readonly host: HostSpec
  readonly address: string
}

/** The primary if there is one; otherwise the replicas in turn. */
export function targetsOf(spec: Pick<PoolSpec, 'hosts'>): readonly Target[] {
  const primaries = spec.hosts.filter((host) => host.role === 'primary')
  const hosts = primaries.length > 0 ? primaries : spec.hosts
  return hosts.flatMap((host) => host.addresses.map((address) => ({ host, address })))
}

/** `spec` with the addresses in `hosts`, by host name; the same object if none of its hosts is there. */
export function withAddresses(spec: PoolSpec, hosts: Readonly<Record<string, readonly string[]>>): PoolSpec {
  if (!spec.hosts.some(({ host }) => hosts[host] !== undefined)) return spec
  return { ...spec, hosts: spec.hosts.map((host) => ({ ...host, addresses: hosts[host.host] ?? host.addresses })) }
}

type TcpSettings = Pick<
  PoolSettings,
  'tcpKeepalivesIdleMs' | 'tcpKeepalivesIntervalMs' | 'tcpKeepalivesCount' | 'tcpUserTimeoutMs'
>

export function tcpOptionsOf(settings: TcpSettings): TcpOptions {
  return {
    keepaliveIdleMs: settings.tcpKeepalivesIdleMs,
    keepaliveIntervalMs: settings.tcpKeepalivesIntervalMs,
    keepaliveCount: settings.tcpKeepalivesCount,
    userTimeoutMs: settings.tcpUserTimeoutMs,
  }
}
