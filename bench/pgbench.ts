import { execFile } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Failure } from '../cli/failure.ts'
import type { Protocol } from './options.ts'
import { percentile } from './statistics.ts'

export interface Target {
  readonly port: number
  readonly database: string
}

export interface Load {
  readonly protocol: Protocol
  readonly clients: number
  readonly seconds: number
  readonly tls: boolean
}

export interface LoadResult {
  readonly transactions: number
  readonly tps: number
  readonly p99Ms: number
}

export const benchUser = 'bench'

/** Share of transactions whose latency pgbench writes down: enough for a 99th percentile, and cheap. */
const samplingRate = 0.1

/** @throws Failure when pgbench is not installed */
export async function pgbenchVersion(): Promise<string> {
  const { stdout } = await run(['--version'])
  return stdout.trim()
}

/** The tables of pgbench, 100,000 accounts. */
export async function fillTables(target: Target): Promise<void> {
  await run(['-i', '-q', '-s', '1', ...connection(target)])
}

/** `pgbench -S`: one SELECT by primary key per transaction. `folder` takes its log for a moment. */
export async function runLoad(target: Target, load: Load, folder: string): Promise<LoadResult> {
  const args = ['-n', '-S', '-M', load.protocol, '-c', String(load.clients), '-T', String(load.seconds)]
  const log = ['-l', `--log-prefix=${join(folder, 'latency')}`, `--sampling-rate=${samplingRate}`]
  const { stdout } = await run([...args, ...log, ...connection(target)], load.tls ? 'require' : 'disable')
  const failed = numberIn(stdout, /number of failed transactions: (\d+)/)
  if (failed !== 0) throw new Failure(`${failed} transactions failed:\n${stdout}`)
  return {
    transactions: numberIn(stdout, /number of transactions actually processed: (\d+)/),
    tps: numberIn(stdout, /tps = ([\d.]+) \(without initial connection time\)/),
    p99Ms: percentile(await latenciesMs(folder), 0.99),
  }
}

/** Each line of the log: client, transaction, microseconds, script, seconds and microseconds of the day. */
async function latenciesMs(folder: string): Promise<number[]> {
  const latencies: number[] = []
  for (const name of readdirSync(folder).filter((name) => name.startsWith('latency.'))) {
    const text = await readFile(join(folder, name), 'utf8')
    for (const line of text.split('\n')) {
      if (line !== '') latencies.push(Number(line.split(' ')[2]) / 1000)
    }
    await rm(join(folder, name))
  }
  return latencies
}

function numberIn(output: string, pattern: RegExp): number {
  const found = pattern.exec(output)?.[1]
  if (found === undefined) throw new Failure(`pgbench says nothing that matches ${pattern}:\n${output}`)
  return Number(found)
}

function connection({ port, database }: Target): string[] {
  return ['-h', '127.0.0.1', '-p', String(port), '-U', benchUser, database]
}

async function run(args: readonly string[], sslmode = 'disable'): Promise<{ stdout: string }> {
  try {
    return await promisify(execFile)('pgbench', args, { env: { ...process.env, PGSSLMODE: sslmode } })
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string } // what execFile's promise rejects with
    if (code === 'ENOENT') throw new Failure('pgbench is not in PATH: install the PostgreSQL client tools')
    throw new Failure(`pgbench: ${stderr ?? String(error)}`)
  }
}
