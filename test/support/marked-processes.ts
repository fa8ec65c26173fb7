/**
 * All processes that a test starts, at any depth, inherit a mark in their environment, by which leftovers are found
 * without their process ids.
 */
import { readdirSync, readFileSync } from 'node:fs'

export const markVariable = 'FLOTILLA_TEST_MARK'

export interface MarkedProcess {
  readonly pid: number
  readonly command: string
}

/** Processes whose mark starts with `mark`, except this one. Empty without /proc. */
export function markedProcesses(mark: string): MarkedProcess[] {
  const wanted = `${markVariable}=${mark}`
  const found: MarkedProcess[] = []
  for (const name of namesIn('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    if (
      !textOf(`/proc/${pid}/environ`)
        .split('\0')
        .some((entry) => entry.startsWith(wanted))
    )
      continue
    found.push({ pid, command: textOf(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim() })
  }
  return found
}

/** Running processes started by this test file, at any depth. */
export function processesOfThisFile(): MarkedProcess[] {
  const mark = process.env[markVariable]
  return mark === undefined ? [] : markedProcesses(mark)
}

/** SIGKILL to each, unless it has exited. */
export function killAll(processes: readonly MarkedProcess[]): void {
  for (const { pid } of processes) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has exited.
    }
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** Empty if the process has exited or belongs to another user. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
