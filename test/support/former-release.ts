/** The sources of release 0.1.0, taken from the history of this repository, for tests with both releases at once. */
import { execFile, spawnSync } from 'node:child_process'
import { symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { tempFolder } from './temp-folder.ts'

const root = join(import.meta.dirname, '../..')
const commit = '8b5609d9daacf93fb9d9b40139dd73e03dd18eb8'

/** Whether the clone has that commit; says so if it does not. */
export const hasFormerRelease = isInHistory()

function isInHistory(): boolean {
  const found = spawnSync('git', ['cat-file', '-e', `${commit}^{commit}`], { cwd: root }).status === 0
  if (!found) {
    process.stdout.write(
      `skipped: the history of this clone does not reach release 0.1.0 (${commit}); try git fetch --unshallow\n`,
    )
  }
  return found
}

/** Makes a directory of its sources. They run with the packages of this release: package-lock.json is the same. */
export async function formerRelease(): Promise<string> {
  const folder = await tempFolder()
  const paths = ['cli', 'control', 'migrations', 'proxy', 'shared', 'package.json']
  const archive = join(folder, 'sources.tar')
  await promisify(execFile)('git', ['archive', '--output', archive, commit, ...paths], { cwd: root })
  await promisify(execFile)('tar', ['--extract', '--file', archive, '--directory', folder])
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
  return folder
}
