import { expect, test } from 'vitest'
import { proxyNumberMax } from '../../shared/wire.ts'
import type { Peer } from '../../shared/wire.ts'
import { document, inProcessControl, report } from './in-process.ts'
import type { InProcessControl } from './in-process.ts'

async function newFleet(): Promise<{ control: InProcessControl; token: string }> {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  return { control, token }
}

async function sayHello(control: InProcessControl, token: string, id: string, over: object = {}): Promise<number> {
  const body = { boot: `boot of ${id}`, agent_version: '0.1.0', listen: '', ...over }
  return (await control.call('POST', `/v1/fleets/demo/proxies/${id}/hello`, { token, body })).status
}

async function peersOf(control: InProcessControl, token: string): Promise<readonly Peer[]> {
  return (await control.call<{ peers: Peer[] }>('GET', '/v1/fleets/demo/peers', { token })).body.peers
}

async function numbers(control: InProcessControl, token: string): Promise<Record<string, number>> {
  return Object.fromEntries((await peersOf(control, token)).map(({ proxy, number }) => [proxy, number]))
}

test('85: each proxy of a fleet has a number of its own, from its first hello on', async () => {
  const { control, token } = await newFleet()

  for (const id of ['b', 'a', 'c']) await sayHello(control, token, id)
  const first = await numbers(control, token)
  await sayHello(control, token, 'a', { boot: 'another', takes_over_from: 'boot of a' })

  expect(first).toEqual({ b: 1, a: 2, c: 3 })
  expect(await numbers(control, token)).toEqual(first)
})

test('85: proxies that say hello at once have different numbers', async () => {
  const { control, token } = await newFleet()

  const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => sayHello(control, token, `p${index}`)))

  expect(new Set(answers)).toEqual(new Set([200]))
  expect(Object.values(await numbers(control, token))).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
})

test('85: the lowest number that is free is given to the next proxy, and none when all are taken', async () => {
  const { control, token } = await newFleet()
  for (let index = 1; index <= proxyNumberMax; index++) await sayHello(control, token, `p${index}`)

  const full = await sayHello(control, token, 'late')
  const whileFull = await numbers(control, token)
  control.clock.nowMs += 8 * 24 * 3_600_000 // the others are forgotten
  await sayHello(control, token, 'late')

  expect(full).toBe(200)
  expect(whileFull['late']).toBeUndefined()
  expect(await numbers(control, token)).toEqual({ late: 1 })
})

test('85: a proxy says where others reach it, and when they no longer do', async () => {
  const { control, token } = await newFleet()
  await sayHello(control, token, 'a', { peer: { host: 'fdaa::7', port: 6432 } })
  await sayHello(control, token, 'b')

  const before = await peersOf(control, token)
  await sayHello(control, token, 'a')
  const after = await peersOf(control, token)

  expect(before).toEqual([
    { proxy: 'a', boot: 'boot of a', number: 1, address: { host: 'fdaa::7', port: 6432 } },
    { proxy: 'b', boot: 'boot of b', number: 2, address: null },
  ])
  expect(after[0]).toEqual({ proxy: 'a', boot: 'boot of a', number: 1, address: null })
})

test('85: a proxy that reported without a hello has no number before it says hello', async () => {
  const { control, token } = await newFleet()
  const body = report(1, { boot: 'b' })
  await control.call('POST', '/v1/fleets/demo/proxies/a/reports', { token, body })

  const before = await numbers(control, token)
  await sayHello(control, token, 'a', { boot: 'b' })

  expect(before).toEqual({})
  expect(await numbers(control, token)).toEqual({ a: 1 })
})

test.for([
  { host: '', port: 1 },
  { host: 'a', port: 0 },
  { host: 'a', port: 65536 },
  { host: 'a'.repeat(256), port: 1 },
])('85: an address that no proxy can have is refused: %o', async (peer) => {
  const { control, token } = await newFleet()

  expect(await sayHello(control, token, 'a', { peer })).toBe(422)
})
