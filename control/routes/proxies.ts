import { z } from '@hono/zod-openapi'
import { proxiesSchema, proxyDetailSchema } from '../../shared/api.ts'
import { agreedFormat } from '../../shared/config/formats.ts'
import type { Network } from '../../shared/config/network.ts'
import type { ProblemDocument } from '../../shared/problem.ts'
import { hostFault } from '../../shared/registered-address.ts'
import {
  helloRequestSchema,
  helloResponseSchema,
  nameSchema,
  peersSchema,
  receivedReportSchema,
  reportResponseSchema,
} from '../../shared/wire.ts'
import type { HelloRequest } from '../../shared/wire.ts'
import { ApiProblem, noSuchFleet } from '../api-problem.ts'
import { hintUrlFault } from '../domain/hint-url.ts'
import { describeProxy } from '../domain/proxy-view.ts'
import type { ControlHost } from '../host.ts'
import { keepDisconnects } from '../store/disconnects.ts'
import type { Offer } from '../store/poll-reads.ts'
import { findProxy, keepReport, listPeers, listProxies, sayHello } from '../store/proxies.ts'
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
  request: { params: proxyPath },
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
    const proxies = (await listProxies(host.store, fleet)).map((row) => {
      const { pools: _, ...proxy } = describe(host, row, offer)
      return proxy
    })
    return c.json({ position: { epoch: offer.epoch, version: offer.version }, proxies }, 200)
  })

  app.openapi(show, async (c) => {
    const { fleet, proxy } = c.req.valid('param')
    const offer = await offerOf(control, fleet)
    const row = await findProxy(host.store, fleet, proxy)
    if (row === undefined) throw new ApiProblem('not-found', `no such proxy: "${proxy}"`)
    return c.json(describe(host, row, offer), 200)
  })

  app.openapi(hello, async (c) => {
    const { fleet, proxy } = c.req.valid('param')
    const said = c.req.valid('json')
    const errors = addressErrors(said, host.proxyNetworks)
    if (errors.length > 0) throw new ApiProblem('invalid', 'the proxy cannot be reached there', { errors })
    const { epoch, poll_interval_ms } = await offerOf(control, fleet)
    const caller = c.get('caller')
    if (caller.kind !== 'proxy') throw new Error('the route is for proxies')
    await sayHello(host.store, fleet, proxy, { ...said, token_id: caller.tokenId }, host.nowMs())
    host.presence.seen(fleet, proxy)
    host.hints.cleared(fleet, proxy)
    const hint_secret = host.sealing.hintSecret(fleet, proxy, said.boot)
    const body_format = agreedFormat(said.body_formats ?? [])
    const mock_key = host.sealing.mockKey(fleet)
    return c.json({ epoch, poll_interval_ms, body_format, hint_secret, mock_key }, 200)
  })

  app.openapi(peers, async (c) => {
    const { fleet } = c.req.valid('param')
    await offerOf(control, fleet)
    return c.json({ peers: await listPeers(host.store, fleet) }, 200)
  })

  app.openapi(report, async (c) => {
    const { fleet, proxy } = c.req.valid('param')
    const { events, ...kept } = c.req.valid('json')
    const offer = await hot.offer(fleet)
    if (offer === undefined) throw noSuchFleet()
    const now = new Date(host.nowMs()).toISOString()
    const [changed] = await host.store.write([
      keepReport(host.store, fleet, proxy, { boot: kept.boot, seq: kept.seq, json: JSON.stringify(kept) }, now),
      ...keepDisconnects(host.store, fleet, proxy, events, now),
    ])
    host.presence.seen(fleet, proxy)
    host.parking?.wake(reportsTopic(fleet))
    host.metrics?.count('reports', changed === 0 ? 'repeated' : 'kept')
    host.metrics?.count('events', 'received', events.length)
    return c.json({ ack: kept.seq, poll_interval_ms: offer.poll_interval_ms }, 200)
  })
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

function describe(host: ControlHost, row: ProxyRow, { epoch, version, poll_interval_ms }: Offer) {
  const presenceMs = host.presence.lastSeenMs(row.fleet, row.id)
  return describeProxy(row, { epoch, version }, { nowMs: host.nowMs(), pollIntervalMs: poll_interval_ms, presenceMs })
}
