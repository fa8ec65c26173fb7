import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { protocols } from '../../bench/options.ts'
import { bytesPerTransaction, warmTraffic } from '../../bench/engine.ts'
import { v8Flags } from '../../proxy/engine/v8.ts'
import { isCovered } from '../support/coverage.ts'

/** A boxed number is 16 bytes, and nothing smaller is allocated. */
const unnoticedBytes = 8

const covered = isCovered()
if (covered) process.stdout.write('skipped: what is allocated says nothing while coverage is measured\n')

test.skipIf(covered).each(protocols)('a transaction of the %s protocol allocates nothing', (protocol) => {
  const traffic = warmTraffic(protocol)

  expect(bytesPerTransaction(traffic)).toBeLessThan(unnoticedBytes)
})

test.each(v8Flags)('V8 knows %s', (flag) => {
  const [name = ''] = flag.split('=')

  expect(execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' })).toContain(`${name} `)
})
