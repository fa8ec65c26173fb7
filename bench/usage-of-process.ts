/** What a process has used so far, from /proc (proc_pid_stat(5), proc_pid_status(5), Documentation/scheduler/sched-stats). */
import { readdir, readFile } from 'node:fs/promises'
import { sum } from './statistics.ts'

export interface CpuTime {
  readonly userUs: number
  readonly systemUs: number
}

export interface ProcessCpu extends CpuTime {
  /** Microseconds of each thread that runs now, by thread id. */
  readonly threads: ReadonlyMap<number, number>
}

/** sysconf(_SC_CLK_TCK): the unit of /proc/PID/stat, the same on every Linux that Node runs on. */
const usPerTick = 10_000

/**
 * CPU time of a process whose threads all still run. The sum is exact to the nanosecond (schedstat); how it divides
 * into user and system is known in ticks of 10 ms.
 */
export async function cpuOf(pid: number): Promise<ProcessCpu> {
  const { userUs, systemUs } = await ticksOf(pid)
  const threads = new Map<number, number>()
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const schedstat = await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')
    threads.set(Number(thread), Number(schedstat.split(' ')[0]) / 1000)
  }
  return { userUs, systemUs, threads }
}

/**
 * Between two readings: user and system scaled so that they add up to the exact sum, and how much of it the `engines`
 * busiest threads have used.
 */
export function cpuBetween(
  before: ProcessCpu,
  after: ProcessCpu,
  engines = 1,
): CpuTime & { readonly busiestThreadsUs: number } {
  const usedUs = [...after.threads].map(([thread, us]) => us - (before.threads.get(thread) ?? 0))
  const totalUs = sum(usedUs)
  const userUs = after.userUs - before.userUs
  const systemUs = after.systemUs - before.systemUs
  const userShare = userUs / Math.max(1, userUs + systemUs)
  const busiest = usedUs.toSorted((a, b) => b - a).slice(0, engines)
  return { userUs: totalUs * userShare, systemUs: totalUs * (1 - userShare), busiestThreadsUs: sum(busiest) }
}

async function ticksOf(pid: number): Promise<CpuTime> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  // The second field, the name, is in parentheses and may hold anything; utime and stime are the 14th and 15th.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { userUs: Number(fields[11]) * usPerTick, systemUs: Number(fields[12]) * usPerTick }
}

/** Resident memory. */
export async function rssBytesOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
}
