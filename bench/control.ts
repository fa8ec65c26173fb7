import { randomBytes } from 'node:crypto'
import { Client } from 'undici'
import { Failure } from '../cli/failure.ts'
import { createApp } from '../control/app.ts'
import { createSealing } from '../control/domain/sealing.ts'
import { NodeMetrics } from '../control/node/metrics.ts'
import { NodeParking } from '../control/node/parking.ts'
import { NodePresence } from '../control/node/presence.ts'
import { openSqliteStore } from '../control/node/sqlite-store.ts'
import { proxyHeader } from '../shared/wire.ts'
import { startControl } from '../test/support/processes.ts'
import { tempFolder } from '../test/support/temp-folder.ts'
import type { ControlOptions } from './options.ts'
import { median, percentile } from './statistics.ts'
import { markdownTable } from './table.ts'
import { cpuBetween, cpuOf, rssBytesOf } from './usage-of-process.ts'

const fleet = 'bench'
const manifestPath = `/v1/fleets/${fleet}/manifest`

/** Polls for one reading of the CPU time, and how many readings the median is taken of. */
const pollsPerReading = 5000
const readings = 5

/** Connections that poll without a pause. */
const busyConnections = 8

/** How often each simulated proxy polls. */
const pollEveryMs = 1000

/** What a poll without news costs: almost everything control ever does. */
export async function benchControl({ proxies, seconds }: ControlOptions): Promise<void> {
  const folder = await tempFolder()
  const control = await startControl({ folder })
  const { pid } = control
  if (pid === undefined) throw new Failure('control did not start')
  const token = await control.proxyToken(fleet)
  await control.apply(fleet, document())
  const poll = await pollOf(control.url, token)

  const rows = [
    ['in process', (await inProcessUs(folder, poll.headers)).toFixed(1)],
    ['over HTTP', (await overHttpUs(control.url, pid, poll)).toFixed(1)],
  ]
  console.log('a poll answered 304, CPU of control\n')
  console.log(markdownTable(['', 'µs'], rows))

  const load = await simulate(control.url, pid, poll, { proxies, seconds })
  console.log(`\n${proxies} proxies that poll every ${pollEveryMs} ms for ${seconds} s, a connection each\n`)
  console.log(
    markdownTable(
      ['polls/s', 'CPU of a core', 'µs per poll', 'p50 ms', 'p99 ms', 'RSS MiB'],
      [
        [
          load.pollsPerS.toFixed(0),
          `${(load.cpuShare * 100).toFixed(1)} %`,
          load.cpuUs.toFixed(0),
          load.p50Ms.toFixed(2),
          load.p99Ms.toFixed(2),
          (load.rssBytes / 2 ** 20).toFixed(0),
        ],
      ],
    ),
  )
}

/** Twenty pools of five users: a manifest of 100 lines. */
function document(): unknown {
  const users = Object.fromEntries(Array.from({ length: 5 }, (_, user) => [`user${user}`, { auth_type: 'trust' }]))
  const servers = [{ host: '10.0.0.1', port: 5432, role: 'primary' }]
  return { pools: Object.fromEntries(Array.from({ length: 20 }, (_, pool) => [`pool${pool}`, { servers, users }])) }
}

interface Poll {
  readonly headers: Readonly<Record<string, string>>
}

/** What a proxy sends that has looked at the current manifest. */
async function pollOf(url: string, token: string): Promise<Poll> {
  const headers = { authorization: `Bearer ${token}` }
  const first = await fetch(`${url}${manifestPath}`, { headers })
  const etag = first.headers.get('etag')
  if (first.status !== 200 || etag === null) throw new Failure(`no manifest: ${first.status} ${await first.text()}`)
  return { headers: { ...headers, 'if-none-match': etag } }
}

