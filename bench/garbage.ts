import { chmod, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Authority } from '../test/support/certificates.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { tempFolder } from '../test/support/temp-folder.ts'
import type { GarbageOptions } from './options.ts'
import { benchUser, fillTables, runLoad } from './pgbench.ts'
import { flotilla, outputFile, poolerFolder, pools } from './poolers.ts'
import { markdownTable } from './table.ts'

const clients = 16

/** A load at a time: collections that have come by then are counted. */
const secondsOfLoad = 10

/**
 * Garbage collections while clients run a number of transactions, from --trace-gc. Each thread with JavaScript has a heap
 * of its own: the first that collects is the agent's, which does so before there is an engine.
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

  const pooler = flotilla(['--trace-gc'], 1)
  const rows: string[][] = []
  for (const { name, protocol, mode, tls } of cases) {
    const own = await poolerFolder(folder, pooler)
    const running = await pooler.start(postgres.port, own, certificate)
    const target = { port: running.port, database: pools[mode].database }
    const load = { protocol, clients, tls, seconds: secondsOfLoad }
    await runLoad(target, load, folder) // compiles what is measured
    const before = await collections(own)
    let done = 0
    while (done < transactions) done += (await runLoad(target, load, folder)).transactions
    const after = await collections(own)
    await running.stop()
    const [agent, engine] = [...after].map(([heap, count]) => count - (before.get(heap) ?? 0))
    rows.push([name, String(done), String(engine ?? 0), String(agent ?? 0)])
  }
  console.log(`garbage collections, ${clients} clients; ${secondsOfLoad} s of load went before\n`)
  console.log(markdownTable(['case', 'transactions', 'engine', 'agent'], rows))
}

/** How many each heap has seen, in the order in which heaps first had one. */
async function collections(folder: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  for (const [, heap = ''] of (await readFile(join(folder, outputFile), 'utf8')).matchAll(/^\[\d+:(0x[\da-f]+)\]/gm)) {
    counts.set(heap, (counts.get(heap) ?? 0) + 1)
  }
  return counts
}
