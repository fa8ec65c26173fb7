import { chmod, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Authority } from '../test/support/certificates.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { tempFolder } from '../test/support/temp-folder.ts'
import type { GarbageOptions } from './options.ts'
import { benchUser, fillTables, runLoad } from './pgbench.ts'
import { flotilla, outputFile, poolerFolder, pools } from './poolers.ts'
import { markdownTable } from './table.ts'

const clients = 16

const secondsBefore = 10

/** The load takes longer where the machine does other things meanwhile. */
const margin = 1.1

/**
 * Garbage collections while clients run a number of transactions, from --trace-gc. Each thread with JavaScript has a heap
 * of its own: the first that collects is the agent's, which does so before there is an engine. Then the same for as long
 * without a client: what timers and maintenance leave is no client's.
 */
export async function benchGarbage({ cases, transactions }: GarbageOptions): Promise<void> {
  const folder = await tempFolder()
  await chmod(folder, 0o755)
  const certificate = await (await Authority.create()).issue('localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  const postgres = await startPostgres({
    maxConnections: 300,
    sql: [`CREATE ROLE ${benchUser} LOGIN`, `CREATE DATABASE ${benchUser} OWNER ${benchUser}`],
  })
  await fillTables({ port: postgres.port, database: benchUser })

  const pooler = flotilla(['--trace-gc'], { workers: 1 })
  const rows: string[][] = []
  for (const { name, protocol, mode, tls } of cases) {
    const own = await poolerFolder(folder, pooler)
    const running = await pooler.start(postgres.port, own, certificate)
    const target = { port: running.port, database: pools[mode].database }
    const load = { protocol, clients, tls }
    // Compiles what is measured, and says how long it will take.
    const { tps } = await runLoad(target, { ...load, seconds: secondsBefore }, folder)
    const seconds = Math.ceil((transactions / tps) * margin)
    const [begun, done] = await counted(own, async () => await runLoad(target, { ...load, seconds }, folder))
    const [idle] = await counted(own, async () => await sleep(seconds * 1000))
    await running.stop()
    rows.push([name, String(done.transactions), String(seconds), ...begun.toReversed().map(String), String(idle[1])])
  }
  console.log(`garbage collections, ${clients} clients that stay; ${secondsBefore} s of load went before\n`)
  console.log(markdownTable(['case', 'transactions', 'seconds', 'engine', 'agent', 'engine, no clients'], rows))
}

/** Collections of the agent and of the engine while `run` runs, and what it gives. */
async function counted<Result>(folder: string, run: () => Promise<Result>): Promise<[[number, number], Result]> {
  const before = await collections(folder)
  const result = await run()
  const [agent = 0, engine = 0] = [...(await collections(folder))].map(
    ([heap, count]) => count - (before.get(heap) ?? 0),
  )
  return [[agent, engine], result]
}

/** How many each heap has seen, in the order in which heaps first had one. */
async function collections(folder: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  for (const [, heap = ''] of (await readFile(join(folder, outputFile), 'utf8')).matchAll(/^\[\d+:(0x[\da-f]+)\]/gm)) {
    counts.set(heap, (counts.get(heap) ?? 0) + 1)
  }
  return counts
}
