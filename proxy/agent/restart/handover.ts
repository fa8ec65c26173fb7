/**
 * Online restart: a starting proxy takes over the listening sockets of the running one, over a Unix socket. Both then
 * accept from the same kernel queues, so no connection is refused or lost in between.
 *
 *   new: connects ──► old: gives up state directory, HTTP and polling, sends descriptors and addresses of the listeners
 *   new: serves clients, sends "ready" ──► old: stops accepting, and drains
 *
 * If the new process exits before it is ready, the old one takes everything back.
 */
import { chmodSync, rmSync } from 'node:fs'
import { createServer, Socket, type Server } from 'node:net'
import { setTimeout as after } from 'node:timers/promises'
import { z } from 'zod'
import { closeFd, connectUnix, receiveDescriptors, sendDescriptors, type Descriptors } from '../libc.ts'
import type { OpenListeners } from './listeners.ts'
import { privateFileMode } from '../atomic-file.ts'
import { reasonOf, type Log } from '../log.ts'

/** How long the new process waits for the old one to give up what only one of them can have. */
const answerMsMax = 20_000
/** Polling interval for the answer: a Node stream would drop the descriptors. */
const lookEveryMs = 10
/** How long the old process waits for the new one to serve clients. */
const readyMsMax = 60_000
const ready = 'ready\n'

/** What a running proxy handed over to a starting one. */
export interface Taken {
  readonly listeners: OpenListeners
  /** This process serves clients. */
  ready(): void
  /** This process will not serve clients: the other one continues at once. */
  giveUp(): void
  /** Called if the other process has taken everything back after a timeout. */
  onLost(lost: () => void): void
}

/** The descriptors come in this order: TCP, Unix. */
const addressSchema = z.object({
  host: z.string(),
  port: z.number(),
  unix: z.object({ dir: z.string(), file: z.string().nullable() }).nullable(),
})

/** Null if no process is running, or `signal` aborts. Rejects on failure. */
export async function takeOver(path: string, signal: AbortSignal): Promise<Taken | null> {
  const fd = connectUnix(path)
  if (fd === null) return null
  const received = await answerTo(fd, signal)
  if (received === null) {
    closeFd(fd)
    if (signal.aborted) return null
    throw new Error(`the process at ${path} did not hand over its listener`)
  }
  const { host, port, unix } = addressSchema.parse(JSON.parse(received.text))
  const [tcpFd, unixFd] = received.fds as [number, number?]
  const socket = new Socket({ fd })
  let isOver = false
  let lost: (() => void) | undefined
  socket.on('error', () => undefined)
  socket.on('close', () => {
    if (!isOver) lost?.()
  })
  socket.resume()
  return {
    listeners: { host, port, fd: tcpFd, unix: unix === null || unixFd === undefined ? null : { ...unix, fd: unixFd } },
    ready() {
      isOver = true
      socket.end(ready)
    },
    giveUp() {
      isOver = true
      socket.destroy()
    },
    onLost(call) {
      lost = call
    },
  }
}

/** Null if no answer comes. */
async function answerTo(fd: number, signal: AbortSignal): Promise<Descriptors | null> {
  const untilMs = performance.now() + answerMsMax
  while (!signal.aborted && performance.now() < untilMs) {
    const received = receiveDescriptors(fd)
    if (received !== undefined) return received
    await after(lookEveryMs)
  }
  return null
}

export interface HandoverOptions {
  readonly path: string
  readonly log: Log
  /** Gives up what only one process can have. Null if there is nothing to hand over yet. */
  readonly handOver: () => Promise<OpenListeners | null>
  /** The other process serves clients. */
  readonly done: () => void
  /** The other process has failed: take back what `handOver` gave up. */
  readonly takeBack: () => Promise<void>
}

/** Waits for a process that takes over. */
export class Handover {
  readonly #options: HandoverOptions
  #server: Server | undefined

  constructor(options: HandoverOptions) {
    this.#options = options
  }

  /** Rejects if the path cannot be used. */
  async listen(): Promise<void> {
    const { path } = this.#options
    // Left by a process that has exited: it did not answer.
    rmSync(path, { force: true })
    const server = createServer((socket) => void this.#asked(socket))
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    server.once('error', reject)
    // A peer that can connect gets the listener, so the socket is created without permissions for other users.
    const mask = process.umask(0o177)
    server.listen(path, resolve)
    process.umask(mask)
    await promise
    chmodSync(path, privateFileMode)
    this.#server = server
  }

  async close(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    const { promise, resolve } = Promise.withResolvers<void>()
    server.close(() => resolve())
    await promise
  }

  async #asked(socket: Socket): Promise<void> {
    const { log, handOver } = this.#options
    socket.on('error', () => undefined)
    // One successor at a time; the path belongs to it from now on. Closing waits for this connection to end.
    if (this.#server === undefined) {
      socket.destroy()
      return
    }
    void this.close()
    log('info', 'another process is taking over')
    const answer = this.#waitForReady(socket)
    try {
      const listeners = await handOver()
      if (listeners === null || !send(socket, listeners)) socket.destroy()
    } catch (error) {
      log('error', 'could not hand over the listener', { reason: reasonOf(error) })
      socket.destroy()
    }
    if (await answer) {
      log('info', 'the other process serves clients')
      this.#options.done()
      return
    }
    log('error', 'the other process did not take over; this one continues')
    await this.#options.takeBack()
    await this.listen()
  }

  async #waitForReady(socket: Socket): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    let said = ''
    const limit = setTimeout(() => socket.destroy(), readyMsMax)
    socket.setEncoding('utf8')
    socket.on('data', (text: string) => {
      said = (said + text).slice(0, ready.length)
      if (said === ready) resolve(true)
    })
    socket.on('close', () => resolve(false))
    const isReady = await promise
    clearTimeout(limit)
    socket.destroy()
    return isReady
  }
}

function send(socket: Socket, { host, port, fd, unix }: OpenListeners): boolean {
  const address: z.input<typeof addressSchema> = {
    host,
    port,
    unix: unix === null ? null : { dir: unix.dir, file: unix.file },
  }
  const fds = unix === null ? [fd] : [fd, unix.fd]
  // libuv exposes the descriptor of a stream here only.
  const { _handle: handle } = socket as unknown as { _handle: { readonly fd: number } | null }
  return handle !== null && sendDescriptors(handle.fd, JSON.stringify(address), fds)
}
