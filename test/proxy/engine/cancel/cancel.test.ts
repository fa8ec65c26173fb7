import { expect, test } from 'vitest'
import { Cancels, passedOn, pidOf, proxyOf, secretBytesOf, workerOf } from '../../../../proxy/engine/cancel/cancel.ts'
import type { Cancelable, CancelTarget } from '../../../../proxy/engine/cancel/cancel.ts'
import type { CancelKey } from '../../../../proxy/engine/cancel/cancel-request.ts'
import { Peers } from '../../../../proxy/engine/cancel/peers.ts'
import type { FromEngine } from '../../../../proxy/port.ts'
import { TlsContexts } from '../../../../proxy/engine/wire/tls.ts'
import { EpollIo } from '../../../../proxy/io/epoll.ts'
import type { Address, Io } from '../../../../proxy/io/io.ts'
import { proxyNumberMax } from '../../../../shared/wire.ts'
import { atEndOfFile } from '../../../support/cleanup.ts'
import { tempFolder } from '../../../support/temp-folder.ts'

const io = new EpollIo({ openFds: null, ioUring: true, onExhausted: () => undefined })
atEndOfFile(() => io.dispose())

const tcpOptions = { keepaliveIdleMs: 5000, keepaliveIntervalMs: 5000, keepaliveCount: 5, userTimeoutMs: 0 }

function newCancels(
  proxy = 0,
  predecessors: readonly Address[] = [],
  waitTimeoutMs = 50,
  world: Io = io,
): { cancels: Cancels; peers: Peers; said: FromEngine[] } {
  const said: FromEngine[] = []
  const peers = new Peers({
    io: world,
    post: (message) => said.push(message),
    tls: new TlsContexts(world),
    waitTimeoutMs: () => waitTimeoutMs,
    tcpOptions: () => tcpOptions,
    predecessors,
  })
  const cancels = new Cancels(world, () => waitTimeoutMs, peers, 0)
  cancels.useNumber(proxy)
  return { cancels, peers, said }
}

/** The sockets of `io`, and a clock that stands until the test moves it. */
function newStoppedClock(): { world: Io; pass: (ms: number) => void } {
  let nowMs = 0
  const timers = new Set<{ readonly atMs: number; readonly run: () => void }>()
  const world: Io = {
    nowMs: () => nowMs,
    wallMs: () => io.wallMs(),
    listen: (address, onAccept, mode) => io.listen(address, onAccept, mode),
    connect: (address, options, events) => io.connect(address, options, events),
    tlsContext: (options) => io.tlsContext(options),
    random: (bytes) => io.random(bytes),
    after(delayMs, run) {
      const timer = { atMs: nowMs + delayMs, run }
      timers.add(timer)
      return { cancel: () => void timers.delete(timer) }
    },
  }
  const pass = (ms: number): void => {
    nowMs += ms
    for (const timer of timers) if (timer.atMs <= nowMs && timers.delete(timer)) timer.run()
  }
  return { world, pass }
}

/** A client with a key; counts how often it was canceled. */
function newClient(cancels: Cancels, secretBytes = 4): Cancelable & { key: CancelKey; canceled: number } {
  const client = {
    cancelKey: null as CancelKey | null,
    canceled: 0,
    cancel(done: () => void) {
      client.canceled++
      done()
    },
    get key() {
      return client.cancelKey as CancelKey
    },
  }
  client.cancelKey = cancels.add(client, secretBytes)
  return client
}

const ignore = (): void => undefined

test.for([
  [0, 0, 1],
  [1, 0, 0],
  [0, 31, 131071],
  [1, 31, 131071],
  [proxyNumberMax, 0, 0],
  [proxyNumberMax, 31, 131071],
] as const)('a process id tells proxy and worker: %i, worker %i, client %i', ([proxy, worker, client]) => {
  const pid = pidOf(proxy, worker, client)

  expect([proxyOf(pid), workerOf(pid)]).toEqual([proxy, worker])
  expect(pid | 0).toBe(pid)
})

test.for([0, 1, proxyNumberMax])('process ids of proxy %i are positive, and none is one of Linux', (proxy) => {
  const pids = [pidOf(proxy, 0, 0), pidOf(proxy, 31, 131071)]

  // pid_max is 2^22 at most, and a process id is lower than that.
  expect(Math.min(...pids)).toBeGreaterThanOrEqual(2 ** 22)
  expect(Math.max(...pids)).toBeLessThan(2 ** 31)
})

test('a secret has 4 bytes up to protocol 3.1 and 32 from 3.2 on', () => {
  expect([0, 1, 2, 3].map(secretBytesOf)).toEqual([4, 4, 32, 32])
})

test('clients keep the keys of a number that the proxy no longer has', () => {
  const { cancels } = newCancels(7)
  const client = newClient(cancels)

  cancels.useNumber(8)
  cancels.take(client.key, false, ignore)

  expect(proxyOf(client.key.pid)).toBe(7)
  expect(client.canceled).toBe(1)
})

