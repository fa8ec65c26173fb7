import { createServer, connect } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { atEndOfFile } from './cleanup.ts'

/**
 * A TCP proxy that forwards every byte as a piece of its own, so that the reader sees each message in as many parts as
 * it has bytes. Stops at the end of the test file.
 */
export async function startChopper(target: {
  readonly host: string
  readonly port: number
}): Promise<{ host: string; port: number }> {
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ ...target, noDelay: true })
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
      void passOn(from, to)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEndOfFile(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}

async function passOn(from: Socket, to: Socket): Promise<void> {
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length; at++) {
        to.write(chunk.subarray(at, at + 1))
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    to.end()
  } catch {
    // The connection was reset; both ends get 'close'.
  }
}
