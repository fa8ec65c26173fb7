import { closeSync, mkdirSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { runFolder } from './temp-folder.ts'

/** Below the kernel's ephemeral ports, so that no outgoing connection takes one. */
const lowest = 12_000
const highest = 31_000

/** A free port on 127.0.0.1 that is given to one caller of this run only. */
export async function freePort(): Promise<number> {
  return freePortRun(1)
}

/** The first of `count` consecutive ports, free and given to one caller of this run only. */
export async function freePortRun(count: number): Promise<number> {
  for (;;) {
    const first = lowest + Math.floor(Math.random() * (highest - lowest))
    const ports = Array.from({ length: count }, (_, i) => first + i)
    // Reserved before they are tried: two files must not find the same port free.
    if (ports.every(reserve) && (await Promise.all(ports.map(isFree))).every(Boolean)) return first
  }
}

/** One file per port in the run's directory; its creator has the port. Outside of a run there is no competitor. */
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