test('when all numbers of clients are taken, a client gets no key, and one when another has left', () => {
  const { cancels } = newCancels(1)
  const clients = Array.from({ length: 131_072 }, () => newClient(cancels))

  const none = cancels.add(newClient(cancels), 4)
  cancels.remove((clients[5] as Cancelable).cancelKey?.pid ?? 0)
  const one = cancels.add(newClient(newCancels().cancels), 4)

  expect(new Set(clients.map(({ key }) => key.pid)).size).toBe(131_072)
  expect(none).toBeNull()
  expect(one?.pid).toBe(clients[5]?.key.pid)
})

test('83: a key hits its client alone, in any length and with the mark of a request that was passed on', () => {
  const { cancels } = newCancels(3)
  for (const bytes of [4, 32]) {
    const [client, other] = [newClient(cancels, bytes), newClient(cancels, bytes)]

    const { pid, secret } = client.key
    const wrong: CancelKey[] = [
      { pid, secret: other.key.secret },
      { pid: other.key.pid, secret },
      { pid, secret: secret.slice(0, -1) },
      { pid, secret: Buffer.concat([secret, Buffer.from([0])]) },
      { pid, secret: Buffer.concat([secret, Buffer.from([1, 1])]) },
      { pid, secret: Buffer.concat([secret, Buffer.alloc(256 - bytes)]) },
      { pid, secret: new Uint8Array(0) },
    ]
    for (const key of wrong) cancels.take(key, false, ignore)
    expect([client.canceled, other.canceled]).toEqual([0, 0])

    cancels.take(client.key, false, ignore)
    cancels.take(passedOn(client.key), false, ignore)
    expect([client.canceled, other.canceled]).toEqual([2, 0])
  }
})

// Medians of many rounds in turn: a machine that is busy is busy for all of them.
test('83: a wrong secret, one of another length and a process id that no client has take the same time', () => {
  const { cancels } = newCancels(3)
  const { pid, secret } = newClient(cancels, 32).key
  const lookUps = {
    nearlyRight: () => cancels.find(pid, Buffer.concat([secret.slice(0, 31), Buffer.from([(secret[31] ?? 0) ^ 1])])),
    wrong: () => cancels.find(pid, Buffer.concat([Buffer.from(secret.map((byte) => byte ^ 255))])),
    short: () => cancels.find(pid, Buffer.concat([secret.slice(0, 4)])),
    missing: () => cancels.find(pid ^ 1, Buffer.concat([secret])),
  }
  let found = 0
  const taken = Object.values(lookUps).map((run) => ({ run, ms: [] as number[] }))

  for (let round = 0; round < 200; round++) {
    for (const { run, ms } of taken) {
      const begun = performance.now()
      for (let again = 0; again < 100; again++) if (run() !== null) found++
      ms.push(performance.now() - begun)
    }
  }

  const medians = taken.map(({ ms }) => ms.toSorted((a, b) => a - b)[100] as number)
  expect(found).toBe(0)
  expect(Math.max(...medians) / Math.min(...medians)).toBeLessThan(2)
})

test('85: an unknown number is requested from control once, and its requests end when no proxy has it', () => {
  const { cancels, peers, said } = newCancels(1)
  const secret = Buffer.alloc(4)
  let ended = 0

  for (let client = 0; client < 150; client++) cancels.take({ pid: pidOf(2, 0, client), secret }, false, () => ended++)
  const endedAtOnce = ended
  peers.update({ number: 1, peers: [] })

  expect(said).toEqual([{ type: 'peers' }])
  expect(endedAtOnce).toBe(50)
  expect(ended).toBe(150)
})

test('85: they also end without an answer of control', () => {
  const { cancels } = newCancels(1)
  const ended: true[] = []

  cancels.take({ pid: pidOf(2, 0, 1), secret: Buffer.alloc(4) }, false, () => ended.push(true))
  while (ended.length === 0) io.turn(1000)

  expect(ended).toEqual([true])
})

test.for([
  ['of this proxy', pidOf(1, 0, 5), 4],
  ['of no proxy', pidOf(0, 0, 5), 4],
  ['of another proxy, passed on before', pidOf(2, 0, 5), 5],
  ['of another proxy, long, passed on before', pidOf(2, 0, 5), 33],
] as const)('85: a request for a client that is not there is passed on to no proxy: %s', ([, pid, secretBytes]) => {
  const { cancels, said } = newCancels(1)
  let ended = false

  cancels.take({ pid, secret: Buffer.alloc(secretBytes, 1) }, false, () => (ended = true))

  expect(ended).toBe(true)
  expect(said).toEqual([])
})

