import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { atEndOfFile } from '../support/cleanup.ts'

const root = join(import.meta.dirname, '../..')

/** One wrong import each: [where it stands, what it imports]. */
const wrong = [
  ['shared/a.ts', "import '../control/node.ts'"],
  ['shared/config/a.ts', "import '../../proxy/main.ts'"],
  ['shared/a.ts', "import 'hono'"],
  ['control/a.ts', "import '../proxy/main.ts'"],
  ['control/routes/a.ts', "import type { A } from '../../proxy/port.ts'"],
  ['control/domain/a.ts', "import 'drizzle-orm/sqlite-core'"],
  ['control/node.ts', "import 'better-sqlite3'"],
  ['control/store/a.ts', "import '../../cli/main.ts'"],
  ['proxy/main.ts', "import '../control/node.ts'"],
  ['proxy/agent/a.ts', "import '../engine/pool/pool.ts'"],
  ['proxy/agent/a.ts', "import '../console/operations.ts'"],
  ['proxy/agent/a.ts', "import 'hono'"],
  ['proxy/engine/a.ts', "import '../io/epoll.ts'"],
  ['proxy/engine/a.ts', "import '../io/libc.ts'"],
  ['proxy/engine/auth/a.ts', "import '../../io/epoll.ts'"],
  ['proxy/engine/a.ts', "import '../agent/sync.ts'"],
  ['proxy/engine/a.ts', "import { z } from 'zod'"],
  ['proxy/engine/a.ts', "import 'hono/tiny'"],
  ['proxy/engine/a.ts', "import 'drizzle-orm'"],
  ['proxy/engine/a.ts', "import { hintSchema } from '../../shared/wire.ts'"],
  ['proxy/engine/a.ts', "await import('../io/epoll.ts')"],
  ['proxy/engine/main.ts', "import '../agent/sync.ts'"],
  ['proxy/console/a.ts', "import '../io/epoll.ts'"],
  ['proxy/protocol/a.ts', "import '../io/io.ts'"],
  ['proxy/protocol/a.ts', "import '../../shared/wire.ts'"],
  ['proxy/protocol/a.ts', "import 'node:net'"],
  ['proxy/io/a.ts', "import '../engine/pool.ts'"],
  ['cli/a.ts', "import '../control/node.ts'"],
  ['cli/commands/plan.ts', "import '../../proxy/main.ts'"],
  ['cli/commands/control.ts', "import '../../control/app.ts'"],
  ['cli/a.ts', 'export const token = process.env'],
  ['proxy/engine/a.ts', 'export const token = process.env.TOKEN'],
] as const

/** What stands beside the refused ones and is allowed. */
const right = [
  ['control/store/a.ts', "import 'drizzle-orm'"],
  ['control/a.ts', "import 'hono'"],
  ['proxy/agent/a.ts', "import type { A } from '../port.ts'"],
  ['proxy/engine/a.ts', "import '../io/io.ts'"],
  ['proxy/engine/a.ts', "import type { Position } from '../../shared/wire.ts'"],
  ['proxy/engine/main.ts', "import '../io/epoll.ts'"],
  ['proxy/protocol/a.ts', "import './read.ts'"],
  ['proxy/protocol/a.ts', "import '../../shared/errors.ts'"],
  ['proxy/io/a.ts', "import 'koffi'"],
  ['cli/commands/control.ts', "import '../../control/node.ts'"],
  ['cli/commands/proxy.ts', "import '../../proxy/main.ts'"],
  ['cli/main.ts', 'export const token = process.env'],
] as const

test('the linter reports every import against the directions, and nothing else', async () => {
  const found = await lint([...wrong, ...right])

  const refused = found.map(({ index }) => index)
  expect(refused).toEqual(wrong.map((_, index) => index))
})

/** Lints each line as a file of its own in a copy of the tree's layout; gives the lines that were refused. */
async function lint(files: readonly (readonly [string, string])[]): Promise<{ index: number }[]> {
  const tree = await mkdtemp(join(root, 'test/project/linted-'))
  atEndOfFile(() => rm(tree, { recursive: true, force: true }))
  await writeFile(join(tree, 'oxlint.config.ts'), "export { default } from '../../../oxlint.config.ts'\n")
  const refused: { index: number }[] = []
  for (const [index, [path, line]] of files.entries()) {
    const file = join(tree, path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, `${line}\n`)
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [join(root, 'node_modules/oxlint/bin/oxlint'), '--format', 'unix', path],
      { cwd: tree },
    ).catch((error: { stdout: string }) => error)
    await rm(file)
    if (/no-restricted-imports|no-process-env/.test(stdout)) refused.push({ index })
  }
  return refused
}
