/** A whole engine on real sockets, and strangers who send it anything. What a handler throws would end the loop. */
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Console } from '../../proxy/console/console.ts'
import { Engine } from '../../proxy/engine/engine.ts'
import type { FleetSpec } from '../../proxy/spec.ts'
import type { EpollIo } from '../../proxy/io/epoll.ts'
import * as write from '../../proxy/protocol/write.ts'
import { generalSettings, poolSettings } from '../../shared/config/settings.ts'
import { loopback, newIo, noneLeftOpen, openFdCount, Recorder, tcpOptions, turnUntil } from '../proxy/io/world.ts'
import { message } from '../proxy/engine/auth/exchange.ts'
import { cuts, mutated, pieces } from './mutated.ts'

let io: EpollIo
let engine: Engine
let fdsBefore: number

/** A console without a password, and a pool whose server is nowhere. */
const spec: FleetSpec = {
  position: { epoch: 1, version: 1 },
  general: generalSettings({}),
  generalValues: {},
  consoleUsers: [{ user: 'admin', right: 'admin', clientSecret: null }],
  pools: [
    {
      database: 'app',
      user: 'app',
      hash: 'a',
      connectHash: 'a',
      serverDatabase: 'app',
      serverUser: 'app',
      settings: poolSettings({ auth_type: 'trust', query_wait_timeout: '100ms' }),
      hosts: [{ host: 'nowhere', port: 1, role: 'primary', addresses: ['127.0.0.1'] }],
      clientSecret: { md5: null, scram: null },
      serverPassword: null,
    },
  ],
}

beforeAll(() => {
  fdsBefore = openFdCount()
  io = newIo()
  engine = new Engine(io, { listen: loopback, console: (operated) => new Console(operated) }, () => {})
  engine.receive({ type: 'apply', id: 1, force: true, spec })
})

afterAll(async () => {
  io.dispose()
  await noneLeftOpen(fdsBefore)
})

/** Connects, sends the pieces one after the other, ends, and waits until the engine has let go. */
function talk(sent: readonly Uint8Array[]): void {
  const events = new Recorder()
  const socket = io.connect({ ...loopback, port: engine.port }, tcpOptions, events)
  turnUntil(io, () => events.connects === 1)
  for (const piece of sent) {
    socket.send(piece, 0, piece.length)
    io.turn(0)
    if (events.closes.length > 0) break
  }
  socket.end()
  turnUntil(io, () => engine.logins.size === 0 && engine.context.clients.size === 0)
}

const startups = fc.constantFrom(
  write.startup({ user: 'admin', database: 'pgbouncer' }),
  write.startup({ user: 'app', database: 'app', options: '-c search_path=a' }),
  write.startup({ user: 'ghost', database: 'app' }),
  write.cancelRequest(1, Buffer.alloc(4)),
  Buffer.from('0000000804d2162f', 'hex'),
)
const requests = fc.constantFrom(
  write.query('SHOW POOLS'),
  write.query('SHOW CONFIG; SHOW HELP'),
  message('P', '\0SELECT 1\0\0\0'),
  message('B', '\0\0\0\0\0\0\0\0'),
  message('D', 'P\0'),
  message('E', '\0\0\0\0\0'),
  message('S', ''),
  message('d', 'copy'),
  message('p', 'password\0'),
  Buffer.from('5100100000', 'hex'),
)
const sessions = fc
  .tuple(startups, fc.array(requests, { maxLength: 5 }))
  .map(([first, rest]) => Buffer.concat([first, ...rest]))

test('whatever strangers send, the engine goes on, forgets them, and still serves the next one', () => {
  fc.assert(
    fc.property(
      mutated(sessions).chain((bytes) => cuts(bytes.length).map((places) => pieces(bytes, places))),
      (sent) => {
        talk(sent)
      },
    ),
    { numRuns: 400 },
  )

  const events = new Recorder()
  const socket = io.connect({ ...loopback, port: engine.port }, tcpOptions, events)
  const asked = Buffer.concat([write.startup({ user: 'admin', database: 'pgbouncer' }), write.query('SHOW VERSION')])
  socket.send(asked, 0, asked.length)
  turnUntil(io, () => events.received.includes('PgBouncer'))
  socket.close()

  expect(events.received.toString('latin1')).toContain('SHOW')
})

test('an announced length costs nothing before it has arrived', () => {
  const lengths = ['00002710', '00002711', '7fffffff', 'ffffffff', '00000000'].map((hex) => Buffer.from(hex, 'hex'))
  globalThis.gc?.()
  const before = process.memoryUsage()

  for (let round = 0; round < 200; round++) for (const length of lengths) talk([length, Buffer.alloc(100)])

  const grown = process.memoryUsage().arrayBuffers - before.arrayBuffers
  expect(grown).toBeLessThan(8 * 1024 * 1024)
  expect(engine.logins.size).toBe(0)
})
