import { closeSync, mkdirSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { runFolder } from './temp-folder.ts'

/** Below the ports that the kernel gives to outgoing connections, so that none of those takes one meanwhile. */
const lowest = 12_000
const highest = 31_000

/** A port on 127.0.0.1 that is free and that nobody else in this run is given. */
export async function freePort(): Promise<number> {
  return freePortRun(1)
}

/** The first of `count` ports in a row, all free and given to nobody else in this run. */
export async function freePortRun(count: number): Promise<number> {
  for (;;) {
    const first = lowest + Math.floor(Math.random() * (highest - lowest))
    const ports = Array.from({ length: count }, (_, i) => first + i)
    // Reserved before they are tried: two files at once must not both find a port free.
    if (ports.every(reserve) && (await Promise.all(ports.map(isFree))).every(Boolean)) return first
  }
}

/** One file per port in the folder of the run; whoever makes it has the port. Outside of a run there is no other. */
function reserve(port: number): boolean {
  const run = runFolder()
  if (run === undefined) return true
  const folder = join(run, 'ports')
  mkdirSync(folder, { recursive: true })
  try {
    closeSync(openSync(join(folder, String(port)), 'wx'))
    return true
  } catch {
    return false
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
