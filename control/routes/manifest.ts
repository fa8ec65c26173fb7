import { z } from '@hono/zod-openapi'
import {
  bodyFormatHeader,
  bootHeader,
  bootSchema,
  reportNowHeader,
  manifestSchema,
  nameSchema,
  proxyHeader,
  secretValueSchema,
} from '../../shared/wire.ts'
import { formatUpTo } from '../../shared/config/formats.ts'
import type { BodyFormat } from '../../shared/config/formats.ts'
import { ApiProblem, noSuchFleet } from '../api-problem.ts'
import { parseWaitS } from '../domain/preconditions.ts'
import { ordersForProxies } from '../domain/orders.ts'
import { etagPosition, manifestBytes, manifestEtag } from '../domain/version.ts'
import type { ControlHost } from '../host.ts'
import { listOrders } from '../store/orders.ts'
import type { Offer } from '../store/poll-reads.ts'
import { findSealed } from '../store/secrets.ts'
import { findPoolBody } from '../store/versions.ts'
import { askedTopic, configTopic } from '../topics.ts'
import { fleetPath, json, jsonBytes, problems, proxyRoute } from './route.ts'
import type { App, Control } from './route.ts'

const poll = proxyRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/manifest',
  summary: 'What the fleet should run: the hashes of its pools',
  description:
    'If-None-Match contains the ETag of the last manifest the proxy received, applied or rejected. With ' +
    `Prefer: wait=25 control may hold the request for that many seconds until there is a newer one. ${bodyFormatHeader} is ` +
    'the body_format of the answer to hello; without it, the manifest and its bodies are in format 1.',
  request: { params: fleetPath },
  responses: {
    200: jsonBytes(manifestSchema, 'The manifest'),
    204: { description: 'The fleet has no version yet' },
    304: {
      description: `Unchanged since If-None-Match; with ${reportNowHeader} the proxy should report now`,
    },
    ...problems,
  },
})

const body = proxyRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/pools/{hash}',
  summary: 'The effective configuration with this hash; immutable',
  request: { params: fleetPath.extend({ hash: z.string() }) },
  responses: {
    200: jsonBytes(z.record(z.string(), z.unknown()), 'RFC 8785 JSON whose SHA-256 is the hash'),
    ...problems,
  },
})

const secret = proxyRoute({
  method: 'get',
  path: '/v1/fleets/{fleet}/secrets/{name}/{version}',
  summary: 'The value of one version of a secret',
  request: {
    params: fleetPath.extend({ name: z.string(), version: z.coerce.number().int().min(1) }),
    query: z.object({ epoch: z.coerce.number().int().min(1).optional() }),
  },
  responses: { 200: json(secretValueSchema, 'The value; must not be stored'), ...problems },
})

/** Maximum time that a poll is parked, in seconds. */
const waitMaxS = 60

export function manifestRoutes(app: App, control: Control): void {
  const { host, hot } = control

  // By far the most frequent call: two reads of one row each, two string comparisons, no writes.
  app.openapi(poll, async (c) => {
    const fleet = c.req.param('fleet')
    const proxy = nameSchema.safeParse(c.req.header(proxyHeader)).data
    const boot = bootSchema.safeParse(c.req.header(bootHeader)).data ?? null

    const held = c.req.header('if-none-match') ?? ''
    const format = formatUpTo(Number(c.req.header(bodyFormatHeader) ?? 1))
    const waitS = parseWaitS(c.req.header('prefer'))
    // Before it is parked.
    if (proxy !== undefined && waitS !== undefined) host.presence.seen(fleet, proxy, boot)
    const waitMs = Math.min(waitS ?? 0, waitMaxS) * 1000
    const { offer, isAsked } =
      waitS === undefined
        ? { offer: await hot.offer(fleet), isAsked: false }
        : await parked(control, { fleet, proxy, held, format, waitMs, signal: c.req.raw.signal })
    if (offer === undefined) throw noSuchFleet()
    const etag = etagOf(offer, format)
    const polled = held === etag ? { epoch: offer.epoch, version: offer.version } : etagPosition(held)
    if (proxy !== undefined) {
      host.presence.seen(fleet, proxy, boot, polled)
      if (held !== etag) host.presence.claimed({ fleet, proxy, boot }, polled, offer)
    }

    if (offer.version === 0) {
      host.metrics?.count('polls', 'none')
      return c.body(null, 204)
    }
    if (held === etag) {
      host.metrics?.count('polls', 'unchanged')
      return c.body(null, 304, { etag, ...(isAsked ? { [reportNowHeader]: 'reload' } : {}) })
    }
    const manifest =
      (await hot.manifest(fleet, offer.version, format)) ??
      (await control.missingManifests.make(fleet, offer.version, format))
    const orders = ordersForProxies(offer.order_number, await listOrders(host.store, fleet))
    host.metrics?.count('polls', 'offered')
    const isForced = await hot.isForced(fleet, offer.version)
    return c.body(manifestBytes(offer, { orders, isForced }, manifest), 200, {
      etag,
      'content-type': 'application/json',
      'cache-control': 'private, no-cache',
    })
  })

  app.openapi(body, async (c) => {
    const { fleet, hash } = c.req.valid('param')
    const found = await findPoolBody(host.store, fleet, hash)
    if (found === undefined) throw new ApiProblem('not-found', 'no pool of this fleet has this hash')
    return c.body(found, 200, {
      'content-type': 'application/json',
      'cache-control': 'private, max-age=31536000, immutable',
    })
  })

  app.openapi(secret, async (c) => {
    const { fleet, name, version } = c.req.valid('param')
    const { epoch } = c.req.valid('query')
    const found = await findSealed(host.store, fleet, name, version)
    // A restored store may have used the number again, for another value.
    const isOther = found !== undefined && epoch !== undefined && epoch !== found.epoch
    if (found === undefined || isOther) throw new ApiProblem('not-found', 'no such version of a secret in this fleet')
    const value = await host.sealing.open(found.sealed, { fleet, name, version })
    return c.json({ value }, 200, { 'cache-control': 'no-store' })
  })
}

function etagOf(offer: Offer, format: BodyFormat): string {
  return manifestEtag(offer, offer.manifest_hash, offer.order_number, format)
}

/** Returns the offer when it differs from the ETag or a report is requested, at the latest after the wait. */
async function parked(
  { host, hot }: { host: ControlHost; hot: Control['hot'] },
  poll: {
    fleet: string
    proxy: string | undefined
    held: string
    format: BodyFormat
    waitMs: number
    signal: AbortSignal
  },
): Promise<{ offer: Offer | undefined; isAsked: boolean }> {
  const { fleet, proxy, held, format, waitMs } = poll
  const done = new AbortController()
  const signal = AbortSignal.any([poll.signal, done.signal])
  // Waiting begins before the first read, so that a version created in between is not missed.
  const changed = host.parking?.wait(configTopic(fleet), waitMs, signal)
  const asked = proxy === undefined ? undefined : host.parking?.wait(askedTopic(fleet, proxy), waitMs, signal)
  try {
    const offer = await hot.offer(fleet)
    const unchanged = offer !== undefined && (offer.version === 0 || etagOf(offer, format) === held)
    if (changed === undefined || !unchanged) return { offer, isAsked: false }
    const isAsked = await Promise.race([changed.then(() => false), ...(asked === undefined ? [] : [asked])])
    return { offer: await hot.offer(fleet), isAsked }
  } finally {
    done.abort()
  }
}
