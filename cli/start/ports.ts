import { createServer } from 'node:net'
import { Failure } from '../failure.ts'

/** @throws Failure that names the port and the option that moves it. */
export async function checkFree(port: number, option: string): Promise<void> {
  const error = await errorOfListening(port)
  if (error === undefined) return
  const why = error.code === 'EADDRINUSE' ? 'is in use' : `cannot be listened on (${error.code})`
  throw new Failure(`port ${port} ${why}: stop what uses it, or give another with ${option}`)
}

/** The first port from `first` upwards that is free on 127.0.0.1. */
export async function firstFree(first: number): Promise<number> {
  for (let port = first; port < first + 1000; port++) {
    if ((await errorOfListening(port)) === undefined) return port
  }
  throw new Failure(`no port from ${first} to ${first + 999} is free`)
}

function errorOfListening(port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', resolve)
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(undefined)))
  })
}
