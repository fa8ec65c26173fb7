import { reloadRequestSchema, reloadSchema } from '../../shared/api.ts'
import type { Reload } from '../../shared/api.ts'
import { operations } from '../../shared/operations.ts'
import type { Position } from '../../shared/wire.ts'
import { noSuchFleet } from '../api-problem.ts'
import { hintAll } from '../configure.ts'
import { reloadOutcome } from '../domain/proxy-state.ts'
import { describeProxy, reportOf } from '../domain/proxy-view.ts'
import type { ControlHost } from '../host.ts'
import { listProxies } from '../store/proxies.ts'
import { askedTopic, reportsTopic } from '../topics.ts'
import { fleetPath, json, operatorRoute, problems } from './route.ts'
import type { App, Control } from './route.ts'

const reload = operatorRoute({
  method: 'post',
  path: '/v1/fleets/{fleet}/reload',
  summary: `On all proxies: ${operations.reload.help}; with \`wait\`, return the outcome of each`,
  request: { params: fleetPath, body: { required: false, ...json(reloadRequestSchema, 'How long to wait') } },
  responses: { 200: json(reloadSchema, 'All proxies and their outcomes'), ...problems },
})

/** A proxy between two parked polls is queried again after this time. */
const askAgainMs = 1000
/** Reports arrive in bursts: after one, wait this long before outcomes are computed again. */
const gatherMs = 50

export function reloadRoutes(app: App, { host, hot }: Control): void {
  app.openapi(reload, async (c) => {
    const { fleet } = c.req.valid('param')
    const waitMs = (c.req.valid('json').wait ?? 0) * 1000
    const offer = await hot.offer(fleet)
    if (offer === undefined) throw noSuchFleet()
    const position = { epoch: offer.epoch, version: offer.version }
    const asked = { position, askedMs: host.nowMs(), pollIntervalMs: offer.poll_interval_ms }
    await hintAll(host, fleet, offer.version, 'reload')

    const proxies = await outcomes(host, fleet, asked, waitMs, c.req.raw.signal)
    return c.json({ position, proxies }, 200)
  })
}

interface Asked {
  readonly position: Position
  readonly askedMs: number
  readonly pollIntervalMs: number
}

async function outcomes(
  host: ControlHost,
  fleet: string,
  asked: Asked,
  waitMs: number,
  signal: AbortSignal,
): Promise<Reload['proxies']> {
  const { parking } = host
  const waits = waitMs > 0 && parking !== undefined
  for (;;) {
    const leftMs = asked.askedMs + waitMs - host.nowMs()
    const roundMs = Math.min(leftMs, askAgainMs)
    const report = waits && leftMs > 0 ? parking.wait(reportsTopic(fleet), roundMs, signal) : undefined
    const judged = await judge(host, fleet, asked, waits)
    const pending = judged.filter(({ outcome }) => outcome === 'timeout' || outcome === 'hinted')
    for (const { id } of pending) parking?.wake(askedTopic(fleet, id))
    if (report === undefined || pending.length === 0 || signal.aborted) return judged
    await report
    await parking!.wait('', Math.min(gatherMs, leftMs), signal)
  }
}

/** Outcomes of all proxies now; `timeout` for those that have not reported since the request. */
async function judge(host: ControlHost, fleet: string, asked: Asked, waits: boolean): Promise<Reload['proxies']> {
  const rows = await listProxies(host.store, fleet)
  return rows.map((row) => {
    const presenceMs = host.presence.lastSeenMs(fleet, row.id)
    const clock = { nowMs: host.nowMs(), pollIntervalMs: asked.pollIntervalMs, presenceMs }
    const { id, state, applied, error } = describeProxy(row, asked.position, clock)
    const reportedMs = row.reported_at === null ? undefined : Date.parse(row.reported_at)
    const said = reloadOutcome(asked.position, reportOf(row), reportedMs, asked.askedMs)
    const silent = state === 'offline' ? 'offline' : 'timeout'
    return { id, outcome: waits ? (said ?? silent) : state === 'offline' ? 'offline' : 'hinted', applied, error }
  })
}