/** The app alone, on the same store, without a socket. */
async function inProcessUs(folder: string, headers: Poll['headers']): Promise<number> {
  const store = await openSqliteStore(folder, new Date())
  const app = createApp({
    store,
    sealing: createSealing(randomBytes(32), randomBytes),
    presence: new NodePresence(Date.now),
    parking: new NodeParking(),
    metrics: new NodeMetrics(),
    hints: { send() {}, cleared() {} },
    operations: { send: async () => await Promise.resolve({ kind: 'unreachable' as const }) },
    logError: (message, error) => console.error(message, error),
    nowMs: Date.now,
    random: randomBytes,
    operatorToken: 'the-operator-of-the-bench',
  })
  const url = `http://control${manifestPath}`
  const used: number[] = []
  for (let reading = 0; reading <= readings; reading++) {
    const before = process.cpuUsage()
    for (let poll = 0; poll < pollsPerReading; poll++) {
      const { status } = await app.fetch(new Request(url, { headers: { ...headers, [proxyHeader]: 'proxy-1' } }))
      if (status !== 304) throw new Failure(`a poll was answered ${status}`)
    }
    const { user, system } = process.cpuUsage(before)
    // The first reading is of code that is not compiled yet.
    if (reading > 0) used.push((user + system) / pollsPerReading)
  }
  await store.close()
  return median(used)
}

async function overHttpUs(url: string, pid: number, poll: Poll): Promise<number> {
  const proxies = Array.from({ length: busyConnections }, (_, index) => new PollingProxy(url, poll, index))
  const used: number[] = []
  for (let reading = 0; reading <= readings; reading++) {
    const before = await cpuOf(pid)
    await Promise.all(
      proxies.map(async (proxy) => {
        for (let count = 0; count < pollsPerReading / busyConnections; count++) await proxy.poll()
      }),
    )
    const { userUs, systemUs } = cpuBetween(before, await cpuOf(pid))
    if (reading > 0) used.push((userUs + systemUs) / pollsPerReading)
  }
  await Promise.all(proxies.map((proxy) => proxy.close()))
  return median(used)
}

/** A proxy as control sees it: one connection, one poll at a time. */
class PollingProxy {
  readonly #client: Client
  readonly #headers: Readonly<Record<string, string>>

  constructor(url: string, { headers }: Poll, index: number) {
    this.#client = new Client(url)
    this.#headers = { ...headers, [proxyHeader]: `proxy-${index}` }
  }

  /** Gives the time to the answer. @throws Failure when that is not a 304 */
  async poll(): Promise<number> {
    const beganMs = performance.now()
    const { statusCode, body } = await this.#client.request({
      method: 'GET',
      path: manifestPath,
      headers: this.#headers,
    })
    await body.dump()
    if (statusCode !== 304) throw new Failure(`a poll was answered ${statusCode}`)
    return performance.now() - beganMs
  }

  async close(): Promise<void> {
    await this.#client.close()
  }
}

interface SimulatedLoad {
  readonly pollsPerS: number
  readonly cpuShare: number
  readonly cpuUs: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly rssBytes: number
}

/** The proxies' polls are spread evenly over the interval, as their jitter spreads real ones. */
async function simulate(
  url: string,
  pid: number,
  poll: Poll,
  { proxies: count, seconds }: ControlOptions,
): Promise<SimulatedLoad> {
  const proxies = Array.from({ length: count }, (_, index) => new PollingProxy(url, poll, index))
  for (const proxy of proxies) await proxy.poll()
  const before = await cpuOf(pid)
  const beganMs = performance.now()
  const endMs = beganMs + seconds * 1000
  const latencies = await Promise.all(
    proxies.map((proxy, index) => pollUntil(proxy, beganMs + (index * pollEveryMs) / count, endMs)),
  )
  const { userUs, systemUs } = cpuBetween(before, await cpuOf(pid))
  const tookMs = performance.now() - beganMs
  const rssBytes = await rssBytesOf(pid)
  await Promise.all(proxies.map((proxy) => proxy.close()))
  const all = latencies.flat()
  return {
    pollsPerS: (all.length * 1000) / tookMs,
    cpuShare: (userUs + systemUs) / (tookMs * 1000),
    cpuUs: (userUs + systemUs) / all.length,
    p50Ms: percentile(all, 0.5),
    p99Ms: percentile(all, 0.99),
    rssBytes,
  }
}

async function pollUntil(proxy: PollingProxy, firstMs: number, endMs: number): Promise<number[]> {
  const latencies: number[] = []
  for (let atMs = firstMs; atMs < endMs; atMs += pollEveryMs) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, atMs - performance.now())))
    latencies.push(await proxy.poll())
  }
  return latencies
}
