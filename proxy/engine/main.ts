/** The engine's thread: wires the loop to epoll, to the agent, and to the other workers of the process. */
import assert from 'node:assert/strict'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { SharedCounters } from '../memory/shared-counters.ts'
import { EpollIo } from '../io/epoll.ts'
import { setV8Flags } from './v8.ts'
import { Console } from '../console/console.ts'
import { Engine } from './engine.ts'
import type { WorkersStart, EngineStart, FromEngine, ToEngine } from '../port.ts'
import type { Workers } from './workers/workers.ts'

const port = parentPort
assert(port !== null, 'the engine runs in a worker thread')
const start = workerData as EngineStart

setV8Flags()

const post = (message: FromEngine): void => {
  if (message.type === 'listening') port.postMessage({ ...message, fds: io.keepListeners() })
  else port.postMessage(message)
}

const io = new EpollIo({
  openFds: start.openFds,
  lasting: start.listen.fds ?? {},
  ioUring: start.process.ioUring,
  onExhausted: (errno) =>
    post({ type: 'log', level: 'error', message: 'could not accept client connections', fields: { errno } }),
})

if (io.ioUringRefused !== null) {
  const fields = { errno: io.ioUringRefused }
  post({ type: 'log', level: 'info', message: 'io_uring is not available: each send is a system call', fields })
}

/** The clock of the machine, shared by all threads, and the one that starts with this thread. */
const [seconds, nanoseconds] = process.hrtime()
const clockOffsetMs = seconds * 1000 + nanoseconds / 1e6 - performance.now()

function workersOf({ self, counters, wakeFds }: WorkersStart): Workers {
  const count = wakeFds.length
  return {
    self,
    count,
    counters: new SharedCounters(counters, count),
    clockOffsetMs,
    handOver(socket, to, bytes, placedLife) {
      const handed = io.hand(socket)
      if (handed === null) return false
      post({ type: 'hand', to, handed, bytes, placedLife })
      return true
    },
    wake: (to) => io.wake(wakeFds[to] as number), // one of the workers
  }
}

const { workers } = start
const engine = new Engine(
  io,
  {
    listen: start.listen,
    console: (operated) => new Console(operated),
    process: { ...start.process, clockOffsetMs },
    ...(workers === undefined ? {} : { workers: workersOf(workers) }),
  },
  post,
)

const receive = (): void => {
  engine.lookAround()
  for (;;) {
    const received: { readonly message: ToEngine } | undefined = receiveMessageOnPort(port)
    if (received === undefined) return
    const { message } = received
    if (message.type === 'handed')
      io.adopt(message.handed, message.bytes, (socket) => engine.adopt(socket, message.placedLife))
    else engine.receive(message)
  }
}
io.onWake(start.wakeFd, receive)
// Messages may have arrived before the wake handle was watched.
receive()
io.run(() => engine.ended)
io.runOut()
io.dispose()
port.close()
