import { reloadRequestSchema, reloadSchema } from '../../shared/api.ts'
import type { Reload } from '../../shared/api.ts'
import { operations } from '../../shared/operations.ts'
import { noSuchFleet } from '../api-problem.ts'
import { hintAll } from '../configure.ts'
import { reloadOutcome } from '../domain/proxy-state.ts'
import { describeProxy, reportOf } from '../domain/proxy-view.ts'
import { fleetProxies } from '../fleet-proxies.ts'
import type { Offer } from '../store/poll-reads.ts'
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

export function reloadRoutes(app: App, control: Control): void {
  const { host, hot } = control

  app.openapi(reload, async (c) => {
    const { fleet } = c.req.valid('param')
    const waitMs = (c.req.valid('json').wait ?? 0) * 1000
    const offer = await hot.offer(fleet)
    if (offer === undefined) throw noSuchFleet()
    const position = { epoch: offer.epoch, version: offer.version }
    const asked = { offer, askedMs: host.nowMs() }
    await hintAll(host, fleet, offer.version, 'reload')

    const proxies = await outcomes(control, fleet, asked, waitMs, c.req.raw.signal)
    return c.json({ position, proxies }, 200)
  })
}

interface Asked {
  readonly offer: Offer
  readonly askedMs: number
}

async function outcomes(
  control: Control,
  fleet: string,
  asked: Asked,
  waitMs: number,
  signal: AbortSignal,
): Promise<Reload['proxies']> {
  const { host } = control
  const { parking } = host
  const waits = waitMs > 0 && parking !== undefined
  for (;;) {
    const leftMs = asked.askedMs + waitMs - host.nowMs()
    const roundMs = Math.min(leftMs, askAgainMs)
    const report = waits && leftMs > 0 ? parking.wait(reportsTopic(fleet), roundMs, signal) : undefined
    const judged = await judge(control, fleet, asked, waits)
    const pending = judged.filter(({ outcome }) => outcome === 'timeout' || outcome === 'hinted')
    for (const { id } of pending) parking?.wake(askedTopic(fleet, id))
    if (report === undefined || pending.length === 0 || signal.aborted) return judged
    await report
    await parking!.wait('', Math.min(gatherMs, leftMs), signal)
  }
}

/** Outcomes of all proxies now; `timeout` for those that have not reported since the request. */
async function judge(control: Control, fleet: string, asked: Asked, waits: boolean): Promise<Reload['proxies']> {
  const { offer, askedMs } = asked
  const { processes, desired, contacts } = await fleetProxies(control, fleet, offer)
  return processes.map((process) => {
    const { row } = process
    const { id, state, reasons, applied, error } = describeProxy(process, desired(process), contacts)
    const reportedMs = row.reported_at === null ? undefined : Date.parse(row.reported_at)
    const said = reloadOutcome(desired(process).position, { report: reportOf(row), reportedMs, askedMs })
    const silent = state === 'offline' ? 'offline' : 'timeout'
    const outcome = waits ? (said ?? silent) : state === 'offline' ? 'offline' : 'hinted'
    return { id, outcome, state, reasons, applied, error }
  })
}
