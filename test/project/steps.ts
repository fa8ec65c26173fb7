/**
 * `npm run check` and `npm run nightly`: their steps one after the other, each a script of package.json, also after one
 * that failed. The exit code is 0 only when all have passed. `.ci/run` runs `check`, so there is one list.
 */
import { spawnSync } from 'node:child_process'

const lists: Readonly<Record<string, readonly string[]>> = {
  // The tests come last, so that their totals end the output.
  check: ['types', 'lint', 'format', 'unused', 'test:all'],
  nightly: ['sim:nightly', 'soak:nightly'],
}

const name = process.argv[2] ?? ''
const steps = lists[name]
if (steps === undefined) throw new Error(`no list "${name}": ${Object.keys(lists).join(', ')}`)

const failed = steps.filter((step) => {
  process.stdout.write(`\n== ${step}\n`)
  return spawnSync('npm', ['run', '--silent', step], { stdio: 'inherit' }).status !== 0
})
if (failed.length > 0) process.stdout.write(`failed: ${failed.join(' ')}\n`)
process.exitCode = failed.length > 0 ? 1 : 0
