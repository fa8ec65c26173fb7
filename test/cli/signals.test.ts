import { expect, test } from 'vitest'
import { flotillaWords, Running } from '../support/command-line.ts'
import { tempFolder } from '../support/temp-folder.ts'

/** The words that start `flotilla ARGS` without options of Node. */
function plainWords(...args: string[]): [string, ...string[]] {
  const [node, , ...rest] = flotillaWords(...args)
  return [node, ...rest]
}

test.for([
  ['as its first line says', flotillaWords],
  ['by a plain `node`', plainWords],
] as const)('SIGUSR1 neither ends control nor opens a debugger in it, started %s', async ([, words]) => {
  const args = ['control', '--port', '0', '--data', await tempFolder()]
  const control = new Running(words(...args), { FLOTILLA_TOKEN: 'the-operator-of-the-tests' })
  const [, port] = /port (\d+)/.exec(await control.says(/control listens/)) ?? []

  control.child.kill('SIGUSR1')
  const { status } = await fetch(`http://127.0.0.1:${port}/readyz`)

  expect(status).toBe(200)
  expect(await control.end('SIGTERM')).toBe(0)
  expect(control.lines.join('\n')).not.toContain('Debugger')
})
