/** SUSPEND: clients and servers are not read until its end; what was sent to them still leaves. */
import { Client } from './pool/client.ts'
import type { Context } from './pool/context.ts'
import type { Pools } from './pool/pools.ts'
import type { Server } from './pool/server.ts'

interface Suspendable {
  readonly context: Context
  readonly pools: Pools
}

/** False if already suspended. */
export function suspend({ context, pools }: Suspendable): boolean {
  if (context.suspended) return false
  context.suspended = true
  context.suspensions++
  context.operated()
  for (const client of context.clients) if (client instanceof Client) client.socket.suspendReading()
  for (const source of pools.sources()) {
    for (const server of source.servers()) if (server.loggedIn) server.socket.suspendReading()
  }
  return true
}

/** False if not suspended. */
export function unsuspend({ context, pools }: Suspendable): boolean {
  if (!context.suspended) return false
  context.suspended = false
  context.operated()
  for (const client of context.clients) client.socket.unsuspendReading()
  for (const source of pools.sources()) {
    for (const server of source.servers()) server.socket.unsuspendReading()
    source.grow()
  }
  pools.wakeHeldUp()
  return true
}

/** Interval of checks whether everything has left. */
const flushCheckMs = 10

/**
 * Calls `done` when everything sent has been taken, or the SUSPEND has ended; `holds` tells which. Peers that have not
 * taken it after `suspend_timeout` are closed.
 */
export function whenFlushed(engine: Suspendable, done: (holds: boolean) => void): void {
  const { context } = engine
  const { io, general, suspensions } = context
  const deadlineMs = io.nowMs() + general.suspendTimeoutMs
  const look = (): void => {
    if (!context.suspended || context.suspensions !== suspensions) {
      done(false)
      return
    }
    const slow = unflushed(engine)
    if (slow.length > 0 && io.nowMs() < deadlineMs) {
      io.after(flushCheckMs, look)
      return
    }
    for (const one of slow) {
      if (one instanceof Client) one.leave()
      else one.close('admin')
    }
    done(true)
  }
  // Bytes sent in this turn leave at its end, and are counted only then.
  io.after(flushCheckMs, look)
}

/** Clients and servers that have not taken everything sent to them. */
function unflushed({ context, pools }: Suspendable): (Client | Server)[] {
  const clients = [...context.clients].filter((client) => client instanceof Client)
  const servers = [...pools.sources()].flatMap((source) => [...source.servers()])
  return [...clients, ...servers].filter(({ socket }) => socket.queuedBytes > 0)
}
