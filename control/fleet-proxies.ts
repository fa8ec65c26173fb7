/** The processes of a fleet as they are now: rows of the store, what is in memory, and what they should run. */
import { formatUpTo } from '../shared/config/formats.ts'
import type { BodyFormat } from '../shared/config/formats.ts'
import { digestOf } from './domain/pool-facts.ts'
import { neededEpoch } from './domain/epoch.ts'
import type { Claim, NeededEpoch } from './domain/epoch.ts'
import { standing } from './domain/orders.ts'
import { claimOf, processesOf, reportOf } from './domain/proxy-view.ts'
import type { Contacts, DesiredPools, Process } from './domain/proxy-view.ts'
import { desiredHashes } from './domain/version.ts'
import type { ControlHost, ParsedVersion } from './host.ts'
import type { Control } from './routes/route.ts'
import { listOrders } from './store/orders.ts'
import type { Offer } from './store/poll-reads.ts'
import { listFleets } from './store/fleets.ts'
import { listProxies } from './store/proxies.ts'

type Reading = Pick<Control, 'host' | 'hot' | 'missingManifests'>

/** What the current version of a fleet wants in a body format, parsed once where the host keeps it. */
async function parsedIn(reading: Reading, fleet: string, offer: Offer, format: BodyFormat): Promise<ParsedVersion> {
  const { host, hot, missingManifests } = reading
  const { version, manifest_hash } = offer
  const place = `${fleet} ${format}`
  const key = `${version} ${manifest_hash}`
  const known = host.parsed?.get(place)
  if (known?.key === key) return known
  const manifest =
    version === 0
      ? undefined
      : ((await hot.manifest(fleet, version, format)) ?? (await missingManifests.make(fleet, version, format)))
  const pools = manifest === undefined ? [] : desiredHashes(manifest)
  const parsed = { key, pools, running: digestOf(pools) }
  host.parsed?.set(place, parsed)
  return parsed
}

export interface FleetProxies {
  readonly processes: readonly Process[]
  /** What a process should run, in the body format that it reports. */
  readonly desired: (process: Process) => DesiredPools
  readonly contacts: Contacts
}

export async function fleetProxies(reading: Reading, fleet: string, offer: Offer): Promise<FleetProxies> {
  const { host } = reading
  const contacts = contactsOf(host, offer.poll_interval_ms)
  const processes = processesOf(await listProxies(host.store, fleet), contacts)
  const orders = standing(await listOrders(host.store, fleet), host.nowMs())
  const position = { epoch: offer.epoch, version: offer.version }
  const desired = new Map<BodyFormat, DesiredPools>()
  for (const format of new Set(processes.map(formatOf))) {
    const { pools, running } = await parsedIn(reading, fleet, offer, format)
    const ordered = (effect: 'paused' | 'disabled'): string[] => {
      const names = new Set(pools.map(({ pool }) => pool))
      return orders.filter((order) => order.effect === effect && names.has(order.pool)).map(({ pool }) => pool)
    }
    const operated = { paused: ordered('paused'), disabled: ordered('disabled') }
    desired.set(format, { position, operated, pools, running })
  }
  // Every process's format is there.
  return { processes, desired: (process) => desired.get(formatOf(process))!, contacts }
}

function formatOf({ row }: Process): BodyFormat {
  return formatUpTo(reportOf(row)?.body_format ?? 1)
}

export function contactsOf({ presence, nowMs }: ControlHost, pollIntervalMs: number): Contacts {
  return {
    nowMs: nowMs(),
    pollIntervalMs,
    lastSeenMs: ({ fleet, id, boot }, isNewest) => {
      const own = presence.contact(fleet, id, boot)?.atMs
      // A poll of 0.1.0 does not say which process it is from.
      const nameless = isNewest ? presence.contact(fleet, id, null)?.atMs : undefined
      return own === undefined || nameless === undefined ? (own ?? nameless) : Math.max(own, nameless)
    },
    polled: ({ fleet, id, boot }) => presence.contact(fleet, id, boot)?.polled ?? null,
    refusedSince: ({ fleet, id }) => {
      const sinceMs = presence.refusedSinceMs(fleet, id)
      return sinceMs === undefined ? null : new Date(sinceMs).toISOString()
    },
  }
}

/** The epoch that the store needs, by what proxies of all fleets have said. */
export async function readNeededEpoch(
  store: ControlHost['store'],
  epoch: number,
  presence?: Pick<ControlHost['presence'], 'contact'>,
): Promise<NeededEpoch> {
  const claims: Claim[] = []
  const versions = new Map<string, number>()
  for (const { name: fleet, version } of await listFleets(store)) {
    versions.set(fleet, version)
    for (const row of await listProxies(store, fleet)) {
      const { id, boot } = row
      const position = claimOf(row, presence?.contact(fleet, id, boot)?.polled ?? null)
      if (position !== null) claims.push({ fleet, id, boot, position })
    }
  }
  return neededEpoch(epoch, (fleet) => versions.get(fleet) ?? 0, claims)
}
