import { lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { once } from 'node:events'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { EpollIo } from '../../../proxy/io/epoll.ts'
import type { Socket, SocketEvents } from '../../../proxy/io/io.ts'
import { unixPath } from '../../../proxy/io/socket-address.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { newIo, noneLeftOpen, openFdCount, Recorder, sendText, tcpOptions, turnUntil, until } from './world.ts'

let io: EpollIo
let fdsBefore: number
let folder: string

beforeEach(async () => {
  folder = await tempFolder()
  fdsBefore = openFdCount()
  io = newIo()
})

afterEach(async () => {
  io.dispose()
  await noneLeftOpen(fdsBefore)
})

const accept =
  (events: SocketEvents, accepted: Socket[] = []) =>
  (socket: Socket): SocketEvents => {
    accepted.push(socket)
    return events
  }

const ignored = accept(new Recorder())

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}

test('84: bytes go both ways over a Unix socket, and both ends are told where it is', () => {
  const address = { host: folder, port: 5432 }
  const [client, server, accepted] = [new Recorder(), new Recorder(), [] as Socket[]]
  io.listen(address, accept(server, accepted))

  const connected = io.connect(address, tcpOptions, client)
  turnUntil(io, () => client.connects === 1 && accepted.length === 1)
  sendText(connected, 'there')
  sendText(accepted[0] as Socket, 'back')
  turnUntil(io, () => server.receivedBytes === 5 && client.receivedBytes === 4)
  connected.close()
  turnUntil(io, () => server.closes.length === 1)

  expect(server.received.toString() + client.received.toString()).toBe('thereback')
  expect([connected.remote, connected.local, accepted[0]?.remote, accepted[0]?.local]).toEqual(
    Array.from({ length: 4 }, () => address),
  )
  expect(server.closes).toEqual([{ kind: 'eof', errno: null }])
})

test('84: a megabyte passes a Unix socket whose peer reads late', () => {
  const address = { host: folder, port: 5432 }
  const [client, server, accepted] = [new Recorder(), new Recorder(), [] as Socket[]]
  io.listen(address, accept(server, accepted))
  const connected = io.connect(address, tcpOptions, client)
  turnUntil(io, () => accepted.length === 1)
  const bytes = Buffer.alloc(1 << 20, 'x')

  accepted[0]?.pauseReading()
  const taken = connected.send(bytes, 0, bytes.length)
  const queued = connected.queuedBytes
  accepted[0]?.resumeReading()
  turnUntil(io, () => server.receivedBytes === bytes.length)

  expect(taken).toBe(false)
  expect(queued).toBeGreaterThan(0)
  expect(client.drains).toBe(1)
})

test.for([0o777, 0o770, 0o600])('84: the file has the requested mode: %o', (mode) => {
  const address = { host: folder, port: 5432 }

  io.listen(address, ignored, mode)

  expect(lstatSync(join(folder, '.s.PGSQL.5432')).mode & 0o777).toBe(mode)
})

test('84: the file is removed with its listener', () => {
  const address = { host: folder, port: 5432 }
  const listener = io.listen(address, ignored)

  const before = isThere(unixPath(address))
  listener.close()

  expect([before, isThere(unixPath(address))]).toEqual([true, false])
})

test('84: the file of one who has died is replaced', () => {
  const address = { host: folder, port: 5432 }
  const dead = newIo()
  dead.listen(address, ignored)
  dead.dispose()
  const left = isThere(unixPath(address))
  const [client, server] = [new Recorder(), new Recorder()]

  io.listen(address, accept(server))
  io.connect(address, tcpOptions, client)
  turnUntil(io, () => client.connects === 1)

  expect(left).toBe(true)
})

test('84: the file of one who lives is not touched, be it busy', async () => {
  const address = { host: folder, port: 5432 }
  const server = createServer().listen(unixPath(address), 1)
  await once(server, 'listening')
  const before = lstatSync(unixPath(address)).ino

  expect(() => io.listen(address, ignored)).toThrow(expect.objectContaining({ errno: 'EADDRINUSE' }))

  expect(lstatSync(unixPath(address)).ino).toBe(before)
  server.close()
  await once(server, 'close')
})

test('84: a listener that was replaced leaves the file to its successor', () => {
  const address = { host: folder, port: 5432 }
  const former = newIo()
  const listener = former.listen(address, ignored)
  former.dispose()
  io.listen(address, ignored)

  listener.close()

  expect(isThere(unixPath(address))).toBe(true)
})

test.for<[string, (path: string) => void]>([
  ['a file', (path) => writeFileSync(path, 'mine')],
  ['a folder', (path) => mkdirSync(path)],
  ['a link', (path) => symlinkSync('/etc/passwd', path)],
])('84: %s that is no socket is not replaced', ([, make]) => {
  const address = { host: folder, port: 5432 }
  make(unixPath(address))

  expect(() => io.listen(address, ignored)).toThrow(expect.objectContaining({ errno: 'EADDRINUSE' }))

  expect(isThere(unixPath(address))).toBe(true)
})

test('84: a folder that is not there is an error that names it', () => {
  const address = { host: join(folder, 'nothing'), port: 1 }

  expect(() => io.listen(address, ignored)).toThrow(
    expect.objectContaining({ errno: 'ENOENT', message: expect.stringContaining(unixPath(address)) }),
  )
})

test('84: a path that is too long is refused', () => {
  expect(() => io.listen({ host: `/${'x'.repeat(100)}`, port: 5432 }, ignored)).toThrow(
    expect.objectContaining({ errno: 'ENAMETOOLONG' }),
  )
})

test('84: where no process listens a connection is refused', async () => {
  const dead = newIo()
  dead.listen({ host: folder, port: 1 }, ignored)
  dead.dispose()
  const [missing, left] = [new Recorder(), new Recorder()]

  io.connect({ host: folder, port: 2 }, tcpOptions, missing)
  io.connect({ host: folder, port: 1 }, tcpOptions, left)
  await until(io, () => missing.closes.length === 1 && left.closes.length === 1)

  expect(missing.closes).toEqual([{ kind: 'refused', errno: 'ENOENT' }])
  expect(left.closes).toEqual([{ kind: 'refused', errno: 'ECONNREFUSED' }])
})
