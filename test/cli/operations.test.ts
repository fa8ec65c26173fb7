import { beforeAll, expect, test } from 'vitest'
import { flotilla } from '../support/command-line.ts'
import { startControl } from '../support/processes.ts'
import type { ControlProcess } from '../support/processes.ts'

let control: ControlProcess

beforeAll(async () => {
  control = await startControl()
  await control.call('PUT', '/v1/fleets/demo')
  await control.apply('demo', {
    pools: { app: { servers: [{ host: '127.0.0.1' }], users: { app: { password: 'app' } } } },
  })
})

async function run(...words: string[]) {
  return await flotilla(words, { environment: { FLOTILLA_URL: control.url, FLOTILLA_TOKEN: control.token }, input: '' })
}

test('what stands is listed with who, when, why and until when, and counted with the fleet', async () => {
  const paused = await run('pause', 'app', '--for', '10m', '--reason', 'a new host')
  const disabled = await run('disable', 'app')
  const listed = await run('operations')
  const fleets = await run('fleet', 'list')
  await run('resume', 'app')
  await run('enable', 'app')
  const none = await run('operations')
  const log = await run('operations', '--log')

  expect([paused.code, disabled.code]).toEqual([0, 0])
  expect(paused.stderr).toMatch(/^ends by itself at 20\d\d-.*Z$/m)
  const time = '20\\d\\d-\\S+ \\S+Z'
  expect(listed.stdout).toMatch(/^POOL +OPERATION +BY +AT +UNTIL +REASON$/m)
  expect(listed.stdout).toMatch(new RegExp(`^app +pause +operator +${time} +${time} +a new host$`, 'm'))
  expect(listed.stdout).toMatch(new RegExp(`^app +disable +operator +${time} +- +-$`, 'm'))
  expect(fleets.stdout).toMatch(/^demo +v1 +0 +2 /m)
  expect(none.stdout.trim().split('\n')).toHaveLength(1)
  expect(log.stdout.split('\n').map((line) => line.split(/ +/)[1])).toEqual(
    expect.arrayContaining(['enable', 'resume', 'disable', 'pause']),
  )
})

test('a pool that does not exist and a time that is none are refused, each in one line', async () => {
  const unknown = await run('pause', 'ap')
  const timeless = await run('pause', 'app', '--for', 'ten')
  const endless = await run('resume', 'app', '--for', '10m')

  expect([unknown.code, timeless.code, endless.code]).toEqual([1, 2, 2])
  expect(unknown.stderr).toContain('no pool "ap" in version 1 of the fleet or at any of its proxies')
  expect(timeless.stderr).toContain('--for must be a duration from 1s to 30d with a unit, such as 10m, not "ten"')
})
