import { chmod } from 'node:fs/promises'
import { Authority } from '../test/support/certificates.ts'
import { bind, describePortal, describeStatement, execute, parse, sync } from '../test/support/frontend-messages.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { tempFolder } from '../test/support/temp-folder.ts'
import { WireClient } from '../test/support/wire.ts'
import type { StatementOptions } from './options.ts'
import { benchUser } from './pgbench.ts'
import { flotilla, pgbouncer, poolerFolder, pools } from './poolers.ts'
import { median, rotated } from './statistics.ts'
import { markdownTable } from './table.ts'
import { cpuBetween, cpuOf } from './usage-of-process.ts'

const directly = 'directly'

/** What one client does with its statements; each is another text. */
const steps = {
  'prepared in turn': prepare,
  'prepared in one pipeline': async (client, texts) => {
    client.send(...texts.flatMap((text, index) => [parse(`s${index}`, text), sync]))
    await client.readUntil('Z', texts.length)
  },
  'prepared, described, executed': async (client, texts) => {
    for (const [index, text] of texts.entries()) {
      await request(client, parse(`s${index}`, text), describeStatement(`s${index}`), sync)
      await request(client, bind('', `s${index}`), execute(''), sync)
    }
  },
  'prepared, executed twice': async (client, texts) => {
    await prepare(client, texts)
    for (let times = 0; times < 2; times++) {
      for (const index of texts.keys()) await request(client, bind('', `s${index}`), execute(''), sync)
    }
  },
  'prepared, described and executed twice': async (client, texts) => {
    await prepare(client, texts)
    for (let times = 0; times < 2; times++) {
      for (const index of texts.keys()) {
        await request(client, bind('', `s${index}`), describePortal(''), execute(''), sync)
      }
    }
  },
} as const satisfies Record<string, (client: WireClient, texts: readonly string[]) => Promise<void>>

async function prepare(client: WireClient, texts: readonly string[]): Promise<void> {
  for (const [index, text] of texts.entries()) await request(client, parse(`s${index}`, text), sync)
}

async function request(client: WireClient, ...messages: readonly Uint8Array[]): Promise<void> {
  client.send(...messages)
  await client.readUntil('Z')
}

/** One client with many prepared statements, in transaction mode, beside PgBouncer and PostgreSQL itself. */
export async function benchStatements({ statements, rounds, pgbouncer: program, nodeArgs }: StatementOptions) {
  const folder = await tempFolder()
  await chmod(folder, 0o755)
  const certificate = await (await Authority.create()).issue('localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  const postgres = await startPostgres({
    sql: [`CREATE ROLE ${benchUser} LOGIN`, `CREATE DATABASE ${benchUser} OWNER ${benchUser}`],
  })
  const targets = new Map<string, Target>([[directly, { port: postgres.port, database: benchUser, pid: null }]])
  for (const pooler of [flotilla(nodeArgs, { workers: 1 }), pgbouncer(program, 1)]) {
    const version = await pooler.version()
    console.log(`${pooler.name}: ${version ?? 'not installed, left out'}`)
    if (version === undefined || !pooler.followsStatements(version)) continue
    const { port, pids } = await pooler.start(postgres.port, await poolerFolder(folder, pooler), certificate)
    targets.set(pooler.name, { port, database: pools.transaction.database, pid: pids[0] ?? null })
  }
  const taken = new Map<string, Taken[]>()
  for (let round = 0; round < rounds; round++) {
    for (const [name, target] of rotated([...targets], round)) {
      // Texts that no round before has prepared, of usual length.
      const texts = Array.from({ length: statements }, (_, index) => `SELECT ${round}, ${index} ${comment}`)
      for (const [step, run] of Object.entries(steps)) {
        const key = `${step}|${name}`
        taken.set(key, [...(taken.get(key) ?? []), await measured(target, async (client) => await run(client, texts))])
      }
    }
  }
  const rows = Object.keys(steps).flatMap((step) => {
    const medianOf = (name: string, what: keyof Taken): number =>
      median((taken.get(`${step}|${name}`) ?? []).map((one) => one[what]))
    return [...targets.keys()].map((name) => [
      step,
      name,
      ...(['ms', 'cpuMs'] as const).flatMap((what) => {
        const value = medianOf(name, what)
        const ratio = name === 'flotilla' && targets.has('pgbouncer') ? value / medianOf('pgbouncer', what) : NaN
        return [value.toFixed(0), Number.isNaN(ratio) ? '–' : `×${ratio.toFixed(2)}`]
      }),
    ])
  })
  console.log(`\n${statements} statements of one client; medians of ${rounds} rounds\n`)
  console.log(markdownTable(['statements', 'through', 'ms', 'to PgBouncer', 'CPU ms', 'to PgBouncer'], rows))
}

interface Target {
  readonly port: number
  readonly database: string
  /** Of the pooler. */
  readonly pid: number | null
}

interface Taken {
  readonly ms: number
  /** Of the pooler. */
  readonly cpuMs: number
}

async function measured({ port, database, pid }: Target, run: (client: WireClient) => Promise<void>): Promise<Taken> {
  const client = await WireClient.login({ host: '127.0.0.1', port }, { user: benchUser, database })
  const before = pid === null ? null : await cpuOf(pid)
  const began = performance.now()
  await run(client)
  const ms = performance.now() - began
  const cpu = pid === null || before === null ? { userUs: 0, systemUs: 0 } : cpuBetween(before, await cpuOf(pid))
  client.destroy()
  return { ms, cpuMs: (cpu.userUs + cpu.systemUs) / 1000 }
}

const comment = `/* ${'x'.repeat(200)} */`
