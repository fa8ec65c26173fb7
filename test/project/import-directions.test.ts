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
  ['proxy/main.ts', "import './engine/engine.ts'"],
  ['proxy/port.ts', "import type { A } from './engine/pool/pool.ts'"],
  ['proxy/memory/a.ts', "import '../engine/workers/workers.ts'"],
  ['proxy/agent/restart/a.ts', "import '../agent.ts'"],
  ['proxy/agent/restart/a.ts', "import '../../engine/engine.ts'"],
  ['proxy/console/a.ts', "import '../io/epoll.ts'"],
  ['proxy/console/show/a.ts', "import '../../agent/sync.ts'"],
  ['proxy/engine/a.ts', "import type { A } from '../console/session.ts'"],
  ['proxy/engine/pool/a.ts', "import type { A } from '../engine.ts'"],
  ['proxy/engine/pool/a.ts', "import '../../console/operations.ts'"],
  ['proxy/engine/session/a.ts', "import type { A } from '../pool/client.ts'"],
  ['proxy/engine/wire/a.ts', "import type { A } from '../pool/server.ts'"],
  ['proxy/engine/workers/a.ts', "import type { A } from '../pool/pool.ts'"],
  ['proxy/engine/cancel/a.ts', "import type { A } from '../pool/server.ts'"],
  ['proxy/engine/auth/a.ts', "import type { A } from '../pool/context.ts'"],
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
  ['proxy/engine/main.ts', "import '../console/console.ts'"],
  ['proxy/console/a.ts', "import '../engine/engine.ts'"],
  ['proxy/engine/pool/a.ts', "import '../refusals.ts'"],
  ['proxy/engine/auth/a.ts', "import '../pool/target.ts'"],
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
  const refused = new Set<number>()
  for (const round of rounds(files)) {
    for (const [path, { line }] of round) {
      const file = join(tree, path)
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, `${line}\n`)
    }
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [join(root, 'node_modules/oxlint/bin/oxlint'), '--format', 'unix', ...round.keys()],
      { cwd: tree },
    ).catch((error: { stdout: string }) => error)
    for (const report of stdout.split('\n')) {
      const [path] = report.split(':', 1)
      const linted = path === undefined ? undefined : round.get(path)
      if (linted !== undefined && /no-restricted-imports|no-process-env/.test(report)) refused.add(linted.index)
    }
    for (const path of round.keys()) await rm(join(tree, path))
  }
  return [...refused].sort((a, b) => a - b).map((index) => ({ index }))
}

type Round = Map<string, { readonly line: string; readonly index: number }>

/** All lines that may stand side by side: the name a.ts means any file, other names come one after another. */
function rounds(files: readonly (readonly [string, string])[]): Round[] {
  const result: Round[] = []
  for (const [index, [given, line]] of files.entries()) {
    const path = given.replace(/\/a\.ts$/, `/a${index}.ts`)
    let round = result.find((one) => !one.has(path))
    if (round === undefined) result.push((round = new Map()))
    round.set(path, { line, index })
  }
  return result
}
