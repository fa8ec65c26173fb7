/** TLS between two sockets of the loop, with a network between them that can break anywhere. */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket as NodeSocket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Socket, TlsContext, TlsOptions } from '../../../proxy/io/io.ts'
import { livingObjects } from '../../../proxy/io/openssl.ts'
import { Authority } from '../../support/certificates.ts'
import type { Certificate } from '../../support/certificates.ts'
import { loopback, newIo, pair, Recorder, sendText, tcpOptions, until } from './world.ts'

const io = newIo()
let authority: Authority
let localhost: Certificate
let caPem: string

const common = { minProtocol: 'TLSv1.2', ciphers: '', tls13Ciphers: '', peerRequired: false } as const

beforeAll(async () => {
  authority = await Authority.create()
  localhost = await authority.issue('localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  caPem = await authority.caPem()
})

afterAll(() => io.dispose())

function serverContext(changes: Partial<TlsOptions> = {}): TlsContext {
  const { cert: certificate, key } = localhost
  return io.tlsContext({ side: 'server', certificate, key, ca: null, ...common, ...changes })
}

function clientContext(changes: Partial<TlsOptions> = {}): TlsContext {
  return io.tlsContext({ side: 'client', certificate: null, key: null, ca: caPem, ...common, ...changes })
}

interface Secured {
  readonly connected: Socket
  readonly accepted: Socket
  readonly from: Recorder
  readonly to: Recorder
}

/** Both ends, after the handshake or its failure. */
async function handshake(client: TlsContext, server: TlsContext, host = 'localhost'): Promise<Secured> {
  const from = new Recorder()
  const to = new Recorder()
  const { connected, accepted } = await pair(io, from, to)
  connected.startTls(client, { host, verifyHost: true })
  accepted.startTls(server, {})
  client.free()
  server.free()
  await until(
    io,
    () => (connected.tls !== null || from.closes.length > 0) && (accepted.tls !== null || to.closes.length > 0),
  )
  return { connected, accepted, from, to }
}

function closeBoth({ connected, accepted }: Secured): void {
  connected.close()
  accepted.close()
}

test('a handshake tells both ends the same protocol, cipher, ALPN and channel binding', async () => {
  const secured = await handshake(clientContext(), serverContext())
  const { connected, accepted } = secured

  expect(connected.tls).toMatchObject({ protocol: 'TLSv1.3', alpn: 'postgresql', peerName: 'localhost' })
  expect(accepted.tls).toMatchObject({ ...connected.tls, peerName: null })
  expect(connected.tls?.serverEndPoint).toHaveLength(32)
  closeBoth(secured)
})

test('5 MB arrive whole in either direction, and nothing of it is readable on the way', async () => {
  const secured = await handshake(clientContext(), serverContext())
  const { connected, accepted, from, to } = secured
  const bytes = Buffer.alloc(5_000_000)
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(at, at)

  accepted.send(bytes, 0, bytes.length)
  connected.send(bytes, 0, bytes.length)
  await until(io, () => from.receivedBytes === bytes.length && to.receivedBytes === bytes.length)

  expect(from.received.equals(bytes)).toBe(true)
  expect(to.received.equals(bytes)).toBe(true)
  expect(from.drains + to.drains).toBe(2)
  closeBoth(secured)
})

test('a socket that does not read is not delivered to, and gets the rest when it reads again', async () => {
  const secured = await handshake(clientContext(), serverContext())
  const { connected, accepted, from } = secured
  connected.pauseReading()
  const bytes = Buffer.alloc(200_000, 'x')

  accepted.send(bytes, 0, bytes.length)
  for (let turn = 0; turn < 20; turn++) io.turn(1)
  const whilePaused = from.receivedBytes
  connected.resumeReading()
  await until(io, () => from.receivedBytes === bytes.length)

  expect(whilePaused).toBe(0)
  closeBoth(secured)
})

test('the end of one side is the orderly end for the other, after the last byte', async () => {
  const secured = await handshake(clientContext(), serverContext())

  sendText(secured.accepted, 'last words')
  secured.accepted.end()
  await until(io, () => secured.from.closes.length > 0)

  expect(secured.from.received.toString()).toBe('last words')
  expect(secured.from.closes).toEqual([{ kind: 'eof', errno: null }])
  closeBoth(secured)
})

test.for([
  ['another host', 'elsewhere', 'hostname mismatch'],
  ['another address', '127.0.0.2', 'IP address mismatch'],
] as const)('a certificate for %s is refused with the reason', async ([, host, reason]) => {
  const secured = await handshake(clientContext(), serverContext(), host)

  expect(secured.from.closes[0]).toMatchObject({
    kind: 'tls',
    reason: expect.stringContaining(reason) as string,
  })
  closeBoth(secured)
})

test('a certificate of an authority that is not trusted is refused, and the server is told by an alert', async () => {
  const stranger = await (await Authority.create('Stranger')).issue('localhost', ['DNS:localhost'])
  const secured = await handshake(clientContext(), serverContext({ certificate: stranger.cert, key: stranger.key }))

  expect(secured.from.closes[0]?.reason).toContain('certificate verify failed: unable to get local issuer certificate')
  expect(secured.to.closes[0]?.reason).toContain('alert')
  closeBoth(secured)
})

test('a client without the required certificate is rejected, one that has it is named', async () => {
  const web = await authority.issue('web')
  const demanding = { ca: caPem, peerRequired: true }
  const without = await handshake(clientContext(), serverContext(demanding))
  const having = await handshake(clientContext({ certificate: web.cert, key: web.key }), serverContext(demanding))

  expect(without.to.closes[0]?.reason).toContain('peer did not return a certificate')
  expect(having.accepted.tls?.peerName).toBe('web')
  closeBoth(without)
  closeBoth(having)
})

test('what was received before TLS began is part of the handshake', async () => {
  const to = new Recorder()
  let accepted: Socket | undefined
  const context = serverContext()
  to.onData = (bytes, start, end) => {
    if (accepted?.tls === null) accepted.startTls(context, { received: bytes.subarray(start, end) })
    else Recorder.prototype.onData.call(to, bytes, start, end)
    return end
  }
  const listener = io.listen(loopback, (socket) => {
    accepted = socket
    return to
  })
  const from = new Recorder()
  const client = clientContext()
  const connected: Socket = io.connect({ ...loopback, port: listener.port }, tcpOptions, {
    onConnect: () => connected.startTls(client, { host: 'localhost', verifyHost: true }),
    onSecured: () => sendText(connected, 'hello'),
    onData: (bytes, start, end) => from.onData(bytes, start, end),
    onDrain: () => undefined,
    onClose: (cause) => from.onClose(cause),
  })

  await until(io, () => to.receivedBytes > 0 || from.closes.length > 0)

  expect(to.received.toString()).toBe('hello')
  connected.close()
  accepted?.close()
  listener.close()
  client.free()
  context.free()
})

test('bytes that are not TLS end the connection with a reason', async () => {
  const from = new Recorder()
  const to = new Recorder()
  const { connected, accepted } = await pair(io, from, to)
  const context = serverContext()
  accepted.startTls(context, {})
  context.free()

  sendText(connected, 'GET / HTTP/1.1\r\n\r\n')
  await until(io, () => to.closes.length > 0)

  expect(to.closes[0]).toMatchObject({ kind: 'tls', reason: 'http request' })
  connected.close()
})

test('options that cannot be used are refused by name', () => {
  expect(() => serverContext({ certificate: 'no PEM' })).toThrow('no certificate in PEM found')
  expect(() => serverContext({ key: localhost.cert })).toThrow('no private key in PEM')
  expect(() => serverContext({ ca: '' })).toThrow('the CA certificate')
  expect(() => serverContext({ ciphers: 'NONSENSE' })).toThrow('no cipher match')
  expect(() => serverContext({ tls13Ciphers: 'NONSENSE' })).toThrow('the TLS 1.3 cipher list')
})

test('a private key of another certificate is refused', async () => {
  const other = await authority.issue('other')

  expect(() => serverContext({ key: other.key })).toThrow('key values mismatch')
})

/** A network that passes `bytesMax` bytes in all, then resets both sides. */
async function fragileNetwork(
  port: number,
): Promise<{ port: number; limit: (bytesMax: number) => void; close(): void }> {
  let bytesMax = Infinity
  const proxy = createServer((near) => {
    const far = connect({ host: '127.0.0.1', port })
    let left = bytesMax
    const pass = (from: NodeSocket, to: NodeSocket): void => {
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
      from.on('data', (chunk) => {
        if (chunk.length < left) {
          left -= chunk.length
          to.write(chunk)
          return
        }
        to.write(chunk.subarray(0, left))
        left = 0
        near.resetAndDestroy()
        far.resetAndDestroy()
      })
    }
    pass(near, far)
    pass(far, near)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  return {
    port: (proxy.address() as AddressInfo).port,
    limit: (bytes) => {
      bytesMax = bytes
    },
    close: () => proxy.close(),
  }
}

/** Bytes of a whole handshake with these certificates, both directions: about 2,000. */
const handshakeBytesMax = 2400

test('10,000 handshakes, half of them broken off at any byte, leave nothing behind', { timeout: 120_000 }, async () => {
  await until(io, () => livingObjects().connections === 0)
  const server = serverContext()
  const client = clientContext()
  const accepted = new Set<Socket>()
  const ends = { secured: 0, failed: 0 }
  const listener = io.listen(loopback, (socket) => {
    accepted.add(socket)
    socket.startTls(server, {})
    return quiet(() => accepted.delete(socket))
  })
  const network = await fragileNetwork(listener.port)
  const round = async (count: number, port: number): Promise<void> => {
    let open = 0
    for (let index = 0; index < count; index++) {
      open++
      const over = (kind: keyof typeof ends): void => {
        ends[kind]++
        open--
      }
      const socket: Socket = io.connect({ ...loopback, port }, tcpOptions, {
        onConnect: () => socket.startTls(client, { host: 'localhost', verifyHost: true }),
        onSecured() {
          socket.close()
          over('secured')
        },
        onData: (_bytes, _start, end) => end,
        onDrain: () => undefined,
        onClose: () => over('failed'),
      })
    }
    await until(io, () => open === 0 && accepted.size === 0, 60_000)
  }

  await round(50, listener.port)
  const rssBefore = process.memoryUsage().rss
  for (let batch = 0; batch < 100; batch++) {
    await round(50, listener.port)
    network.limit(Math.floor((batch / 100) * handshakeBytesMax))
    await round(50, network.port)
  }
  const rssAfter = process.memoryUsage().rss
  listener.close()
  network.close()
  server.free()
  client.free()

  expect(ends.secured + ends.failed).toBe(10_050)
  expect(ends.failed).toBeGreaterThan(4000)
  expect(livingObjects()).toEqual({ contexts: 0, connections: 0, certificates: 0, keys: 0, bios: 0 })
  // An SSL object is about 10 KB: leaking every one would cost 200 MB.
  expect(rssAfter - rssBefore).toBeLessThan(40_000_000)
})

function quiet(onClose: () => void): Recorder {
  const recorder = new Recorder()
  recorder.onClose = onClose
  return recorder
}
