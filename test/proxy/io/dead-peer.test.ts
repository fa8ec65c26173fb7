/**
 * How a peer that dies without a word is noticed, between two network namespaces whose link is taken down. What the
 * kernel says then is what the cause of a disconnect is told from, so the test uses a real one.
 */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { EpollIo } from '../../../proxy/io/epoll.ts'
import { newIo, Recorder, sendText, turnUntil, until } from './world.ts'

// 198.18.0.0/15 is for tests (RFC 2544).
const network = `198.18.${process.pid % 256}`
const [ourAddress, theirAddress] = [`${network}.1`, `${network}.2`]

const quick = { keepaliveIdleMs: 1000, keepaliveIntervalMs: 1000, keepaliveCount: 2, userTimeoutMs: 3000 }

const refusal = ip(`netns add flotilla-io-${process.pid}`) || ip(`netns del flotilla-io-${process.pid}`)
const reason = refusal === '' ? '' : ` (skipped: no network namespaces here: ${refusal.trim()})`

describe.skipIf(refusal !== '')(`a peer that dies silently${reason}`, () => {
  let io: EpollIo
  let peer: ChildProcess
  let port: number
  let namespace: string
  let ourEnd: string
  let theirEnd: string
  let networks = 0

  // Each test has a network of its own: one that has been cut remembers it for a while.
  beforeEach(async () => {
    const number = networks++
    namespace = `flotilla-io-${process.pid}-${number}`
    ourEnd = `fi${process.pid}a${number}`
    theirEnd = `fi${process.pid}b${number}`
    io = newIo()
    ip(`netns add ${namespace}`)
    ip(`link add ${ourEnd} type veth peer name ${theirEnd} netns ${namespace}`)
    ip(`addr add ${ourAddress}/30 dev ${ourEnd}`)
    ip(`link set ${ourEnd} up`)
    ip(`-n ${namespace} addr add ${theirAddress}/30 dev ${theirEnd}`)
    ip(`-n ${namespace} link set ${theirEnd} up`)
    peer = spawn('ip', ['netns', 'exec', namespace, process.execPath, '-e', listensAndReads], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [line] = (await once(peer.stdout ?? peer, 'data')) as [Buffer]
    port = Number(line.toString())
  })

  afterEach(async () => {
    io.dispose()
    peer.kill()
    await once(peer, 'exit')
    // The namespace itself lives on while the kernel still sends to an address in it.
    ip(`link del ${ourEnd}`)
    ip(`netns del ${namespace}`)
  })

  test('is found although it had stopped reading before', async () => {
    const events = new Recorder()
    const options = { ...quick, userTimeoutMs: 1000 }
    const socket = io.connect({ host: theirAddress, port }, options, events)
    await until(io, () => events.received.length > 0)
    // It stops reading when it is told to.
    sendText(socket, 'stop')
    await until(io, () => events.received.toString().endsWith('stopped'))
    // More than all buffers on the way hold.
    const much = Buffer.alloc(16 * 1024 * 1024)
    expect(socket.send(much, 0, much.length)).toBe(false)
    let stalledLong = false
    io.after(1300, () => (stalledLong = true))
    turnUntil(io, () => stalledLong)
    expect(events.closes).toEqual([])
    ip(`-n ${namespace} link set ${theirEnd} down`)
    turnUntil(io, () => events.closes.length === 1, 20_000)

    expect(events.closes).toEqual([{ kind: 'unacked', errno: 'ETIMEDOUT' }])
  })

  test('is found by keepalive when nothing is in flight, by the user timeout when something is', async () => {
    const [idle, inFlight] = [new Recorder(), new Recorder()]
    const sockets = [idle, inFlight].map((events) => io.connect({ host: theirAddress, port }, quick, events))
    await until(io, () => idle.received.length > 0 && inFlight.received.length > 0)
    ip(`-n ${namespace} link set ${theirEnd} down`)
    const beganMs = performance.now()
    sendText(sockets[1] as (typeof sockets)[number], 'a query')

    turnUntil(io, () => idle.closes.length + inFlight.closes.length === 2, 8000)

    expect(performance.now() - beganMs).toBeLessThan(4000)
    expect(idle.closes).toEqual([{ kind: 'keepalive', errno: 'ETIMEDOUT' }])
    expect(inFlight.closes).toEqual([{ kind: 'unacked', errno: 'ETIMEDOUT' }])
  })
})

/** Prints its port, greets all clients, reads everything until it is told to stop. */
const listensAndReads = `
  const server = require('node:net').createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (bytes) => {
      if (!bytes.toString().startsWith('stop')) return
      socket.pause()
      socket.write('stopped')
    })
    socket.write('hello')
  })
  server.listen(0, '0.0.0.0', () => console.log(server.address().port))`

/** Gives what the command complained of. */
function ip(words: string): string {
  const { error, stderr, status } = spawnSync('ip', words.split(' '), { encoding: 'utf8' })
  if (error !== undefined) return error.message
  return status === 0 ? '' : stderr || `ip ended with ${status}`
}
