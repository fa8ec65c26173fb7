import { createServer } from 'node:net'
import { Failure } from '../failure.ts'

/** @throws Failure that names the port and the option to change it. */
export async function checkFree(port: number, option: string): Promise<void> {
  const error = await errorOfListening(port)
  if (error === undefined) return
  const why = error.code === 'EADDRINUSE' ? 'is in use' : `is not available (${error.code})`
  throw new Failure(`port ${port} ${why}: stop the process that uses it, or choose another with ${option}`)
}

/** The first free port on 127.0.0.1, from `first` on. */
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
