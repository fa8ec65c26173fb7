import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WrongUsage } from '../../cli/failure.ts'
import type { Suite } from './options.ts'
import type { Sources } from './sources.ts'

const files: Readonly<Record<Suite, string>> = {
  regress: 'regress/parallel_schedule',
  isolation: 'isolation/isolation_schedule',
}

/** What every file of the suite may use. */
const beforeAll: Readonly<Record<Suite, readonly string[]>> = {
  regress: ['test_setup', 'create_index'],
  isolation: [],
}

/** Files that use what others leave behind, as comments in PostgreSQL's schedule say. */
const dependsOn: Readonly<Record<string, readonly string[]>> = {
  aggregates: ['create_aggregate'],
  amutils: ['geometry', 'create_index_spgist', 'hash_index', 'brin'],
  geometry: ['point', 'lseg', 'line', 'box', 'path', 'polygon', 'circle'],
  horology: ['date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval'],
  join: ['create_misc'],
  multirangetypes: ['rangetypes'],
  psql: ['create_am'],
  select_parallel: ['create_misc'],
  select_views: ['create_view'],
  with: ['create_misc'],
}

/**
 * PostgreSQL's schedule, or the lines of it with the files `only` and what they depend on.
 * @throws WrongUsage if there is no such file.
 */
export async function scheduleOf(suite: Suite, { tests }: Sources, only: readonly string[]): Promise<string> {
  const schedule = await readFile(join(tests, files[suite]), 'utf8')
  if (only.length === 0) return schedule
  const all = schedule.split('\n').flatMap((line) => /^test:(.*)/.exec(line)?.[1]?.split(' ').filter(Boolean) ?? [])
  const unknown = only.find((file) => !all.includes(file))
  if (unknown !== undefined) throw new WrongUsage(`--only ${unknown}: no such file in the suite ${suite}`)
  const wanted = new Set(beforeAll[suite])
  for (const file of only) add(file, wanted)
  const chosen = all.filter((file) => wanted.has(file))
  return chosen.map((file) => `test: ${file}\n`).join('')
}

function add(file: string, wanted: Set<string>): void {
  wanted.add(file)
  for (const other of dependsOn[file] ?? []) add(other, wanted)
}
