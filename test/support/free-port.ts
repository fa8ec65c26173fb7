import { createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'

const given = new Set<number>()

/** A port on 127.0.0.1 that was free a moment ago and was not given to anybody in this file. */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = await hold(0)
    const { port } = server.address() as AddressInfo
    await release(server)
    if (given.has(port)) continue
    given.add(port)
    return port
  }
}

/** The first of `count` ports in a row that are all free. */
export async function freePortRun(count: number): Promise<number> {
  for (;;) {
    const first = await freePort()
    const held = await Promise.allSettled(Array.from({ length: count - 1 }, (_, i) => hold(first + 1 + i)))
    for (const one of held) if (one.status === 'fulfilled') await release(one.value)
    if (held.every((one) => one.status === 'fulfilled')) return first
  }
}

function hold(port: number): Promise<Server> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => resolve(server))
  })
}

function release(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.close((error) => (error === undefined ? resolve() : reject(error)))
  })
}
