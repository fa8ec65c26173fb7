import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEndOfFile } from './cleanup.ts'

/** The folder of the whole run, which Vitest's start makes and its end removes; undefined in a benchmark. */
export function runFolder(): string | undefined {
  return process.env['FLOTILLA_TEST_FOLDER']
}

/** A new empty folder, removed at the end of the test file. Give `within` when the parent matters. */
export async function tempFolder(within = runFolder() ?? tmpdir()): Promise<string> {
  const folder = await mkdtemp(join(within, 'folder-'))
  atEndOfFile(() => rm(folder, { recursive: true, force: true }))
  return folder
}
