/**
 * Sends that leave together by io_uring: that what each reader gets is what was sent to it, in its order, even if others read
 * slowly, is gone, or has TLS beside it.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { EpollIo } from '../../../proxy/io/epoll.ts'
import type { EpollSocket } from '../../../proxy/io/epoll-socket.ts'
import type { Socket } from '../../../proxy/io/io.ts'
import * as libc from '../../../proxy/io/libc.ts'
import { Errno, Level } from '../../../proxy/io/libc.ts'
import { notSent, SendRing } from '../../../proxy/io/send-ring.ts'
import { Random } from '../../sim/random.ts'
import { newIo, noneLeftOpen, openFdCount, pair, Recorder, turnUntil } from './world.ts'

let io: EpollIo
let fdsBefore: number
let ring: SendRing

beforeEach(() => {
  fdsBefore = openFdCount()
  io = newIo()
  ring = new SendRing(16, (fd) => fd, libc.close)
})

afterEach(async () => {
  ring.close()
  io.dispose()
  await noneLeftOpen(fdsBefore)
})

const text = libc.allocateLow(64)

function put(number: number, socket: Socket, words: string): void {
  text.bytes.write(words, number * 4)
  ring.put(number, (socket as EpollSocket).fd, text.address + number * 4, words.length)
}

/** SO_SNDBUF and SO_RCVBUF: little enough that sends are cut short. */
function setBuffers(socket: Socket, bytes: number): void {
  text.bytes.writeInt32LE(bytes)
  for (const option of [7, 8]) libc.setsockopt((socket as EpollSocket).fd, Level.Socket, option, text.address, 4)
}

describe('the ring', () => {
  test('sends by several sockets when it is submitted, not before, again and again', async () => {
    const readers = Array.from({ length: 5 }, () => new Recorder())
    const senders: Socket[] = []
    for (const reader of readers) senders.push((await pair(io, new Recorder(), reader)).connected)
    const bytesOf = (): number[] => readers.map(({ receivedBytes }) => receivedBytes)

    for (let round = 0; round < 40; round++) {
      // Another number of them each time, so that the queues wrap at every place.
      const count = (round % 5) + 1
      const before = bytesOf()
      for (const [number, sender] of senders.slice(0, count).entries()) put(number, sender, `${round % 10}${number}`)
      io.turn(0)
      expect(bytesOf()).toEqual(before)

      ring.submit()

      const results = Array.from({ length: count }, (_, number) => ring.takeResult(number))
      expect(results).toEqual(results.map(() => 2))
      const after = before.map((bytes, number) => (number < count ? bytes + 2 : bytes))
      turnUntil(io, () => bytesOf().every((bytes, number) => bytes === after[number]))
    }

    expect(readers[4]?.received.toString()).toBe('4494449444944494')
  })

  test('says of each send how much the kernel took, and why not', async () => {
    const [full, gone, well] = [
      await pair(io, new Recorder(), new Recorder()),
      await pair(io, new Recorder(), new Recorder()),
      await pair(io, new Recorder(), new Recorder()),
    ]
    full.accepted.pauseReading()
    const much = libc.allocateLow(1 << 20)
    const { fd } = full.connected as EpollSocket
    let took = much.bytes.length
    while (took === much.bytes.length) {
      ring.put(0, fd, much.address, much.bytes.length)
      ring.submit()
      took = ring.takeResult(0)
    }
    expect(took).toBeGreaterThan(0)
    gone.accepted.close()
    put(1, gone.connected, 'a')
    ring.submit()
    expect(ring.takeResult(1)).toBe(1)

    ring.put(0, fd, much.address, much.bytes.length)
    put(1, gone.connected, 'a')
    ring.put(2, -1, much.address, 1)
    put(3, well.connected, 'abc')
    ring.submit()

    const results = [0, 1, 2, 3].map((number) => ring.takeResult(number))
    expect(results).toEqual([-Errno.EAGAIN, expect.toBeOneOf([-Errno.EPIPE, -Errno.ECONNRESET]), -Errno.EBADF, 3])
    expect(ring.takeResult(3)).toBe(notSent)
  })

  test('from which the kernel takes nothing has sent nothing, and that is said of each send', async () => {
    const { connected } = await pair(io, new Recorder(), new Recorder())
    let ringFd = -1
    const broken = new SendRing(
      16,
      (fd) => (ringFd = fd),
      () => undefined,
    )
    libc.close(ringFd)

    for (let time = 0; time < 40; time++) {
      broken.put(time % 16, (connected as EpollSocket).fd, text.address, 2)
      broken.submit()
      expect(broken.takeResult(time % 16)).toBe(notSent)
    }
    broken.close()
  })

  test('is not made where a kernel has no such call', () => {
    expect(() => new SendRing(1 << 30, (fd) => fd, libc.close)).toThrow(
      expect.objectContaining({ name: 'IoError', errno: 'EINVAL' }),
    )
  })
})

