import { setTimeout as after } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { peerAddress, Peers } from '../../../proxy/agent/peers.ts'
import { StateFolder } from '../../../proxy/agent/state.ts'
import type { PeersUpdate } from '../../../proxy/spec.ts'
import type { Peer } from '../../../shared/wire.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { until } from '../../support/engine.ts'

const own: Peer = { proxy: 'me', number: 2, address: { host: '10.0.0.2', port: 6432 } }
const other: Peer = { proxy: 'you', number: 1, address: { host: '10.0.0.1', port: 6432 } }
const spec = (number: number): object => ({ number, address: `10.0.0.${number}`, port: 6432 })

async function newPeers(known: readonly Peer[] | Error, path?: string, peersAgainMs = 30) {
  const folder = await StateFolder.open(path ?? (await tempFolder()), () => undefined)
  atEndOfFile(async () => await folder.close().catch(() => undefined))
  const told: (PeersUpdate | null)[] = []
  const control = {
    answer: known,
    asked: 0,
    askedAtMs: 0,
    peers: async (): Promise<readonly Peer[]> => {
      control.asked++
      control.askedAtMs = performance.now()
      if (control.answer instanceof Error) throw control.answer
      return await Promise.resolve(control.answer)
    },
  }
  const peers = new Peers({
    control,
    fleet: 'demo',
    boot: 'b1',
    proxyId: 'me',
    folder,
    lookup: async (host) => {
      if (host === 'gone') throw new Error('no such name')
      return await Promise.resolve([host === 'metadata.test' ? '169.254.169.254' : '10.9.9.9'])
    },
    waits: { peersMs: 600_000, peersAgainMs },
    log: () => undefined,
    onPeers: (update) => told.push(update),
  })
  atEndOfFile(() => peers.stop())
  return { peers, control, told, folder }
}

test('85: after an introduction the engine is told its number and where the others are', async () => {
  const named: Peer = { proxy: 'named', number: 3, address: { host: 'proxy.internal', port: 1 } }
  const lost: Peer = { proxy: 'lost', number: 4, address: { host: 'gone', port: 1 } }
  const hidden: Peer = { proxy: 'hidden', number: 5, address: null }
  const { peers, told } = await newPeers([other, own, named, lost, hidden])

  peers.greeted()
  await until(() => told.length === 1)

  expect(told).toEqual([{ number: 2, peers: [spec(1), spec(2), { number: 3, address: '10.9.9.9', port: 1 }] }])
})

test('a peer at a link-local address, or whose name resolves to one, is not passed on to', async () => {
  const at = (number: number, host: string): Peer => ({ proxy: `p${number}`, number, address: { host, port: 6432 } })
  const { peers, told } = await newPeers([
    other,
    at(2, '169.254.169.254'),
    at(3, 'fe80::1%eth0'),
    at(4, 'metadata.test'),
  ])

  peers.greeted()
  await until(() => told.length === 1)

  expect(told[0]?.peers).toEqual([spec(1)])
})

test('85: what was known last is known at the next start, without control', async () => {
  const path = await tempFolder()
  const first = await newPeers([other, own], path)
  first.peers.greeted()
  await until(() => first.told.length === 1)
  await until(async () => (await first.folder.readPeers('demo')) !== undefined)
  await first.folder.close()

  const second = await newPeers(new Error('control is away'), path)
  await second.peers.start()
  await until(() => second.told.length === 1)
  second.peers.wanted()
  await until(() => second.told.length === 2)

  expect(second.told).toEqual([{ number: 2, peers: [spec(1), spec(2)] }, null])
  expect(await second.folder.readPeers('another fleet')).toBeUndefined()
})

test('85: an engine that wants to know is always answered, and control is not asked more often than allowed', async () => {
  const { peers, control, told } = await newPeers([own], undefined, 100)

  for (let round = 0; round < 5; round++) {
    for (let again = 0; again < 100; again++) peers.wanted()
    await until(() => told.length > round)
  }
  const { askedAtMs } = control
  peers.wanted()
  await until(() => told.length > 5)

  expect(control.asked).toBe(6)
  expect(control.askedAtMs - askedAtMs).toBeGreaterThan(90)
})

test('85: an engine that wants to know while an answer is being written to disk is answered too', async () => {
  const { peers, told, folder } = await newPeers([own])
  const written = Promise.withResolvers<void>()
  folder.savePeers = async () => await written.promise
  peers.wanted()
  await until(() => told.length === 1)

  peers.wanted()
  written.resolve()
  await until(() => told.length === 2)

  expect(told[1]).toEqual(told[0])
})

test('85: nothing is requested after the end', async () => {
  const { peers, control, told } = await newPeers([own], undefined, 200)
  peers.wanted()
  await until(() => told.length === 1)

  peers.wanted()
  peers.stop()
  await after(300)

  expect(control.asked).toBe(1)
})

test.for([
  ['where it listens', '10.0.0.7', null, null, '10.0.0.7'],
  ['where it is said to be', '10.0.0.7', 'proxy-7.internal', 'http://10.0.0.8:9930', 'proxy-7.internal'],
  ['where hints reach it, when it listens everywhere', '0.0.0.0', null, 'http://10.0.0.8:9930', '10.0.0.8'],
  ['the same by IPv6', '::', null, 'http://[fdaa::8]:9930', 'fdaa::8'],
] as const)('85: others reach a proxy %s', ([, host, peerHost, hintUrl, expected]) => {
  expect(peerAddress({ host, port: 6432 }, peerHost, hintUrl)).toEqual({ host: expected, port: 6432 })
})

test('85: a proxy that listens everywhere and says nothing else is reached by no peer', () => {
  expect(peerAddress({ host: '0.0.0.0', port: 6432 }, null, null)).toBeNull()
})
