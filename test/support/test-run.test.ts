import { spawn } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { markedProcesses } from './marked-processes.ts'

const vitest = join(import.meta.dirname, '../../node_modules/vitest/vitest.mjs')

test('a run that leaves a process behind ends red, names it and ends it', async () => {
  const { code, output } = await runFixture('leaves-a-child')

  expect(code).toBe(1)
  expect(output).toMatch(/left behind by this file:\n\s+\d+ sleep 300/)
  expect(output).toContain('1 passed, 1 failed, 0 skipped')
  expect(sleepers()).toEqual([])
})

test('a cluster is stopped though its test failed', async () => {
  const { code, output } = await runFixture('fails-with-a-child')

  expect(code).toBe(1)
  expect(output).toContain('0 passed, 1 failed, 0 skipped')
  expect(output).not.toContain('left behind')
})

test('what a killed Vitest leaves is ended by the reaper', async () => {
  await runFixture('is-killed-with-a-child')

  // The reaper inherits stderr and has closed it when the fixture's output has ended.
  expect(sleepers()).toEqual([])
})

async function runFixture(name: string): Promise<{ code: number | null; output: string }> {
  const child = spawn(
    process.execPath,
    [vitest, 'run', '--no-color', '--config', 'test/support/fixtures/vitest.config.ts', name],
    { cwd: join(import.meta.dirname, '../..'), stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const [output, errors, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  return { code, output: output + errors }
}

/** The fixtures' own children, wherever they are now. */
function sleepers(): string[] {
  return markedProcesses('')
    .filter(({ command }) => command === 'sleep 300')
    .map(({ pid }) => `${pid} in ${readlinkSync(`/proc/${pid}/cwd`)}`)
}
