/**
 * Programs of PostgreSQL that may be missing on a machine; tests that need a missing one are skipped with a message.
 */
import { execFile, spawnSync } from 'node:child_process'

export function hasProgram(name: string): boolean {
  const found = spawnSync(name, ['--version']).error === undefined
  if (!found) process.stdout.write(`skipped: ${name} is not installed here\n`)
  return found
}

export interface ProgramResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * Runs a program until it exits; `environment` is added to the present one. A failure is a result, not an exception.
 */
export async function runProgram(
  name: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<ProgramResult> {
  return await new Promise((resolve) => {
    execFile(name, [...args], { env: { ...process.env, ...environment } }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr })
    })
  })
}