describe.each(['together', 'one by one'])('sent %s', (way) => {
  let loop: EpollIo

  beforeEach(() => {
    loop = newIo(way === 'together')
  })

  afterEach(() => loop.dispose())

  test.each([1, 2, 3, 4, 5, 6])(
    'everything arrives once and in its order, though some read slowly and some are gone (%i)',
    async (seed) => {
      const random = new Random(seed)
      const sources = await Promise.all(
        Array.from({ length: 6 }, async () => await pair(loop, new Recorder(), new Recorder())),
      )
      const readers = Array.from({ length: 6 }, () => new Recorder())
      const outs: { readonly connected: Socket; readonly accepted: Socket }[] = []
      for (const reader of readers) outs.push(await pair(loop, new Recorder(), reader))
      for (const { connected, accepted } of outs)
        for (const socket of [connected, accepted]) setBuffers(socket, 100_000)
      const sent = outs.map((): Buffer[] => [])
      // What a source says goes on to some, whole or in parts, with words of our own before, between and after.
      const spread = (bytes: Uint8Array, start: number, end: number): number => {
        for (let times = random.integer(1, 4); times > 0; times--) {
          const to = random.integer(0, outs.length - 1)
          const cut = random.integer(start, end)
          const own = Buffer.from(`<${random.integer(0, 99_999)}>`)
          for (const [what, from, until] of [
            [bytes, start, cut],
            [own, 0, own.length],
            [bytes, cut, end],
          ] as const) {
            sent[to]?.push(Buffer.from(what.subarray(from, until)))
            outs[to]?.connected.send(what, from, until)
          }
        }
        return end
      }
      for (const { accepted } of sources) accepted.events = Object.assign(new Recorder(), { onData: spread })
      for (let step = 0; step < 400; step++) {
        for (const { connected } of sources) {
          if (!random.chance(0.7)) continue
          const words = Buffer.alloc(
            random.chance(0.4) ? random.integer(1, 30_000) : random.integer(1, 200),
            `${step},`,
          )
          connected.send(words, 0, words.length)
        }
        const slow = outs[random.integer(0, outs.length - 1)]
        if (random.chance(0.5)) slow?.accepted.pauseReading()
        else slow?.accepted.resumeReading()
        if (step === 300) outs[5]?.accepted.close()
        loop.turn(0)
      }
      for (const { accepted } of outs) accepted.resumeReading()

      const whole = sent.map((pieces) => Buffer.concat(pieces))
      turnUntil(loop, () =>
        readers.slice(0, 5).every(({ receivedBytes }, at) => receivedBytes >= (whole[at]?.length ?? 0)),
      )

      for (const [at, reader] of readers.slice(0, 5).entries())
        expect(reader.received.equals(whole[at] as Buffer)).toBe(true)
      expect(whole[5]?.subarray(0, readers[5]?.receivedBytes).equals(readers[5]?.received as Buffer)).toBe(true)
    },
  )
})
