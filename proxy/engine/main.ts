/** The engine's thread: wires the loop to epoll and to the agent. */
import assert from 'node:assert/strict'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { EpollIo } from '../io/epoll.ts'
import { Engine } from './engine.ts'
import type { EngineStart, FromEngine, ToEngine } from './messages.ts'

const port = parentPort
assert(port !== null, 'the engine runs in a worker thread')
const start = workerData as EngineStart

const post = (message: FromEngine): void => port.postMessage(message)

const io = new EpollIo({
  openFds: start.openFds,
  onExhausted: (errno) => post({ type: 'log', level: 'error', message: 'cannot accept clients', fields: { errno } }),
})
const engine = new Engine(io, { listen: start.listen }, post)

const receive = (): void => {
  for (;;) {
    const received: { readonly message: ToEngine } | undefined = receiveMessageOnPort(port)
    if (received === undefined) return
    engine.receive(received.message)
  }
}
io.onWake(start.wakeFd, receive)
// Orders may have come before the wake handle was watched.
receive()
io.run(() => engine.ended)
io.dispose()
port.close()
