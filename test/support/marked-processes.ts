/**
 * Every process that a test starts, at whatever depth, inherits a mark in its environment. By the mark, what was left
 * behind is found even when nobody kept its process id.
 */
import { readdirSync, readFileSync } from 'node:fs'

export const markVariable = 'FLOTILLA_TEST_MARK'

export interface MarkedProcess {
  readonly pid: number
  readonly command: string
}

/** Processes whose mark starts with `mark`, without the present one. Empty where there is no /proc. */
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

/** What this test file has started and what still runs, at whatever depth. */
export function processesOfThisFile(): MarkedProcess[] {
  const mark = process.env[markVariable]
  return mark === undefined ? [] : markedProcesses(mark)
}

/** SIGKILL to each; one that has ended meanwhile is no trouble. */
export function killAll(processes: readonly MarkedProcess[]): void {
  for (const { pid } of processes) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended by itself.
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

/** Empty when the process has ended or belongs to somebody else. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
