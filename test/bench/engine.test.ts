import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { protocols } from '../../bench/options.ts'
import { v8Flags } from '../../proxy/engine/v8.ts'
import { isCovered } from '../support/coverage.ts'

const fixture = new URL('bytes-of-protocol.fixture.ts', import.meta.url).pathname

/** A boxed number is 16 bytes, and nothing smaller is allocated. */
const unnoticedBytes = 8

const covered = isCovered()
if (covered) process.stdout.write('skipped: what is allocated says nothing while coverage is measured\n')

/**
 * A process of its own for each: after another protocol V8 inlines less here and there, and then boxes a time or two (16
 * bytes each). An object of ours would be seen in any process.
 */
test.skipIf(covered).each(protocols)('a transaction of the %s protocol allocates nothing', (protocol) => {
  const bytes = execFileSync(process.execPath, [fixture, protocol], { encoding: 'utf8' })

  expect(Number(bytes)).toBeLessThan(unnoticedBytes)
})

test.each(v8Flags)('V8 knows %s', (flag) => {
  const [name = ''] = flag.split('=')

  expect(execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' })).toContain(`${name} `)
})
