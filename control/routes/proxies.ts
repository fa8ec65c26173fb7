import { z } from '@hono/zod-openapi'
import { proxiesSchema, proxyDetailSchema } from '../../shared/api.ts'
import { agreedFormat } from '../../shared/config/formats.ts'
import type { Network } from '../../shared/config/network.ts'
import type { ProblemDocument } from '../../shared/problem.ts'
import { hostFault } from '../../shared/registered-address.ts'
import {
  bootSchema,
  helloRequestSchema,
  helloResponseSchema,
  nameSchema,
  peersSchema,
  receivedReportSchema,
  reportResponseSchema,
} from '../../shared/wire.ts'
import type { HelloRequest, PoolName, PoolReport, Report } from '../../shared/wire.ts'
import { ApiProblem, noSuchFleet } from '../api-problem.ts'
import { hintUrlFault } from '../domain/hint-url.ts'
import { mergedPools, poolFactsOf } from '../domain/pool-facts.ts'
import { highestOf, missedPollsMax } from '../domain/proxy-state.ts'
import { describeDetail, describeProxy, latest } from '../domain/proxy-view.ts'
import { contactsOf, fleetProxies } from '../fleet-proxies.ts'
import type { ControlHost } from '../host.ts'
import { keepDisconnects } from '../store/disconnects.ts'
import type { Offer } from '../store/poll-reads.ts'
import { findProcess, findProxies, keepReport, listPeers, sayHello } from '../store/proxies.ts'
import type { ProxyRow } from '../store/proxies.ts'
import { reportsTopic } from '../topics.ts'
import { fleetPath, json, operatorRoute, problems, proxyRoute } from './route.ts'
import type { App, Control } from './route.ts'

const proxyPath = fleetPath.extend({ proxy: nameSchema })

const list = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/proxies',
  summary: 'The proxies of a fleet and their states relative to its current version',
  request: { params: fleetPath, query: z.object({}) },
  responses: { 200: json(proxiesSchema, 'All proxies by id'), ...problems },
})

const show = operatorRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/proxies/{proxy}',
  summary: 'A proxy and its pools',
  description: 'Of several processes with this name, the newest unless `boot` names one.',
  request: { params: proxyPath, query: z.object({ boot: bootSchema.optional() }) },
  responses: { 200: json(proxyDetailSchema, 'The proxy'), ...problems },
})

const hello = proxyRoute({
  method: 'post',
  path: '/v1/fleets/{fleet}/proxies/{proxy}/hello',
  summary: 'Registers a proxy process, at its start and after a long time without contact',
  request: { params: proxyPath, body: { required: true, ...json(helloRequestSchema, 'The proxy') } },
  responses: { 200: json(helloResponseSchema, 'What the proxy needs to know'), ...problems },
})

const peers = proxyRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/peers',
  summary: 'The proxies of the fleet by number, with the addresses for forwarding cancel requests',
  request: { params: fleetPath },
  responses: { 200: json(peersSchema, 'All proxies that have a number'), ...problems },
})

const report = proxyRoute({
  method: 'post',
  path: '/v1/fleets/{fleet}/proxies/{proxy}/reports',
  summary: 'What a proxy runs and the server connections it lost; idempotent',
  request: { params: proxyPath, body: { required: true, ...json(receivedReportSchema, 'The report') } },
  responses: { 200: json(reportResponseSchema, 'The report was stored'), ...problems },
})

export function proxyRoutes(app: App, control: Control): void {
  const { host, hot } = control

  app.openapi(list, async (c) => {
    const { fleet } = c.req.valid('param')
    const offer = await offerOf(control, fleet)
    const { processes, desired, contacts } = await fleetProxies(control, fleet, offer)
    const proxies = processes.map((process) => describeProxy(process, desired(process), contacts))
    return c.json({ position: { epoch: offer.epoch, version: offer.version }, proxies }, 200)
  })

  app.openapi(show, async (c) => {
    const { fleet, proxy } = c.req.valid('param')
    const { boot } = c.req.valid('query')
    const { processes, desired, contacts } = await fleetProxies(control, fleet, await offerOf(control, fleet))
    // The first of a name is the newest.
    const process = processes.find(({ row }) => row.id === proxy && (boot === undefined || row.boot === boot))
    if (process === undefined) throw new ApiProblem('not-found', `no such proxy: "${proxy}"`)
    return c.json(describeDetail(process, desired(process), contacts), 200)
  })

  app.openapi(hello, async (c) => {
    const { fleet, proxy: id } = c.req.valid('param')
    const said = c.req.valid('json')
    const errors = addressErrors(said, host.proxyNetworks)
    if (errors.length > 0) throw new ApiProblem('invalid', 'the proxy cannot be reached there', { errors })
    const { epoch, version, poll_interval_ms } = await offerOf(control, fleet)
    const caller = c.get('caller')
    if (caller.kind !== 'proxy') throw new Error('the route is for proxies')
    const ended = await endedProcesses(host, fleet, id, said, poll_interval_ms)
    const greeting = { fleet, id, hello: { ...said, token_id: caller.tokenId }, nowMs: host.nowMs(), ended }
    await sayHello(host.store, greeting)
    host.presence.seen(fleet, id, said.boot)
    if (said.applied !== undefined) {
      host.presence.claimed({ fleet, proxy: id, boot: said.boot }, said.applied, { epoch, version })
    }
    host.hints.cleared(fleet, id, said.boot)
    const hint_secret = host.sealing.hintSecret(fleet, id, said.boot)
    const body_format = agreedFormat(said.body_formats ?? [])
    const mock_key = host.sealing.mockKey(fleet)
    const report_interval_ms = reportIntervalMs(poll_interval_ms)
    return c.json({ epoch, poll_interval_ms, report_interval_ms, body_format, hint_secret, mock_key }, 200)
  })

  app.openapi(peers, async (c) => {
    const { fleet } = c.req.valid('param')
    await offerOf(control, fleet)
    return c.json({ peers: await listPeers(host.store, fleet) }, 200)
  })

  app.openapi(report, async (c) => {
    const { fleet, proxy: id } = c.req.valid('param')
    const said = c.req.valid('json')
    const offer = await hot.offer(fleet)
    if (offer === undefined) throw noSuchFleet()
    const { pools, kept } = await keepAll(host, fleet, id, said)
    host.presence.seen(fleet, id, said.boot)
    host.presence.claimed({ fleet, proxy: id, boot: said.boot }, highestOf([said.applied, said.offered]), offer)
    host.parking?.wake(reportsTopic(fleet))
    host.metrics?.count('reports', kept)
    host.metrics?.count('events', 'received', said.events.length)
    const { poll_interval_ms } = offer
    const report_interval_ms = reportIntervalMs(poll_interval_ms)
    return c.json({ ack: said.seq, poll_interval_ms, report_interval_ms, pools }, 200)
  })
}

