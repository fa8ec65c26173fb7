/** The processes of a fleet as they are now: rows of the store, what is in memory, and what they should run. */
import { digestOf } from './domain/pool-facts.ts'
import { neededEpoch } from './domain/epoch.ts'
import type { Claim, NeededEpoch } from './domain/epoch.ts'
import { claimOf, processesOf } from './domain/proxy-view.ts'
import type { Contacts, DesiredPools, Process } from './domain/proxy-view.ts'
import type { ControlHost } from './host.ts'
import type { HotReads, Offer } from './store/poll-reads.ts'
import { listFleets } from './store/fleets.ts'
import { listProxies } from './store/proxies.ts'

/** What the current version of a fleet wants, parsed once per version where the host keeps it. */
async function desiredOf({ host, hot }: Reading, fleet: string, offer: Offer): Promise<DesiredPools> {
  const { epoch, version, manifest_hash } = offer
  const key = `${version} ${manifest_hash}`
  let parsed = host.parsed?.get(fleet)
  if (parsed?.key !== key) {
    const manifest = version === 0 ? undefined : await hot.manifest(fleet, version)
    const { pools } = JSON.parse(`{${manifest ?? '"pools":[]}'}`) as Pick<DesiredPools, 'pools'>
    parsed = { key, pools, running: digestOf(pools) }
    host.parsed?.set(fleet, parsed)
  }
  const { pools, running } = parsed
  return { position: { epoch, version }, operated: { paused: [], disabled: [] }, pools, running }
}

interface Reading {
  readonly host: ControlHost
  readonly hot: HotReads
}

export interface FleetProxies {
  readonly processes: readonly Process[]
  readonly desired: DesiredPools
  readonly contacts: Contacts
}

export async function fleetProxies(reading: Reading, fleet: string, offer: Offer): Promise<FleetProxies> {
  const { host } = reading
  const rows = await listProxies(host.store, fleet)
  const contacts = contactsOf(host, offer.poll_interval_ms)
  return { processes: processesOf(rows, contacts), desired: await desiredOf(reading, fleet, offer), contacts }
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
