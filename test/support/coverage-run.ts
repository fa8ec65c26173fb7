/**
 * `npm run coverage`: runs the tests with V8's coverage enabled in all processes (test workers, control, proxies and
 * their engine threads; Node passes NODE_V8_COVERAGE to children) and prints one report. Arguments go to Vitest. Exit
 * code: the tests', otherwise the report's.
 */
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../..')
const raw = join(root, 'coverage/raw')
const sources = ['cli', 'control', 'proxy', 'shared']

rmSync(join(root, 'coverage'), { recursive: true, force: true })
const tests = run('vitest/vitest.mjs', ['run', '--project=!postgres-14', ...process.argv.slice(2)], {
  NODE_V8_COVERAGE: raw,
})
const report = run(
  'c8/bin/c8.js',
  ['report', '--temp-directory', raw, '--reports-dir', join(root, 'coverage'), '--merge-async', '--all']
    .concat(['--reporter', 'text', '--reporter', 'html', '--reporter', 'lcovonly'])
    .concat(sources.flatMap((folder) => ['--include', `${folder}/**/*.ts`])),
  {},
)
rmSync(raw, { recursive: true, force: true })
process.exitCode = tests || report

function run(script: string, args: readonly string[], variables: Readonly<Record<string, string>>): number {
  const { status } = spawnSync(process.execPath, [join(root, 'node_modules', script), ...args], {
    cwd: root,
    env: { ...process.env, ...variables },
    stdio: 'inherit',
  })
  return status ?? 1
}
