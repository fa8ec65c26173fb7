import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { measured, withProcesses } from '../../vitest.config.ts'
import { tempFolder } from '../support/temp-folder.ts'

const root = join(import.meta.dirname, '../..')

test('every test file is in one group, and in no other but postgres-14', async () => {
  const listed = join(await tempFolder(), 'files.json')
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')

  await promisify(execFile)(process.execPath, [vitest, 'list', '--filesOnly', `--json=${listed}`], { cwd: root })

  const pairs = JSON.parse(await readFile(listed, 'utf8')) as { file: string; projectName: string }[]
  const grouped = pairs.filter(({ projectName }) => projectName !== 'postgres-14').map(({ file }) => file)
  const files: string[] = []
  for await (const path of glob('test/**/*.test.ts', { cwd: root })) files.push(join(root, path))
  expect(grouped.toSorted()).toEqual(files.toSorted())
})

test('the files that a group names are there', () => {
  expect([...measured, ...withProcesses].filter((path) => !existsSync(join(root, path)))).toEqual([])
})
