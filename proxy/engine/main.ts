/** The engine's thread: wires the loop to epoll, to the agent, and to the other workers of the process. */
import assert from 'node:assert/strict'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { Board } from '../memory/shared-counters.ts'
import { EpollIo } from '../io/epoll.ts'
import { setV8Flags } from './v8.ts'
import { Engine } from './engine.ts'
import type { CrewStart, EngineStart, FromEngine, ToEngine } from '../port.ts'
import type { Crew } from './workers/workers.ts'

const port = parentPort
assert(port !== null, 'the engine runs in a worker thread')
const start = workerData as EngineStart

setV8Flags()

const post = (message: FromEngine): void => {
  if (message.type === 'listening') port.postMessage({ ...message, fds: io.listeners })
  else port.postMessage(message)
}

const io = new EpollIo({
  openFds: start.openFds,
  lasting: start.listen.fds ?? {},
  ioUring: start.process.ioUring,
  onExhausted: (errno) => post({ type: 'log', level: 'error', message: 'cannot accept clients', fields: { errno } }),
})

if (io.ioUringRefused !== null) {
  const fields = { errno: io.ioUringRefused }
  post({ type: 'log', level: 'info', message: 'no io_uring here: every send is a system call of its own', fields })
}

/** The clock of the machine, which all threads have, beside the one that begins with this thread. */
const [seconds, nanoseconds] = process.hrtime()
const clockOffsetMs = seconds * 1000 + nanoseconds / 1e6 - performance.now()

function crewOf({ worker, board, wakeFds }: CrewStart): Crew {
  const workers = wakeFds.length
  return {
    worker,
    workers,
    board: new Board(board, workers),
    clockOffsetMs,
    hand(socket, to, bytes, seat) {
      const handed = io.hand(socket)
      if (handed === null) return false
      post({ type: 'hand', to, handed, bytes, seat })
      return true
    },
    wake: (to) => io.wake(wakeFds[to] as number), // one of the workers
  }
}

const { crew } = start
const engine = new Engine(
  io,
  {
    listen: start.listen,
    process: { ...start.process, clockOffsetMs },
    ...(crew === undefined ? {} : { crew: crewOf(crew) }),
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
      io.adopt(message.handed, message.bytes, (socket) => engine.adopt(socket, message.seat))
    else engine.receive(message)
  }
}
io.onWake(start.wakeFd, receive)
// Orders may have come before the wake handle was watched.
receive()
io.run(() => engine.ended)
io.dispose()
port.close()
