import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import koffi from 'koffi'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EpollIo } from '../../../proxy/io/epoll.ts'
import type { EpollSocket } from '../../../proxy/io/epoll-socket.ts'
import type { Socket } from '../../../proxy/io/io.ts'
import { carryBytesMax } from '../../../proxy/io/io.ts'
import * as libc from '../../../proxy/io/libc.ts'
import {
  loopback,
  newIo,
  noneLeftOpen,
  openFdCount,
  pair,
  Recorder,
  sendText,
  Taker,
  tcpOptions,
  turnsWithin,
  turnUntil,
  until,
} from './world.ts'

let io: EpollIo
let fdsBefore: number

beforeEach(() => {
  fdsBefore = openFdCount()
  io = newIo()
})

afterEach(async () => {
  io.dispose()
  await noneLeftOpen(fdsBefore)
})

/** A listening socket of Node's own and the first connection to it. */
async function nodePeer(events: Recorder): Promise<{ socket: Socket; peer: net.Socket; close: () => Promise<void> }> {
  const server = net.createServer({ allowHalfOpen: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  let peer: net.Socket | undefined
  server.once('connection', (one) => {
    peer = one
    one.on('error', () => {})
  })
  const socket = io.connect({ ...loopback, port: (server.address() as AddressInfo).port }, tcpOptions, events)
  await until(io, () => peer !== undefined && events.connects === 1)
  const close = async (): Promise<void> => {
    peer?.destroy()
    server.close()
    await once(server, 'close')
  }
  return { socket, peer: peer as unknown as net.Socket, close }
}

describe('receiving', () => {
  test('bytes arrive as they were sent, and both ends know both addresses', async () => {
    const [client, server] = [new Recorder(), new Recorder()]
    const { connected, accepted } = await pair(io, client, server)

    sendText(connected, 'there')
    sendText(accepted, 'back')
    await until(io, () => server.receivedBytes === 5 && client.receivedBytes === 4)

    expect(server.received.toString()).toBe('there')
    expect(client.received.toString()).toBe('back')
    expect(accepted.remote).toEqual(connected.local)
    expect(accepted.local).toEqual(connected.remote)
    expect(client.connects).toBe(1)
    expect(server.connects).toBe(0)
  })

  test('a message that arrives byte by byte is handled once, when it is whole', async () => {
    const deliveries: string[] = []
    const server = new Taker((bytes) => {
      deliveries.push(bytes.toString())
      return bytes.length < 5 ? 0 : 5
    })
    const { connected } = await pair(io, new Recorder(), server)

    for (const letter of 'bytes') {
      const before = deliveries.length
      sendText(connected, letter)
      await until(io, () => deliveries.length > before)
    }

    expect(deliveries).toEqual(['b', 'by', 'byt', 'byte', 'bytes'])
    expect(server.received.toString()).toBe('bytes')
  })

  test('a message of the greatest length that may be kept is handled whole', async () => {
    const whole = carryBytesMax + 1
    const server = new Taker((bytes) => (bytes.length < whole ? 0 : whole))
    const { connected } = await pair(io, new Recorder(), server)
    const sent = Buffer.alloc(whole, 'abcdefg')

    for (let at = 0; at < whole; at += 1000) {
      connected.send(sent, at, Math.min(at + 1000, whole))
      io.turn(10)
    }
    await until(io, () => server.receivedBytes === whole)

    expect(server.received.equals(sent)).toBe(true)
  })

  test('each turn receives at most one buffer from each socket', async () => {
    const server = new Recorder()
    const { connected } = await pair(io, new Recorder(), server)
    connected.send(Buffer.alloc(400_000), 0, 400_000)

    io.turn(100)

    expect(server.chunks.length).toBe(1)
    await until(io, () => server.receivedBytes === 400_000)
    expect(Math.max(...server.chunks.map((chunk) => chunk.length))).toBeLessThanOrEqual(65536)
  })

  test('what a handler throws comes out of the turn', async () => {
    const { connected } = await pair(
      io,
      new Recorder(),
      new Taker(() => {
        throw new Error('a bug')
      }),
    )
    sendText(connected, 'x')

    expect(() => turnUntil(io, () => false)).toThrow('a bug')
  })

  test('a handler that asks for more than may be kept is a bug that is said', async () => {
    const { connected } = await pair(io, new Recorder(), new Taker(() => 0))
    connected.send(Buffer.alloc(200_000), 0, 200_000)

    expect(() => turnUntil(io, () => false)).toThrow('a handler must progress with carryBytesMax')
  })
})

describe('pausing', () => {
  test('what is kept while reading is paused comes again, first, after resumeReading has returned', async () => {
    const deliveries: string[] = []
    const server = new Recorder()
    const { connected, accepted } = await pair(io, new Recorder(), server)
    server.onData = (bytes, start, end) => {
      deliveries.push(Buffer.from(bytes.subarray(start, end)).toString())
      if (deliveries.length === 1) {
        accepted.pauseReading()
        return start + 1
      }
      return end
    }
    sendText(connected, 'abc')
    await until(io, () => deliveries.length === 1)
    sendText(connected, 'def')
    for (let turn = 0; turn < 5; turn++) io.turn(5)
    expect(deliveries).toEqual(['abc'])

    accepted.resumeReading()
    expect(deliveries).toEqual(['abc'])
    await until(io, () => deliveries.length >= 3)

    expect(deliveries).toEqual(['abc', 'bc', 'def'])
  })

  test('resuming from inside its own delivery brings what was left again', async () => {
    const deliveries: string[] = []
    const { connected, accepted } = await pair(io, new Recorder(), {
      ...quiet,
      onData(bytes, start, end) {
        deliveries.push(Buffer.from(bytes.subarray(start, end)).toString())
        if (deliveries.length > 1) return end
        accepted.pauseReading()
        accepted.resumeReading()
        return start
      },
    })
    sendText(connected, 'abc')

    await until(io, () => deliveries.length === 2)

    expect(deliveries).toEqual(['abc', 'abc'])
  })

  test('a paused socket with bytes waiting does not keep the loop busy', async () => {
    const { connected, accepted } = await pair(io, new Recorder(), new Recorder())
    accepted.pauseReading()
    sendText(connected, 'abc')
    io.turn(20)
    io.turn(20)

    expect(turnsWithin(io, 60)).toBeLessThan(10)
  })

  test('a client that leaves while its reading is paused is reported at once', async () => {
    const server = new Recorder()
    const { connected, accepted } = await pair(io, new Recorder(), server)
    accepted.pauseReading()
    connected.close()

    await until(io, () => server.closes.length === 1)

    expect(server.closes).toEqual([{ kind: 'eof', errno: null }])
  })

  test('what a server sent before its end is read first, whenever reading resumes', async () => {
    const client = new Recorder()
    const { socket, peer, close } = await nodePeer(client)
    socket.pauseReading()
    peer.end('last words')
    await once(peer, 'finish')
    for (let turn = 0; turn < 5; turn++) io.turn(5)
    expect(client.closes).toEqual([])

    socket.resumeReading()
    await until(io, () => client.closes.length === 1)

    expect(client.received.toString()).toBe('last words')
    expect(client.closes).toEqual([{ kind: 'eof', errno: null }])
    await close()
  })

  test('a server that resets while reading is paused neither spins the loop nor is forgotten', async () => {
    const client = new Recorder()
    const { socket, peer, close } = await nodePeer(client)
    socket.pauseReading()
    peer.resetAndDestroy()
    await once(peer, 'close')
    io.turn(20)
    io.turn(20)

    expect(turnsWithin(io, 60)).toBeLessThan(10)
    expect(client.closes).toEqual([])
    socket.resumeReading()
    await until(io, () => client.closes.length === 1)

    expect(client.closes).toEqual([{ kind: 'reset', errno: 'ECONNRESET' }])
    await close()
  })
})

describe('sending', () => {
  test('a slow reader costs one queue: send says false, and onDrain comes when all has left', async () => {
    const [client, server] = [new Recorder(), new Recorder()]
    const { connected, accepted } = await pair(io, client, server)
    accepted.pauseReading()
    const piece = Buffer.alloc(65536, 'x')
    let sent = 0
    do sent += piece.length
    while (connected.send(piece, 0, piece.length))

    expect(connected.queuedBytes).toBeGreaterThan(0)
    expect(connected.queuedBytes).toBeLessThanOrEqual(piece.length)
    accepted.resumeReading()
    await until(io, () => client.drains === 1 && server.receivedBytes === sent)

    expect(connected.queuedBytes).toBe(0)
    expect(connected.send(piece, 0, 1)).toBe(true)
  })

  test('forwarding 64 MB to a reader that pauses again and again keeps less than 2 MB queued', async () => {
    const total = 64 * 1024 * 1024
    let got = 0
    let queuedMost = 0
    const sink = await pair(io, new Recorder(), {
      ...quiet,
      onData(_bytes, start, end) {
        got += end - start
        if (Math.random() < 0.2) {
          sink.accepted.pauseReading()
          io.after(1, () => sink.accepted.resumeReading())
        }
        return end
      },
    })
    const source = await pair(io, new Recorder(), {
      ...quiet,
      onData(bytes, start, end) {
        if (!sink.connected.send(bytes, start, end)) source.accepted.pauseReading()
        queuedMost = Math.max(queuedMost, sink.connected.queuedBytes)
        return end
      },
    })
    sink.connected.events = { ...quiet, onDrain: () => source.accepted.resumeReading() }
    const piece = Buffer.alloc(1024 * 1024)
    let sent = 0
    const fill = (): void => {
      do sent += piece.length
      while (source.connected.send(piece, 0, piece.length) && sent < total)
    }
    source.connected.events = {
      ...quiet,
      onDrain() {
        if (sent < total) fill()
      },
    }
    fill()

    await until(io, () => got === total, 25_000)

    expect(queuedMost).toBeGreaterThan(0)
    expect(queuedMost).toBeLessThan(2 * 1024 * 1024)
  })

  test('many small sends while something is queued keep their order', async () => {
    const server = new Recorder()
    const { connected, accepted } = await pair(io, new Recorder(), server)
    accepted.pauseReading()
    const piece = Buffer.alloc(65536, '.')
    let filled = 0
    do filled += piece.length
    while (connected.send(piece, 0, piece.length))
    let words = ''
    for (let number = 0; number < 20_000; number++) words += `${number},`
    for (let at = 0; at < words.length; at += 7) sendText(connected, words.slice(at, at + 7))

    accepted.resumeReading()
    await until(io, () => server.receivedBytes === filled + words.length)

    expect(server.received.subarray(filled).toString()).toBe(words)
  })

  test('what a server said before it broke the connection is read before the failed send is reported', async () => {
    const client = new Recorder()
    const { socket, peer, close } = await nodePeer(client)
    sendText(socket, 'never read')
    peer.pause()
    peer.write('the reason')
    await until(io, () => client.receivedBytes === 10)
    client.chunks.length = 0
    socket.pauseReading()
    peer.write('more of it')
    peer.resetAndDestroy()
    await once(peer, 'close')

    expect(sendText(socket, 'into the void')).toBe(true)
    expect(sendText(socket, 'again')).toBe(true)
    expect(client.closes).toEqual([])
    socket.resumeReading()
    await until(io, () => client.closes.length === 1)

    expect(client.received.toString()).toBe('more of it')
    expect(client.closes[0]?.kind).toBe('reset')
    expect(sendText(socket, 'after the end')).toBe(true)
    await close()
  })

  test('bytes sent before the connection is open leave when it is', async () => {
    const [client, server] = [new Recorder(), new Recorder()]
    const listener = io.listen(loopback, () => server)
    const socket = io.connect({ ...loopback, port: listener.port }, tcpOptions, client)

    expect(sendText(socket, 'early')).toBe(false)
    await until(io, () => server.receivedBytes === 5)

    expect(server.received.toString()).toBe('early')
    expect(client.drains).toBe(1)
  })
})

describe('sending at the end of a turn', () => {
  test('what was received, words of ours and more than fits arrive in the order they were sent in', async () => {
    const [client, server] = [new Recorder(), new Recorder()]
    const { connected } = await pair(io, client, server)
    const long = Buffer.alloc(900_000, 'long')
    const source = await pair(
      io,
      new Recorder(),
      new Taker((bytes) => {
        const text = bytes.toString()
        if (text !== 'now') return bytes.length
        sendText(connected, 'first ')
        connected.send(long, 0, long.length)
        sendText(connected, ' last')
        return bytes.length
      }),
    )
    sendText(source.connected, 'now')
    await until(io, () => server.receivedBytes === long.length + 11)

    expect(server.received.toString()).toBe(`first ${long.toString()} last`)
  })

  test('forwarded bytes survive what is received after them in the same turn', async () => {
    const sinks = await Promise.all(Array.from({ length: 40 }, async () => await listening()))
    const sources = await Promise.all(
      sinks.map(async ({ connected }) => await pair(io, new Recorder(), forwarding(connected))),
    )
    for (const [index, source] of sources.entries()) {
      sendText(source.connected, `bytes of ${index}`)
      sendText(source.connected, ' and more')
    }
    await until(io, () => sinks.every(({ events }) => events.received.toString().endsWith('more')))

    expect(sinks.map(({ events }) => events.received.toString())).toEqual(
      sinks.map((_, index) => `bytes of ${index} and more`),
    )
  })

  test('close lets go what was sent in its turn', async () => {
    const server = new Recorder()
    const { connected } = await pair(io, new Recorder(), server)
    sendText(connected, 'last words')
    connected.close()

    await until(io, () => server.closes.length > 0)

    expect(server.received.toString()).toBe('last words')
    expect(server.closes).toEqual([{ kind: 'eof', errno: null }])
  })

  async function listening(): Promise<{ connected: Socket; events: Recorder }> {
    const events = new Recorder()
    const { connected } = await pair(io, new Recorder(), events)
    return { connected, events }
  }

  function forwarding(to: Socket): Recorder {
    const events = new Recorder()
    events.onData = (bytes, start, end) => {
      to.send(bytes, start, end)
      return end
    }
    return events
  }
})

describe('ends', () => {
  test('an orderly end of the peer is eof, once, after its last bytes', async () => {
    const server = new Recorder()
    const { connected } = await pair(io, new Recorder(), server)
    sendText(connected, 'bye')
    connected.end()

    await until(io, () => server.closes.length > 0)
    for (let turn = 0; turn < 5; turn++) io.turn(2)

    expect(server.received.toString()).toBe('bye')
    expect(server.closes).toEqual([{ kind: 'eof', errno: null }])
  })

  test('a reset is told from an orderly end', async () => {
    const client = new Recorder()
    const { peer, close } = await nodePeer(client)
    peer.resetAndDestroy()

    await until(io, () => client.closes.length > 0)

    expect(client.closes).toEqual([{ kind: 'reset', errno: 'ECONNRESET' }])
    await close()
  })

  test('a refused connection is reported from the loop, not from inside connect', async () => {
    const listener = io.listen(loopback, () => new Recorder())
    const { port } = listener
    listener.close()
    const client = new Recorder()

    io.connect({ ...loopback, port }, tcpOptions, client)
    expect(client.closes).toEqual([])
    await until(io, () => client.closes.length > 0)

    expect(client.closes).toEqual([{ kind: 'refused', errno: 'ECONNREFUSED' }])
    expect(client.connects).toBe(0)
  })

  test('end sends what is queued before it closes', async () => {
    const [client, server] = [new Recorder(), new Recorder()]
    const { connected, accepted } = await pair(io, client, server)
    accepted.pauseReading()
    const piece = Buffer.alloc(65536, 'x')
    let sent = 0
    do sent += piece.length
    while (connected.send(piece, 0, piece.length))

    connected.end()
    accepted.resumeReading()
    await until(io, () => server.closes.length > 0)

    expect(server.received.length).toBe(sent)
    expect(server.closes).toEqual([{ kind: 'eof', errno: null }])
    expect(client.closes).toEqual([])
    expect(client.drains).toBe(0)
  })

  test('a peer that is still sending gets what was said before end, not a reset', async () => {
    const server = new Recorder()
    const { socket, peer, close } = await nodePeer(server)
    const errors: Error[] = []
    peer.on('error', (error) => errors.push(error))
    peer.write(Buffer.alloc(300_000))
    sendText(socket, 'goodbye')
    socket.end()
    let got = ''
    let ended = false
    peer.on('data', (bytes) => (got += bytes.toString()))
    peer.on('end', () => {
      ended = true
      peer.end()
    })

    await until(io, () => ended)

    expect(got).toBe('goodbye')
    expect(errors).toEqual([])
    await close()
  })

  test('a client that has finished speaking still gets what is queued at end, without a busy loop', async () => {
    const { socket, peer, close } = await nodePeer(new Recorder())
    peer.pause()
    peer.end()
    await once(peer, 'finish')
    const piece = Buffer.alloc(65536, 'x')
    let sent = 0
    socket.pauseReading()
    do sent += piece.length
    while (socket.send(piece, 0, piece.length))
    socket.end()
    io.turn(20)
    io.turn(20)
    expect(turnsWithin(io, 60)).toBeLessThan(10)
    let got = 0
    let ended = false
    peer.on('data', (bytes) => (got += bytes.length))
    peer.on('end', () => (ended = true))
    peer.resume()

    await until(io, () => ended)

    expect(got).toBe(sent)
    await close()
  })

  test('end waits at most a second for a peer that neither reads nor closes', async () => {
    const before = openFdCount()
    const { socket, peer, close } = await nodePeer(new Recorder())
    peer.pause()
    const open = openFdCount()
    const beganMs = performance.now()
    socket.end()
    await until(io, () => openFdCount() < open, 3000)

    expect(performance.now() - beganMs).toBeGreaterThan(900)
    await close()
    expect(openFdCount()).toBe(before)
  })

  test('nothing is reported after close or end', async () => {
    for (const how of ['close', 'end'] as const) {
      const server = new Recorder()
      const { connected, accepted } = await pair(io, new Recorder(), server)
      sendText(connected, 'late')
      accepted[how]()
      connected.close()
      for (let turn = 0; turn < 5; turn++) io.turn(2)

      expect(server.chunks).toEqual([])
      expect(server.closes).toEqual([])
    }
  })

  test('an event of a closed socket does not reach the one that got its descriptor', async () => {
    const listener = io.listen(loopback, () => new Recorder())
    const rivals: { fd: number; close: () => void; peer: Socket; events: Recorder }[] = []
    for (let index = 0; index < 2; index++) {
      const events = new Recorder()
      const { connected, accepted } = await pair(io, new Recorder(), events)
      rivals.push({ fd: (accepted as EpollSocket).fd, close: () => accepted.close(), peer: connected, events })
    }
    for (const { peer } of rivals) sendText(peer, 'x')
    let turn = 1
    const connectedInTurn: number[] = []
    let heirs = 0
    for (const { fd, events } of rivals) {
      events.onData = (_bytes, _start, end) => {
        // The first one closes the other, whose event is in the same batch, and gives its descriptor away.
        const loser = rivals.find((rival) => rival.fd !== fd)
        loser?.close()
        for (let heir = -1; heir !== loser?.fd; heirs++) {
          const onConnect = (): void => void connectedInTurn.push(turn)
          heir = (io.connect({ ...loopback, port: listener.port }, tcpOptions, { ...quiet, onConnect }) as EpollSocket)
            .fd
        }
        return end
      }
    }
    io.turn(100)
    expect(heirs).toBeGreaterThan(0)
    turn = 2
    turnUntil(io, () => connectedInTurn.length === heirs)

    expect(new Set(connectedInTurn)).toEqual(new Set([2]))
  })

  test('10,000 connections opened and closed leave the number of descriptors as it was', async () => {
    const server = new Set<Socket>()
    const listener = io.listen(loopback, (socket) => {
      server.add(socket)
      return { ...quiet, onClose: () => void server.delete(socket) }
    })
    const before = openFdCount()
    let opened = 0
    for (let round = 0; round < 100; round++) {
      const sockets = Array.from({ length: 100 }, () =>
        io.connect({ ...loopback, port: listener.port }, tcpOptions, { ...quiet, onConnect: () => void opened++ }),
      )
      const wanted = (round + 1) * 100
      turnUntil(io, () => opened === wanted && server.size === 100)
      for (const [index, socket] of sockets.entries()) {
        if (index % 2 === 0) socket.close()
        else socket.end()
      }
      turnUntil(io, () => server.size === 0)
    }
    await until(io, () => openFdCount() <= before)

    expect(opened).toBe(10_000)
    expect(openFdCount()).toBe(before)
  })
})

describe('listening', () => {
  test('an address that is taken is an IoError with its errno', () => {
    const { port } = io.listen(loopback, () => new Recorder())

    expect(() => io.listen({ ...loopback, port }, () => new Recorder())).toThrow(
      expect.objectContaining({ name: 'IoError', errno: 'EADDRINUSE' }),
    )
    expect(() => io.listen({ host: 'localhost', port: 0 }, () => new Recorder())).toThrow('not an IPv4 or IPv6 address')
  })

  test('connections over IPv6 and from IPv4 to an IPv6 listener work, and read as what they are', async () => {
    const remotes: string[] = []
    const listener = io.listen({ host: '::', port: 0 }, (socket) => {
      remotes.push(socket.remote.host, socket.local.host)
      return new Recorder()
    })
    io.connect({ host: '::1', port: listener.port }, tcpOptions, new Recorder())
    await until(io, () => remotes.length === 2)
    io.connect({ host: '127.0.0.1', port: listener.port }, tcpOptions, new Recorder())
    await until(io, () => remotes.length === 4)

    expect(remotes).toEqual(['::1', '::1', '127.0.0.1', '127.0.0.1'])
  })

  test('without descriptors accepting pauses, says so, and goes on when there are some again', async () => {
    const memory = new SharedArrayBuffer(Math.ceil((openFdCount() + 64 + 24) / 8))
    const said: { errno: string; atMs: number }[] = []
    const small = new EpollIo({
      openFds: memory,
      ioUring: false,
      onExhausted: (errno) => said.push({ errno, atMs: small.nowMs() }),
    })
    try {
      const accepted: Socket[] = []
      const listener = small.listen(loopback, (socket) => {
        accepted.push(socket)
        return new Recorder()
      })
      for (let i = 0; i < 64; i++) io.connect({ ...loopback, port: listener.port }, tcpOptions, quiet)
      turnUntil(small, () => said.length === 1)
      const acceptedAtFirst = accepted.length
      turnUntil(small, () => said.length === 2)

      expect(said.map(({ errno }) => errno)).toEqual(['EMFILE', 'EMFILE'])
      // By the loop's own clock, which its timers go by: what a busy machine does between two turns does not count.
      expect(said[1]!.atMs - said[0]!.atMs).toBeGreaterThanOrEqual(100)
      for (const socket of accepted) socket.close()
      turnUntil(small, () => accepted.length > acceptedAtFirst)
      expect(accepted.length).toBeGreaterThan(acceptedAtFirst)
    } finally {
      small.dispose()
    }
  })

  test('the shared bits name exactly the open descriptors', async () => {
    const memory = new SharedArrayBuffer(1024)
    const before = openFdCount()
    const noted = new EpollIo({ openFds: memory, ioUring: false, onExhausted: () => {} })
    const { connected } = await pair(noted, new Recorder(), new Recorder())
    expect(countBits(memory)).toBe(openFdCount() - before)
    expect(countBits(memory)).toBe(4)

    connected.close()
    expect(countBits(memory)).toBe(3)
    noted.dispose()
    expect(countBits(memory)).toBe(0)
  })
})

describe('the end of the loop closes', () => {
  test('a listener that pauses', () => {
    const memory = new SharedArrayBuffer(Math.ceil((openFdCount() + 16) / 8))
    let exhausted = false
    const small = new EpollIo({ openFds: memory, ioUring: false, onExhausted: () => (exhausted = true) })
    const listener = small.listen(loopback, () => quiet)
    for (let i = 0; i < 32; i++) io.connect({ ...loopback, port: listener.port }, tcpOptions, quiet)
    turnUntil(small, () => exhausted)

    small.dispose()

    expect(countBits(memory)).toBe(0)
  })

  test('a server that ended while it was not read', async () => {
    const memory = new SharedArrayBuffer(1024)
    const own = new EpollIo({ openFds: memory, ioUring: false, onExhausted: () => {} })
    const { connected, accepted } = await pair(own, new Recorder(), new Recorder())
    connected.pauseReading()
    accepted.pauseReading()
    // Closed with something unread, it resets the connection, which epoll reports for any registered events.
    sendText(connected, 'x')
    own.turn(1)
    accepted.close()
    for (let turns = 0; turns < 3; turns++) own.turn(1)

    own.dispose()

    expect(countBits(memory)).toBe(0)
  })

  test('a connection that was refused at once', () => {
    const memory = new SharedArrayBuffer(1024)
    const own = new EpollIo({ openFds: memory, ioUring: false, onExhausted: () => {} })
    own.connect({ host: '/nowhere', port: 1 }, tcpOptions, quiet)

    own.dispose()

    expect(countBits(memory)).toBe(0)
  })
})

test('every connection has its keepalive and user timeout, also when they change later', async () => {
  const { connected } = await pair(io, new Recorder(), new Recorder())
  const socket = connected as EpollSocket
  expect(options(socket)).toEqual({ keepalive: 1, noDelay: 1, idle: 5, interval: 5, count: 5, userTimeout: 30_000 })

  socket.setTcpOptions({ keepaliveIdleMs: 1500, keepaliveIntervalMs: 900, keepaliveCount: 2, userTimeoutMs: 0 })

  expect(options(socket)).toEqual({ keepalive: 1, noDelay: 1, idle: 2, interval: 1, count: 2, userTimeout: 0 })
})

test('a peer that reads nothing for longer than the user timeout, but is there, is not cut off', async () => {
  const [client, server] = [new Recorder(), new Recorder()]
  const { connected, accepted } = await pair(io, client, server)
  connected.setTcpOptions({ ...tcpOptions, userTimeoutMs: 1000 })
  accepted.pauseReading()
  // More than all buffers on the way hold.
  const much = Buffer.alloc(16 * 1024 * 1024)
  expect(connected.send(much, 0, much.length)).toBe(false)
  let over = false
  io.after(4000, () => (over = true))

  turnUntil(io, () => over)
  expect(client.closes).toEqual([])
  accepted.resumeReading()
  turnUntil(io, () => server.receivedBytes === much.length)
  turnUntil(io, () => options(connected as EpollSocket)['userTimeout'] === 1000)

  expect(client.drains).toBe(1)
})

test('a write to the eventfd wakes a loop that would wait for ever', () => {
  const fd = eventFd()
  let woken = 0
  io.onWake(fd, () => woken++)
  writeEvent(fd)
  writeEvent(fd)

  turnUntil(io, () => woken > 0)
  io.turn(20)

  expect(woken).toBe(1)
  libc.close(fd)
})

test('timers end a wait, in their order and not before their time, whatever was taken back or set meanwhile', () => {
  const fired: string[] = []
  const begin = io.nowMs()
  const note = (name: string, delayMs: number) => (): void => {
    fired.push(`${name} ${io.nowMs() - begin >= delayMs ? 'after' : 'before'} ${delayMs} ms`)
  }
  io.after(60, note('last', 60))
  const canceled = io.after(5, note('canceled', 5))
  io.after(20, () => {
    note('first', 20)()
    io.after(10, note('set by it', 30))
  })
  const waitMsMax = 10_000
  while (io.nowMs() < begin + 1) io.turn(1)
  canceled.cancel()

  while (fired.length < 3) io.turn(waitMsMax)

  expect(fired).toEqual(['first after 20 ms', 'set by it after 30 ms', 'last after 60 ms'])
  // No turn waited until its own limit.
  expect(io.nowMs() - begin).toBeLessThan(waitMsMax)
})

test('the clock stands still within a turn', () => {
  const seen: number[] = []
  io.after(0, () => {
    for (let spin = 0; spin < 1e6; spin++) seen[0] = io.nowMs()
    seen.push(io.nowMs())
  })

  io.turn(10)

  expect(seen[0]).toBe(seen[1])
})

const quiet = {
  onConnect(): void {},
  onData: (_bytes: Uint8Array, _start: number, end: number): number => end,
  onDrain(): void {},
  onClose(): void {},
}

const binary = koffi.load(null)
const eventfd: (count: number, flags: number) => number = binary.func('int eventfd(uint initval, int flags)')
const writeTo: (fd: number, bytes: Uint8Array, length: number) => number = binary.func(
  'int write(int fd, const uint8_t *buf, size_t count)',
)

function eventFd(): number {
  return eventfd(0, 0)
}

function writeEvent(fd: number): void {
  const one = Buffer.alloc(8)
  one.writeBigUInt64LE(1n)
  expect(writeTo(fd, one, 8)).toBe(8)
}

function options(socket: EpollSocket): Record<string, number> {
  const memory = libc.allocate(8)
  const get = (level: number, option: number): number => {
    memory.bytes.writeInt32LE(4, 4)
    expect(libc.getsockopt(socket.fd, level, option, memory.address, memory.address + 4)).toBe(0)
    return memory.bytes.readInt32LE(0)
  }
  const { Level, SocketOption, TcpOption } = libc
  return {
    keepalive: get(Level.Socket, SocketOption.KeepAlive),
    noDelay: get(Level.Tcp, TcpOption.NoDelay),
    idle: get(Level.Tcp, TcpOption.KeepIdle),
    interval: get(Level.Tcp, TcpOption.KeepInterval),
    count: get(Level.Tcp, TcpOption.KeepCount),
    userTimeout: get(Level.Tcp, TcpOption.UserTimeout),
  }
}

function countBits(memory: SharedArrayBuffer): number {
  let count = 0
  for (const byte of new Uint8Array(memory)) for (let bits = byte; bits !== 0; bits >>= 1) count += bits & 1
  return count
}

test('a loop that runs out lets the peer of an ended socket send, and read what it was sent before', async () => {
  const [client, server] = [new Recorder(), new Recorder()]
  const { connected, accepted } = await pair(io, client, server)
  connected.pauseReading()
  sendText(accepted, 'bye')

  accepted.end()
  io.after(1, () => sendText(connected, 'more'))
  io.after(2, () => connected.resumeReading())
  io.runOut()

  expect(client.received.toString()).toBe('bye')
  expect(client.closes).toEqual([{ kind: 'eof', errno: null }])
})

test('a loop that runs out waits for a peer that does not close as long as a socket does', async () => {
  const { connected, accepted } = await pair(io, new Recorder(), new Recorder())
  connected.pauseReading()
  const beganAtMs = io.nowMs()

  accepted.end()
  io.runOut()

  expect(io.nowMs() - beganAtMs).toBeGreaterThanOrEqual(1000)
})