test('a request for a client that stayed behind goes back with a mark, and with that mark no further', async () => {
  const dir = await tempFolder()
  const former = newCancels(3)
  const left = newClient(former.cancels)
  const cancelSocket = { host: dir, port: 1 }
  const seen: Buffer[] = []
  const listener = io.listen(cancelSocket, (socket) => ({
    onConnect: ignore,
    onData(bytes, start, end) {
      seen.push(Buffer.from(bytes.subarray(start, end)))
      socket.close()
      return end
    },
    onDrain: ignore,
    onClose: ignore,
  }))
  const { cancels } = newCancels(3, [cancelSocket, { host: dir, port: 2 }], 60_000)
  let done = 0
  const count = (): void => void done++

  const { pid, secret } = left.key
  cancels.take(left.key, false, count)
  cancels.take(passedOn(left.key), false, count)
  cancels.take({ pid, secret: Buffer.concat([secret, Buffer.from([2])]) }, false, count)
  const doneAtOnce = done
  const allDone = (): boolean => done === 3
  while (!allDone()) io.turn(10)
  listener.close()
  const [request] = seen
  const marked = { pid: request?.readInt32BE(8) ?? 0, secret: request?.subarray(12) ?? Buffer.alloc(0) }
  former.cancels.take(marked, false, ignore)

  expect(doneAtOnce).toBe(1)
  expect([done, seen.length]).toEqual([3, 2])
  expect(left.canceled).toBe(1)
})

/** Enough turns for everything that has been sent or connected so far to be seen. */
function turnUntilIdle(): void {
  for (let turn = 0; turn < 20; turn++) io.turn(0)
}

/** Listens in `dir` as PostgreSQL would; gives the most connections that were open at a time. */
function newPostgres(dir: string, port: number, answers: boolean): { most: () => number; close: () => void } {
  let [open, most] = [0, 0]
  const listener = io.listen({ host: dir, port }, (socket) => {
    most = Math.max(most, ++open)
    return {
      onConnect: ignore,
      onData(_bytes, _start, end) {
        if (answers) {
          socket.close()
          open--
        }
        return end
      },
      onDrain: ignore,
      onClose: () => void open--,
    }
  })
  return { most: () => most, close: () => listener.close() }
}

/** A server connection as far as a cancel request looks at it. */
function serverAt(dir: string, port: number): CancelTarget {
  const settings = { serverTlsSslmode: 'disable', serverTlsNegotiation: 'postgres' } as const
  const serverSet = { tls: null, tcpOptions, settings }
  const target = { address: dir, host: { host: dir, port } }
  const backendKey = { pid: 1, secret: Buffer.alloc(4) }
  return { backendKey, target, serverSet, socket: { tls: null }, cancelBegan: ignore, cancelEnded: ignore }
}

test('87: requests to a server that is silent hold up none to another one, and end by themselves', async () => {
  const dir = await tempFolder()
  const [silent, other] = [newPostgres(dir, 1, false), newPostgres(dir, 2, true)]
  const { world, pass } = newStoppedClock()
  const { cancels } = newCancels(0, [], 300, world)
  const ended: string[] = []

  for (let i = 0; i < 150; i++) cancels.send(serverAt(dir, 1), () => ended.push('silent'))
  for (let i = 0; i < 5; i++) cancels.send(serverAt(dir, 2), () => ended.push('other'))
  const isServed = (): boolean => ended.length >= 5 && silent.most() >= 100
  while (!isServed()) io.turn(10)
  turnUntilIdle()
  const [beforeTimeout, atOnce] = [[...ended], silent.most()]
  const allEnded = (): boolean => ended.length === 155
  while (!allEnded()) {
    pass(300)
    io.turn(10)
  }
  silent.close()
  other.close()

  expect(beforeTimeout).toEqual(Array(5).fill('other'))
  expect(ended.slice(5)).toEqual(Array(150).fill('silent'))
  expect(atOnce).toBe(100)
})

test('87: all servers together have a bound too', async () => {
  const dir = await tempFolder()
  const ports = Array.from({ length: 13 }, (_, index) => index + 1)
  const silent = ports.map((port) => newPostgres(dir, port, false))
  const { world, pass } = newStoppedClock()
  const { cancels } = newCancels(0, [], 300, world)
  let ended = 0

  for (const port of ports) for (let i = 0; i < 90; i++) cancels.send(serverAt(dir, port), () => ended++)
  const most = (): number => silent.reduce((sum, one) => sum + one.most(), 0)
  while (most() < 1000) io.turn(10)
  const endedBeforeTimeout = ended
  turnUntilIdle()
  const atOnce = most()
  const allEnded = (): boolean => ended === 13 * 90
  while (!allEnded()) {
    pass(300)
    io.turn(10)
  }
  for (const one of silent) one.close()

  expect(endedBeforeTimeout).toBe(0)
  expect(atOnce).toBe(1000)
  expect(ended).toBe(13 * 90)
})
