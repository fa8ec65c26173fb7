/** Control when its disk is full, and when another process would use its directory. */
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { document } from '../../control/in-process.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { startControl } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'

test('a second control on one directory does not start, and the first goes on', async () => {
  const first = await startControl()

  await expect(startControl({ folder: first.folder })).rejects.toThrow(
    `another control is running on ${first.folder}: stop it, or choose another directory with --data`,
  )
  expect((await first.call('PUT', '/v1/fleets/demo')).status).toBe(201)
})

test('a control that was killed leaves no lock', async () => {
  const control = await startControl()
  await control.stop('SIGKILL')

  await control.start()

  expect((await control.call('PUT', '/v1/fleets/demo')).status).toBe(201)
})

const disk = await tempFolder()
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk], { encoding: 'utf8' })
if (mounted.status === 0) atEndOfFile(() => void spawnSync('umount', ['-l', disk]))
else console.log(`the test of a full disk is skipped: mount failed: ${mounted.stderr.trim()}`)

test.skipIf(mounted.status !== 0)(
  'on a full disk writes are refused with 507, reads go on, and freed space is used',
  async () => {
    const control = await startControl({ folder: join(disk, 'data') })
    await control.call('PUT', '/v1/fleets/demo')
    const apply = async (version: number) =>
      await control.call('PUT', '/v1/fleets/demo/config', document({ pool_size: version + 1 }), {
        'if-match': `"v${version}"`,
      })
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(300_000))
    let version = 0
    let refused = await apply(version)
    while (refused.status === 201) refused = await apply(++version)

    const ready = await fetch(`${control.url}/readyz`)
    const fleet = await control.call('GET', '/v1/fleets/demo')
    rmSync(join(disk, 'ballast'))
    const after = await apply(version)
    const metrics = await (await fetch(`${control.url}/metrics`)).text()

    expect(refused).toMatchObject({ status: 507, body: { type: 'urn:flotilla:problem:insufficient-storage' } })
    expect([ready.status, fleet.status]).toEqual([200, 200])
    expect(fleet.body).toMatchObject({ version })
    expect(after.status).toBe(201)
    expect(metrics).toContain('flotilla_control_store_failures_total{reason="full"} 1')
  },
)