/** A report for so many polls, but not rarer than `reportMaxMs`, unless polls are. */
const pollsPerReport = 6
const reportMaxMs = 30_000

function reportIntervalMs(pollIntervalMs: number): number {
  return Math.max(Math.min(pollsPerReport * pollIntervalMs, reportMaxMs), pollIntervalMs)
}

/** Processes with this name that the one which says hello follows: it says so, or they have been silent for long. */
async function endedProcesses(
  host: ControlHost,
  fleet: string,
  id: string,
  { boot, takes_over_from: former }: HelloRequest,
  pollIntervalMs: number,
): Promise<ProxyRow[]> {
  const { nowMs, lastSeenMs } = contactsOf(host, pollIntervalMs)
  const others = (await findProxies(host.store, fleet, id)).filter((row) => row.boot !== boot)
  const newest = others.toSorted((one, other) => (one.known_at ?? '').localeCompare(other.known_at ?? '')).at(-1)
  const isSilent = (row: ProxyRow): boolean => {
    const seenMs = latest(row.last_seen_at, lastSeenMs(row, row === newest))
    return seenMs === undefined || nowMs - seenMs > missedPollsMax * pollIntervalMs
  }
  return [
    ...others.filter((row) => row.boot === former),
    ...others.filter((row) => row.boot !== former && isSilent(row)),
  ]
}

/** Stores a report and its events. `pools`: what the next report has to contain. */
async function keepAll(
  host: ControlHost,
  fleet: string,
  id: string,
  said: Report,
): Promise<{ pools: 'changed' | 'all'; kept: 'kept' | 'repeated' | 'incomplete' }> {
  const { events, pools: told, pools_removed: removed = [], base, ...rest } = said
  const { boot, seq } = said
  const now = new Date(host.nowMs()).toISOString()
  const before = base === undefined ? undefined : await findProcess(host.store, { fleet, id, boot })
  const pools = base === undefined ? JSON.stringify(told) : mergedText(before, base, told, removed)
  const arrived = keepDisconnects(host.store, fleet, id, events, now)
  if (pools !== null) {
    const pool_facts = before?.pools === pools ? before.pool_facts : null
    const report = {
      fleet,
      id,
      boot,
      seq,
      base: base ?? null,
      pools,
      report: JSON.stringify(rest),
      pool_facts: pool_facts ?? JSON.stringify(poolFactsOf(JSON.parse(pools) as PoolReport[])),
    }
    const [changed] = await host.store.write([keepReport(host.store, report, now), ...arrived])
    if (changed === 1) return { pools: 'changed', kept: 'kept' }
  } else if (arrived.length > 0) await host.store.write(arrived)
  const stored = await findProcess(host.store, { fleet, id, boot })
  if (stored !== undefined && stored.seq >= seq) {
    return { pools: stored.seq === seq ? 'changed' : 'all', kept: 'repeated' }
  }
  // Its changes are about a report that is not there: the proxy sends all pools at once.
  return { pools: 'all', kept: 'incomplete' }
}

/** All pools as JSON; null if the report that the changes are about is not the newest. */
function mergedText(
  before: ProxyRow | undefined,
  base: number,
  changed: readonly PoolReport[],
  removed: readonly PoolName[],
): string | null {
  if (before === undefined || before.seq !== base || before.pools === null) return null
  if (changed.length === 0 && removed.length === 0) return before.pools
  return JSON.stringify(mergedPools(JSON.parse(before.pools) as PoolReport[], changed, removed))
}

/** What is wrong with the addresses that a proxy registers. */
function addressErrors(
  { hint_url, peer }: HelloRequest,
  allowed: readonly Network[] | undefined,
): NonNullable<ProblemDocument['errors']> {
  const faults = {
    hint_url: hint_url === undefined ? undefined : hintUrlFault(hint_url, allowed),
    // Control itself does not connect to a peer's address, the other proxies do.
    'peer.host': peer === undefined ? undefined : hostFault(peer.host),
  }
  return Object.entries(faults).flatMap(([path, message]) => (message === undefined ? [] : [{ path, message }]))
}

async function offerOf({ hot }: Control, fleet: string): Promise<Offer> {
  const offer = await hot.offer(fleet)
  if (offer === undefined) throw noSuchFleet()
  return offer
}
