import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEndOfFile } from './cleanup.ts'

/** The directory of the run, created and removed by Vitest's global setup; undefined in a benchmark. */
export function runFolder(): string | undefined {
  return process.env['FLOTILLA_TEST_FOLDER']
}

/** A new empty directory, removed at the end of the test file. Use `within` if the parent matters. */
export async function tempFolder(within = runFolder() ?? tmpdir()): Promise<string> {
  const folder = await mkdtemp(join(within, 'folder-'))
  atEndOfFile(() => rm(folder, { recursive: true, force: true }))
  return folder
}
